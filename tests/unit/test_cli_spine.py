"""Spine commands without a cascade: what they refuse before anything is computed, and what they draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from workbench.cli import app
from workbench.cli._spine_angles import angle_table, angles_of, write_angles
from workbench.cli._spine_benchmark import plain
from workbench.cli._spine_files import plan, stem_of
from workbench.cli._spine_labels import sound_rows
from workbench.cli._spine_overlay import LONGEST, overlay
from workbench.data.aasce import AasceProblem
from workbench.data.phantom import Phantom, phantom
from workbench.data.radiographs import from_array
from workbench.errors import InvalidInputError, MissingDataError
from workbench.spine.results import prediction_of


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command in an empty folder with an empty cache."""
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(arguments))


def error_of(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *[("spine",), ("spine", "predict"), ("spine", "phantom"), ("spine", "check"), ("spine", "export")],
        *[("train", "spine"), ("benchmark",), ("benchmark", "spine")],
    ],
)
def test_every_command_has_help(command: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    result = command(*arguments, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--constrain", "shpae"), "did you mean 'shape'?"),
        (("--points", "edges"), "unknown points 'edges'"),
        (("-p", "centre_stage=2"), "did you mean 'centre_stages'?"),
        (("-p", "batch=many"), "batch is 'many'; expected a whole number"),
        (("-p", "learning_rate=fast"), "learning_rate is 'fast'; expected a number"),
        (("-p", "neighbours=yes"), "neighbours is 'yes'; expected true or false"),
        (("-p", "batch=0"), "batch is 0; it must be at least 1"),
        (("--scale", "0"), "--scale is 0.0; expected a factor above 0"),
        (("--name", "a/b"), "'a/b' cannot be the name of a cascade"),
        (("--level", "medium"), "unknown level 'medium'"),
        (("--data", "nowhere"), "nowhere has no folder data or labels"),
    ],
)
def test_training_refuses_what_it_cannot_use(
    command: Callable[..., Result], tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in error_of(command("train", "spine", *options)).replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_phantoms_of_an_unknown_level_leave_nothing(command: Callable[..., Result], tmp_path: Path) -> None:
    assert "unknown level 'hrad'" in error_of(command("spine", "phantom", "-o", "x", "--level", "hrad"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sunhl-1th-02-Jan-2017-162 A AP.jpg", "sunhl-1th-02-Jan-2017-162 A AP"),
        ("1.2.840.10008", "1.2.840.10008"),
        ("1.2.840.10008.DCM", "1.2.840.10008"),
        ("spine", "spine"),
    ],
)
def test_names_of_outputs(name: str, stem: str) -> None:
    assert stem_of(Path("films", name)) == stem


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("b.png", "a.jpg", "notes.txt"):
        (folder / name).touch()
    return folder


def test_a_folder_stands_for_the_images_in_it_once(films: Path, tmp_path: Path) -> None:
    jobs = plan([films / "b.png", films], tmp_path / "out", overlay=True, force=False)
    assert [job.name for job in jobs] == ["b", "a"]
    assert sorted(jobs[0].outputs) == ["csv", "json", "png"]
    assert jobs[0].outputs["json"] == tmp_path / "out" / "b.json"


def test_two_inputs_of_one_name(films: Path, tmp_path: Path) -> None:
    (films / "A.tif").touch()
    with pytest.raises(InvalidInputError, match=r"A\.tif and .*a\.jpg would both be written as a\.json"):
        plan([films], tmp_path / "out", overlay=False, force=True)


def test_an_image_may_not_be_called_as_the_table(films: Path, tmp_path: Path) -> None:
    (films / "Angles.png").touch()
    with pytest.raises(InvalidInputError, match=r"over angles\.csv"):
        plan([films], tmp_path / "out", overlay=False, force=True)


def test_an_input_is_never_replaced(films: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"b\.png is one of the inputs"):
        plan([films], films, overlay=True, force=True)
    assert len(plan([films], films, overlay=False, force=True)) == 2


def test_outputs_that_are_there_are_refused(films: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(InvalidInputError, match=r"a\.csv exist"):
        plan([films], tmp_path, overlay=True, force=False)
    assert len(plan([films], tmp_path, overlay=True, force=True)) == 2


def test_inputs_that_are_not_there(films: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="there is no file"):
        plan([films / "c.png"], tmp_path / "out", overlay=True, force=False)
    (films / "empty").mkdir()
    with pytest.raises(MissingDataError, match="holds no radiograph"):
        plan([films / "empty"], tmp_path / "out", overlay=True, force=False)


class Phase:
    """Stands for a phase of AASCE in which the first labels are wrong."""

    name = "training"

    def __init__(self, images: int, wrong: int) -> None:
        self.images, self.wrong = images, wrong

    def __len__(self) -> int:
        return self.images

    def problems(self) -> tuple[AasceProblem, ...]:
        bad = (AasceProblem(row, f"{row}.jpg", "rolled", "L5 first") for row in range(self.wrong))
        return (*bad, AasceProblem(None, "more.jpg", "left over", "not named"))


def test_the_first_problems_are_listed_and_the_rest_counted() -> None:
    phase: Any = Phase(15, wrong=14)
    with pytest.raises(InvalidInputError) as caught:
        sound_rows(phase, skip_problems=False)
    message = str(caught.value)
    assert message.startswith("14 of 15 images of phase training")
    assert "row 9, 9.jpg: rolled: L5 first" in message
    assert "row 10," not in message
    assert "and 4 more" in message
    assert sound_rows(phase, skip_problems=True) == [14]


def test_a_phase_without_a_sound_label() -> None:
    phase: Any = Phase(1, wrong=1)
    with pytest.raises(InvalidInputError, match="none is left"):
        sound_rows(phase, skip_problems=True)


@pytest.fixture(scope="module")
def drawn() -> Phantom:
    return phantom(0, set_name="tests", level="hard")


def test_the_picture_shows_the_outlines_where_they_are(drawn: Phantom) -> None:
    size = (drawn.image.shape[0], drawn.image.shape[1])
    picture = overlay(from_array(drawn.image), prediction_of(drawn.corners, size, "truth"))
    assert picture.size == (size[1], 704)
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = pixels[..., 2] - pixels[..., 0]
    for x, y in drawn.corners[[2, 8, 16]].reshape(-1, 2).round().astype(int):
        assert blue[y - 2 : y + 3, x - 2 : x + 3].max() > 60


@pytest.mark.parametrize(
    ("size", "expected"), [((3000, 1200), LONGEST), ((352, 192), 700), ((5000, 2000), LONGEST)]
)
def test_pictures_are_neither_tiny_nor_huge(drawn: Phantom, size: tuple[int, int], expected: int) -> None:
    from PIL import Image

    image = np.asarray(Image.fromarray(drawn.image).resize(size[::-1]))
    scale = np.array([size[1] / drawn.image.shape[1], size[0] / 704])
    corners = (drawn.corners + 0.5) * scale - 0.5
    picture = overlay(from_array(image), prediction_of(corners, size, "truth"))
    assert picture.height == expected


def test_vertebrae_outside_the_image_are_not_drawn(drawn: Phantom) -> None:
    cut = drawn.image[:400]
    size = (400, cut.shape[1])
    assert overlay(from_array(cut), prediction_of(drawn.corners, size, "truth")).height == 700


def test_a_spine_without_angles_is_written_all_the_same(drawn: Phantom, tmp_path: Path) -> None:
    """Two vertebrae in the image have no angles: empty in the table, a dash on the screen, said in the picture."""
    cut = drawn.image[: int(drawn.corners[1, :, 1].max()) + 2]
    prediction = prediction_of(drawn.corners, (cut.shape[0], cut.shape[1]), "truth")
    assert prediction.visible.sum() == 2
    assert angles_of(prediction) is None
    path = write_angles(tmp_path / "angles.csv", {"cut": prediction})
    assert path.read_text().splitlines() == ["name,an1,an2,an3,branch,flags", "cut,,,,,outside"]
    assert list(angle_table({"cut": prediction}).columns[1].cells) == ["–"]
    assert overlay(from_array(cut), prediction).width <= LONGEST


def test_values_become_what_json_can_hold() -> None:
    given = {"a": np.float64(1.5), 2: (float("nan"), np.bool_(True)), "c": [np.int64(3), None, "x"]}
    assert plain(given) == {"a": 1.5, "2": [None, True], "c": [3, None, "x"]}
