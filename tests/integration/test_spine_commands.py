"""`workbench spine`, `train spine`, `benchmark spine` through their real entry points, on a cascade of a few steps."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from workbench.cli import app
from workbench.data.aasce import AasceSet, NewCase, write_aasce
from workbench.data.landmark_files import read_coco, read_labelme, read_pts
from workbench.data.phantom import phantom
from workbench.spine.cascade import SpineCascade
from workbench.spine.results import SpinePrediction
from workbench.spine.settings import CascadeSettings

TINY = (
    *("-p", "centre_stages=1", "-p", "corner_stages=1", "-p", "batch=2", "-p", "corner_batch=1"),
    *("-p", "calibration=0.2"),
)
CASCADE = "run/spine-tiny.safetensors"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def succeeded(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result


def error_of(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with ten phantoms in ``films`` and a cascade trained on them in ``run``."""
    folder = tmp_path_factory.mktemp("spine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WORKBENCH_DATA", str(folder / "cache"))
        succeeded("spine", "phantom", "-o", "films", "--count", "10")
        train = ("train", "spine", "--data", "films", "--name", "tiny", "--scale", "0.002", "-o", "run")
        succeeded(*train, *TINY)
        yield folder


@pytest.fixture(autouse=True)
def there(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("WORKBENCH_DATA", str(workplace / "cache"))


def film(index: int) -> str:
    return f"films/data/training/demo-clean-{index:04d}.jpg"


def test_phantoms_are_read_back_with_what_is_known_of_them() -> None:
    cases = AasceSet("films").phase("training")
    drawn = phantom(3, set_name="demo")
    assert len(cases) == 10
    np.testing.assert_allclose(cases[3].corners, drawn.corners, atol=1e-9)
    assert cases[3].angles is not None
    assert cases[3].angles[0] == pytest.approx(drawn.geometry.major_cobb, abs=0.01)
    facts = json.loads(Path("films/labels/training/facts.json").read_text())[cases[3].name]
    assert facts["tilts"] == drawn.geometry.tilts.tolist()
    assert (facts["kind"], facts["side"]) == (drawn.geometry.kind, drawn.geometry.side)
    assert facts["mm_per_pixel"] == drawn.mm_per_pixel


def test_phantoms_are_not_written_over_others() -> None:
    assert "is there already" in error_of("spine", "phantom", "-o", "films", "--count", "1")


def test_the_card_says_how_the_cascade_was_trained() -> None:
    card = json.loads(Path("run/spine-tiny.json").read_text())
    assert (card["kind"], card["name"], card["seed"]) == ("spine", "tiny", 0)
    assert "workbench train spine --data films --phase training" in card["command"]
    assert "--scale 0.002 -p centre_stages=1" in card["command"]
    assert card["settings"]["global_steps"] == round(0.002 * CascadeSettings().global_steps)
    assert card["metrics"]["held_out"] == 2
    assert len(card["metrics"]["nmse"]) == 3  # the start and two stages
    assert 0 < card["seconds"] < 600


def test_a_finished_run_is_not_trained_again() -> None:
    before = load_file(CASCADE)
    succeeded("train", "spine", "--data", "films", "--name", "tiny", "--scale", "0.002", "-o", "run", *TINY)
    after = load_file(CASCADE)
    assert all((before[name] == after[name]).all() for name in before)


def test_a_run_with_other_settings_does_not_take_the_state() -> None:
    message = error_of("train", "spine", "--data", "films", "-o", "run", "--scale", "0.01", *TINY)
    assert "belongs to another run" in message


def test_predict_writes_json_csv_and_a_picture() -> None:
    result = succeeded("spine", "predict", film(0), film(1), "-o", "found", "--cascade", CASCADE)
    assert result.stdout.count("esearch use, not for diagnosis") == 1
    names = {f"demo-clean-000{i}.{kind}" for i in (0, 1) for kind in ("json", "csv", "png")}
    assert {path.name for path in Path("found").iterdir()} == names | {"angles.csv"}
    prediction = SpinePrediction.load("found/demo-clean-0000.json")
    direct = SpineCascade.load(CASCADE).predict(AasceSet("films").phase("training")[0].read())
    np.testing.assert_allclose(prediction.corners, direct.corners, atol=1e-3)
    table = pd.read_csv("found/demo-clean-0000.csv")
    assert list(table["level"][[0, 16]]) == ["T1", "L5"]
    np.testing.assert_allclose(table["TR_x"], prediction.corners[:, 1, 0], atol=2e-3)
    angles = pd.read_csv("found/angles.csv").set_index("name").loc["demo-clean-0000"]
    assert angles["an1"] == pytest.approx(prediction.angles().an1, abs=0.05)
    assert angles["branch"] == prediction.angles().branch
    picture = Image.open("found/demo-clean-0000.png")
    assert (picture.mode, picture.height) == ("P", 704)
    assert Path("found/demo-clean-0000.png").stat().st_size < 300_000


def test_predict_takes_folders_and_leaves_pictures_out() -> None:
    options = ("-o", "all", "--cascade", CASCADE, "--no-overlay", "--no-flip")
    result = succeeded("spine", "predict", "films/data/training", *options)
    assert len(list(Path("all").glob("*.json"))) == 10
    assert not list(Path("all").glob("*.png"))
    assert "demo-clean-0009" in result.stdout


def test_predict_goes_on_after_bad_files_and_reports_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (300, 200, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    Image.fromarray(np.full((300, 200), 90, np.uint8)).save(tmp_path / "blank.png")
    (tmp_path / "text.png").write_text("not an image")
    bad = [str(tmp_path / f"{name}.png") for name in ("colour", "blank", "text")]
    result = run("spine", "predict", *bad, film(2), "-o", str(tmp_path / "out"), "--cascade", CASCADE)
    assert result.exit_code == 1
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"demo-clean-0002", "angles"}
    assert all(f"error: {path}: " in result.stderr for path in bad)
    assert "same value" in result.stderr
    assert "colour" in result.stderr


def test_predict_writes_nothing_where_every_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    error_of(
        "spine", "predict", str(tmp_path / "text.png"), "-o", str(tmp_path / "out"), "--cascade", CASCADE
    )
    assert not (tmp_path / "out").exists()


def test_predict_replaces_results_only_when_told(tmp_path: Path) -> None:
    options = ("-o", str(tmp_path), "--cascade", CASCADE, "--no-overlay")
    (tmp_path / "angles.csv").write_text("precious")
    assert "angles.csv exist already" in error_of("spine", "predict", film(0), *options)
    assert [path.name for path in tmp_path.iterdir()] == ["angles.csv"]
    succeeded("spine", "predict", film(0), *options, "--force")
    assert (tmp_path / "angles.csv").read_text().startswith("name,an1")


def test_an_unknown_cascade_is_named() -> None:
    assert "unknown spine 'fantom'" in error_of("spine", "predict", film(0), "-o", "x", "--cascade", "fantom")


def test_benchmark_measures_every_stage_and_says_what_with(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--data", "films", "--phase", "training", "--cascade", CASCADE, "-o", "measured.json")
    result = succeeded("benchmark", "spine", *options)
    report = json.loads(Path("measured.json").read_text())
    assert list(report["stages"]) == ["start", "centres 1", "corners 1"]
    assert report["images"] == len(report["by_image"]) == 10
    assert "official angles of the labelled landmarks" in result.stdout
    assert report["against_angles_csv"]["smape"] == pytest.approx(
        report["stages"]["corners 1"]["smape"], abs=0.1
    )
    assert f"{report['stages']['start']['nmse']:.2e}" in result.stdout

    assert "measured.json exists" in error_of("benchmark", "spine", *options)
    Path("measured.json").unlink()
    Path("measured-predictions/0004.json").unlink()
    made: list[object] = []
    predict = SpineCascade.predict

    def counted(self: SpineCascade, image: Any, **options: Any) -> SpinePrediction:
        made.append(image)
        return predict(self, image, **options)

    monkeypatch.setattr(SpineCascade, "predict", counted)
    succeeded("benchmark", "spine", *options)
    assert len(made) == 1
    assert json.loads(Path("measured.json").read_text()) == report

    Path("measured.json").unlink()
    assert "another cascade or other radiographs" in error_of("benchmark", "spine", *options, "--no-flip")


@pytest.fixture
def rolled(tmp_path: Path) -> Path:
    """Ten phantoms, one of them labelled with L5 first."""
    cases = AasceSet("films").phase("training")
    new = [
        NewCase(
            case.name,
            np.asarray(Image.open(case.image_path)),
            np.roll(case.corners, 1, axis=0) if case.row == 6 else case.corners,
            case.angles or (0.0, 0.0, 0.0),
        )
        for case in cases
    ]
    return write_aasce(tmp_path / "rolled", "training", new)


def test_doubtful_labels_are_reported_and_left_out_only_when_told(rolled: Path, tmp_path: Path) -> None:
    found = run("spine", "check", str(rolled))
    assert found.exit_code == 1
    assert "training: 10 images, 1 with problems" in found.stdout
    assert "rolled" in found.stdout
    train = ("train", "spine", "--data", str(rolled), "--scale", "0.001", "-o", str(tmp_path / "out"), *TINY)
    message = error_of(*train)
    assert "1 of 10 images of phase training have problems with their labels" in message
    assert "row 6, demo-clean-0006.jpg: rolled" in message
    assert not (tmp_path / "out").exists()
    result = succeeded(*train, "--skip-problems")
    assert "left out 1 of 10 images" in result.stderr
    card = json.loads((tmp_path / "out" / "spine-aasce.json").read_text())
    assert card["extra"]["trained_on"] == "9 radiographs of phase training in the AASCE layout"

    options = ("--data", str(rolled), "--phase", "training", "--cascade", CASCADE)
    counted = succeeded("benchmark", "spine", *options, "-o", str(tmp_path / "as-they-stand.json"))
    assert "1 of them have doubtful labels" in counted.stdout
    succeeded("benchmark", "spine", *options, "--skip-problems", "-o", str(tmp_path / "sound.json"))
    report = json.loads((tmp_path / "sound.json").read_text())
    assert (report["images"], report["doubtful_labels"], report["left_out"]) == (9, 0, 1)


def test_sound_labels_pass_the_check() -> None:
    assert succeeded("spine", "check", "films").stdout == "training: 10 images, 0 with problems\n"


@pytest.mark.parametrize(
    "arguments", [("spine", "check", "."), ("train", "spine", "--data", ".", "-o", "no")]
)
def test_a_folder_of_another_layout(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert "has no folder data or labels" in error_of(*arguments)
    assert not Path("no").exists()


def test_a_phase_that_is_not_there() -> None:
    options = ("--data", "films", "--cascade", CASCADE, "-o", "phase.json")
    assert "unknown phase of AASCE 'test'" in error_of("benchmark", "spine", *options)


def test_labels_travel_to_other_programs() -> None:
    truth = AasceSet("films").phase("training")[2]
    for to in ("labelme", "coco", "pts"):
        succeeded("spine", "export", "films", "--to", to, "-o", f"as-{to}")
    one = read_labelme("as-labelme/demo-clean-0002.json")
    np.testing.assert_array_equal(one.corners, truth.corners)
    assert (Path("as-labelme") / one.name).resolve() == truth.image_path.resolve()
    np.testing.assert_array_equal(read_coco("as-coco/keypoints.json")[2].corners, truth.corners)
    np.testing.assert_array_equal(read_pts("as-pts/demo-clean-0002.pts"), truth.corners)
    assert "is not empty" in error_of("spine", "export", "films", "--to", "coco", "-o", "as-coco")
    assert "did you mean 'labelme'?" in error_of("spine", "export", "films", "--to", "lableme", "-o", "new")


#: The state is saved, and a row written, after every step, so that a signal falls within a stage.
EAGER = (
    "import workbench.spine.fitting as f; f._SAVE_SECONDS = 0; f._LOG_STEPS = 1\n"
    "from workbench.cli import app; app()"
)


def start(folder: str) -> subprocess.Popen[str]:
    steps = ("-p", "global_steps=6", "-p", "crop_steps=6")
    return subprocess.Popen(
        [sys.executable, "-c", EAGER, "train", "spine", "--data", "films", "-o", folder, *steps, *TINY],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background inherits a deaf ear for interrupts; this one must hear them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def rows(folder: str) -> list[dict[str, str]]:
    log = Path(folder) / "training.csv"
    if not log.exists():
        return []
    with log.open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def stop(process: subprocess.Popen[str], how: signal.Signals, folder: str, count: int) -> tuple[int, str]:
    """Send a signal once the log has `count` rows; returns the exit status and what was printed."""
    deadline = time.monotonic() + 120
    while len(rows(folder)) < count:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.slow
def test_an_interrupted_and_killed_training_ends_as_if_nothing_had_happened() -> None:
    uninterrupted = start("whole")
    status, errors = stop(start("stopped"), signal.SIGINT, "stopped", 3)
    assert (status, "Traceback" in errors) == (130, False)
    kept = {path.name for path in Path("stopped").iterdir() if path.suffix != ".part"}  # a kill may leave one
    assert kept == {"state.pt", "training.csv"}
    assert stop(start("stopped"), signal.SIGKILL, "stopped", 9)[0] == -signal.SIGKILL
    assert not list(Path("stopped").glob("*.safetensors"))
    assert start("stopped").wait(timeout=120) == 0
    assert uninterrupted.wait(timeout=120) == 0
    assert rows("stopped") == rows("whole")
    assert len(rows("whole")) == 12
    mine, wanted = (Path(folder, "spine-aasce.safetensors").read_bytes() for folder in ("stopped", "whole"))
    assert mine == wanted


@pytest.mark.slow
def test_training_and_measuring_on_phantoms_that_are_drawn_when_needed() -> None:
    succeeded("train", "spine", "--count", "8", "--scale", "0.001", "-o", "default", *TINY)
    card = json.loads(Path("default/spine-phantom.json").read_text())
    assert card["command"].startswith("workbench train spine --count 8 --level mixed --constrain shape")
    options = ("--cascade", "default/spine-phantom.safetensors", "--count", "2", "--level", "hard")
    result = succeeded("benchmark", "spine", *options, "-o", "hard.json")
    assert "2 hard phantoms of the set test: 2 images" in result.stdout
    report = json.loads(Path("hard.json").read_text())
    assert [row["name"] for row in report["by_image"]] == ["test-hard-0000", "test-hard-0001"]
    assert report["against_angles_csv"] is None
