"""Predictions: what they imply, which vertebrae are in the image, and files that give them back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_cascade import drawn_spines

from workbench.data.phantom import Phantom
from workbench.errors import InvalidInputError
from workbench.spine.angles import official_angles, visible_angles
from workbench.spine.cascade import SpineCascade
from workbench.spine.clinical import clinical_angles
from workbench.spine.results import SpinePrediction, prediction_of

CORNERS = drawn_spines(1, seed=2)[0]
SIZE = (704, 384)


@pytest.fixture(scope="module")
def staged(cascade: SpineCascade, phantoms: list[Phantom]) -> SpinePrediction:
    return cascade.predict(phantoms[0].image)


def test_a_prediction_is_that_of_its_last_stage(staged: SpinePrediction) -> None:
    np.testing.assert_array_equal(staged.corners, staged.stages[-1].corners)
    np.testing.assert_allclose(staged.centres, staged.corners.mean(1))


def test_angles_are_those_of_the_corners() -> None:
    prediction = prediction_of(CORNERS, SIZE, "toy")
    assert prediction.visible.all()
    assert prediction.angles() == official_angles(CORNERS, 704)
    assert prediction.angles("yi") == official_angles(CORNERS, 704, "yi")
    assert prediction.clinical() == clinical_angles(CORNERS)
    assert prediction.flags == ()
    np.testing.assert_array_equal(prediction.visible_corners, CORNERS)


def test_a_cut_film_shows_fewer_vertebrae() -> None:
    height = round(CORNERS[14].mean(0)[1] - 2)
    prediction = prediction_of(CORNERS, (height, 384), "toy")
    assert prediction.visible.tolist() == 14 * [True] + 3 * [False]
    assert np.isnan(prediction.visible_corners[14:]).all()
    assert prediction.angles() == visible_angles(prediction.visible_corners, height)
    assert prediction.angles().variant == "visible"
    assert prediction.clinical() == clinical_angles(prediction.visible_corners)
    assert "outside" in [flag.name for flag in prediction.flags]


@pytest.mark.parametrize(
    ("centre", "inside"),
    [((0, 0), True), ((-0.6, 300), False), ((383.4, 703.4), True), ((383.6, 9), False), ((9, 703.6), False)],
)
def test_a_vertebra_is_in_the_image_where_its_centre_is(centre: tuple[float, float], inside: bool) -> None:
    corners = CORNERS.copy()
    corners[8] += np.array(centre) - corners[8].mean(0)
    assert prediction_of(corners, SIZE, "toy").visible[8] == inside


def test_a_table_of_vertebrae() -> None:
    table = prediction_of(CORNERS, SIZE, "toy").to_frame()
    assert table["level"].tolist()[:2] == ["T1", "T2"]
    assert len(table) == 17
    assert table["x"][3] == pytest.approx(CORNERS[3].mean(0)[0])
    assert table["BR_y"][16] == CORNERS[16, 3, 1]
    assert list(table.columns)[3:] == [
        f"{corner}_{axis}" for corner in ("TL", "TR", "BL", "BR") for axis in "xy"
    ]


def test_files_give_predictions_back(staged: SpinePrediction, tmp_path: Path) -> None:
    path = staged.save(tmp_path / "deep" / "spine.json")
    again = SpinePrediction.load(path)
    assert again.size == staged.size
    assert again.model == "tiny"
    assert again.spacing_mm is None
    assert again.flags == staged.flags
    for found, kept in zip(again.stages, staged.stages, strict=True):
        assert (found.name, found.step, found.clamped) == (kept.name, kept.step, kept.clamped)
        np.testing.assert_allclose(found.corners, kept.corners, atol=6e-4)
        np.testing.assert_allclose(found.centres, kept.centres, atol=6e-4)
        assert kept.coefficients is not None
        np.testing.assert_allclose(found.coefficients, kept.coefficients)


def test_spacing_and_flags_are_kept(tmp_path: Path) -> None:
    corners = CORNERS.copy()
    corners[7] = corners[7, [1, 0, 3, 2]]
    prediction = prediction_of(corners, SIZE, "toy", (0.7, 0.65))
    again = SpinePrediction.load(prediction.save(tmp_path / "spine.json"))
    assert again.spacing_mm == (0.7, 0.65)
    assert again.flags == prediction.flags
    assert again.flags
    assert again.stages[0].coefficients is None


def test_the_file_says_the_angles(tmp_path: Path) -> None:
    path = prediction_of(CORNERS, SIZE, "toy").save(tmp_path / "spine.json")
    angles = official_angles(CORNERS, 704)
    expected = {"an1": angles.an1, "an2": angles.an2, "an3": angles.an3, "branch": angles.branch}
    assert json.loads(path.read_text(encoding="utf-8"))["angles"] == expected


def test_a_prediction_far_outside_the_image_is_saved_without_angles(tmp_path: Path) -> None:
    prediction = prediction_of(CORNERS + 1000, SIZE, "toy")
    assert not prediction.visible.any()
    with pytest.raises(InvalidInputError, match="at most 0 neighbouring vertebrae are visible"):
        prediction.angles()
    path = prediction.save(tmp_path / "spine.json")
    assert json.loads(path.read_text(encoding="utf-8"))["angles"] is None
    np.testing.assert_allclose(SpinePrediction.load(path).corners, CORNERS + 1000, atol=6e-4)


def test_missing_vertebrae_are_no_prediction() -> None:
    corners = CORNERS.copy()
    corners[3] = np.nan
    with pytest.raises(InvalidInputError, match="T4 are missing"):
        prediction_of(corners, SIZE, "toy")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"there is no prediction .*none.json"):
        SpinePrediction.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a saved spine prediction"),
        ("[1, 2]", "is not a saved spine prediction"),
        ("{}", "format is None, expected 'workbench-spine-prediction-1'"),
        ('{"format": "workbench-spine-prediction-1"}', "is not a saved spine prediction: 'stages'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "spine.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        SpinePrediction.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"size": None},
        {"size": [704]},
        {"stages": [{"name": "start"}]},
        {"stages": []},
        {"flags": [{"name": "x"}]},
        {"spacing_mm": 3},
    ],
)
def test_spoilt_files_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = prediction_of(CORNERS, SIZE, "toy").save(tmp_path / "spine.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is not a saved spine prediction"):
        SpinePrediction.load(path)


def test_stages_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = prediction_of(CORNERS, SIZE, "toy").save(tmp_path / "spine.json")
    saved = json.loads(path.read_text())
    saved["stages"][0]["corners"] = saved["stages"][0]["corners"][:5]
    path.write_text(json.dumps(saved), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"expected \(17, 4, 2\)"):
        SpinePrediction.load(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is not a saved spine prediction"):
        SpinePrediction.load(tmp_path)
