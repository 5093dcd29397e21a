"""Corners, rays and warps on a patient of blocks, whose projections are known."""

from __future__ import annotations

import math
from pathlib import Path

import drr_blocks as blocks
import numpy as np
import pytest

from workbench.data.drr import Pose, project
from workbench.data.drr.beam import Beam, cast
from workbench.data.drr.bend import bend, draw_tilts
from workbench.data.drr.film import Film
from workbench.data.drr.nifti import Volume, in_film_order
from workbench.data.drr.patient import Patient, build_patient, read_structures
from workbench.errors import IntegrityError, InvalidInputError

BEAMS = [Beam(), Beam(rotation=9, tilt=-7, distance=1200), Beam(rotation=-5, tilt=4, distance=math.inf)]
POSES = [Pose(), Pose(roll=4, rotation=5, from_behind=True), Pose(added=(4.0,) * 7 + (-4.0,) * 10)]
CLEAR = Film(photons=1e8, scatter=0, flattened=0, detailed=0, sharpened=0, blur=0.01)


@pytest.fixture(scope="module")
def patient() -> Patient:
    return blocks.patient()


def tilts_of(corners: np.ndarray) -> np.ndarray:
    middle = (corners[:, 1] + corners[:, 3] - corners[:, 0] - corners[:, 2]) / 2
    return np.asarray(np.degrees(np.arctan2(middle[:, 1], middle[:, 0])))


def test_corners_lie_on_the_boxes_edges(patient: Patient) -> None:
    """Within 0.46 mm, a pixel of a film; the corners' own frame follows the spine, which leans by 3°."""
    truth = blocks.edges()
    found = patient.corners[:14, :, :2]
    assert np.isnan(patient.corners[14:]).all()
    assert np.abs(found - (truth - truth.mean((0, 1)))).max() < 0.46
    assert np.abs(patient.corners[:14, :, 2]).max() < 0.46


def test_arches_do_not_count_and_tables_are_left_out() -> None:
    hounsfield, labels = blocks.arrays()
    hounsfield[:, 78] = 500
    volumes = [in_film_order(Volume(blocks.as_stored(a), blocks.affine())) for a in (hounsfield, labels)]
    found = build_patient(volumes[0], volumes[1], blocks.GROUPS)
    assert len(found.planes) == 30
    assert np.array_equal(found.corners, blocks.patient().corners, equal_nan=True)


def test_contrast_agent_is_taken_out_of_vessels() -> None:
    hounsfield, labels = blocks.arrays()
    hounsfield[120:126, 20:26], labels[120:126, 20:26] = 400, 21
    volumes = [in_film_order(Volume(blocks.as_stored(a), blocks.affine())) for a in (hounsfield, labels)]
    found = build_patient(volumes[0], volumes[1], blocks.GROUPS)
    assert found.planes[:, :, 122].max() == pytest.approx(0.02 * 1.06, rel=1e-3)


@pytest.mark.parametrize("beam", BEAMS)
def test_the_middle_plane_is_found_again(beam: Beam) -> None:
    points = np.random.default_rng(0).uniform(-150, 150, (50, 2))
    film = beam.project(np.pad(points, ((0, 0), (0, 1))))
    assert np.abs(beam.on_plane(film) - points).max() < 1e-9


def test_attenuation_is_summed_along_the_slanted_ray(patient: Patient) -> None:
    """Beside the boxes there are 60 mm of water, passed at an angle."""
    beam = Beam(rotation=10, distance=1000)
    film = np.array([[40.0, 20.0]])
    ray = np.array([40 / 1000, 20 / 1000, 1]) @ beam.turn
    expected = 0.02 * 60 * np.linalg.norm(ray) / ray[2]
    assert cast(patient, beam).at(beam.on_plane(film))[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("beam", [Beam(), Beam(distance=800), Beam(distance=math.inf), Beam(rotation=6)])
def test_edges_on_the_film_lie_where_corners_are_projected(patient: Patient, beam: Beam) -> None:
    """Corners lie at mid-depth, so a box's shadow is half as deep there."""
    shadow = cast(patient, beam)
    for corners in beam.project(patient.corners)[[0, 6, 13]]:
        row = corners[:, 1].mean()
        x = np.arange(corners[:, 0].min() - 8, corners[:, 0].max() + 8, 0.05)
        profile = shadow.at(beam.on_plane(np.stack([x, np.full_like(x, row)], -1)))
        inside = x[profile > (profile.max() + np.median(profile[:40])) / 2]
        assert inside[0] == pytest.approx(corners[[0, 2], 0].mean(), abs=0.46)
        assert inside[-1] == pytest.approx(corners[[1, 3], 0].mean(), abs=0.46)


def test_bending_keeps_lengths_and_turns_each_vertebra_by_its_angle(patient: Patient) -> None:
    corners = Beam().project(patient.corners)
    added = draw_tilts(np.random.default_rng(3))
    bent = bend(corners, added).corners
    wedge = 0.2  # degrees: mid-lines of a body that is wedged differ a little
    assert np.abs(tilts_of(bent[:14]) - tilts_of(corners[:14]) - added[:14]).max() < wedge
    links = [np.linalg.norm(np.diff(c[:14].mean(1), axis=0), axis=1) for c in (corners, bent)]
    assert np.allclose(*links)


def test_the_way_back_is_exact_at_the_corners(patient: Patient) -> None:
    corners = Beam().project(patient.corners)
    for seed in range(5):
        made = bend(corners, draw_tilts(np.random.default_rng(seed)))
        assert np.abs(made.back(made.corners[:14]) - corners[:14]).max() < 1e-8


def test_no_turn_is_no_warp(patient: Patient) -> None:
    corners = Beam().project(patient.corners)
    made = bend(corners, np.zeros(17))
    assert np.array_equal(made.corners, corners, equal_nan=True)
    assert made.back(corners) is corners


def test_drawn_tilts_are_curves_of_sensible_size() -> None:
    drawn = np.stack([draw_tilts(np.random.default_rng(seed)) for seed in range(200)])
    largest = np.ptp(drawn[:, :14], axis=1)
    assert 15 < np.median(largest) < 35
    assert largest.max() < 75
    assert np.abs(drawn[:, :14].mean(1)).max() < 1e-9
    assert np.abs(np.diff(drawn)).max() <= 9 + 1e-9


def test_a_film_cannot_be_folded(patient: Patient) -> None:
    with pytest.raises(InvalidInputError, match="fold"):
        project(Pose(added=(-60.0, 60.0) * 8 + (0.0,)), patient=patient)


@pytest.mark.parametrize("pose", POSES)
def test_corners_agree_with_the_film(patient: Patient, pose: Pose) -> None:
    """Inside the corners the boxes are bright, outside there is water, 5 pixels from the edge."""
    drr = project(pose, film=CLEAR, patient=patient)
    for corners in drr.corners[2:12]:
        centre = corners.mean(0)
        ends = [
            (corners[[0, 2]].mean(0), corners[[1, 3]].mean(0)),
            (corners[:2].mean(0), corners[2:].mean(0)),
        ]
        for start, stop in ends:
            along = (stop - start) / np.linalg.norm(stop - start)
            inside = [grey(drr.image, start + 5 * along), grey(drr.image, stop - 5 * along)]
            outside = [grey(drr.image, start - 5 * along), grey(drr.image, stop + 5 * along)]
            assert min(inside) > max(outside) + 0.3 * (grey(drr.image, centre) - max(outside))


def grey(image: np.ndarray, point: np.ndarray) -> float:
    x, y = np.rint(point).astype(int)
    return float(image[y, x])


def test_films_have_the_size_and_margins_asked_for(patient: Patient) -> None:
    drr = project(Pose(above=0.1, below=0.05, width=300, aside=0.1), patient=patient)
    shown = drr.corners[:14].reshape(-1, 2)
    height = np.ptp(shown[:, 1])
    assert drr.image.shape == (704, 300)
    assert shown[:, 1].min() == pytest.approx(0.1 * height)
    assert 703 - shown[:, 1].max() == pytest.approx(0.05 * height)
    assert (shown[:, 0].min() + shown[:, 0].max()) / 2 == pytest.approx(0.6 * 299)
    assert drr.spacing_mm == pytest.approx(276 / height, rel=0.01)


def test_seen_from_behind_is_flipped(patient: Patient) -> None:
    front, behind = project(patient=patient), project(Pose(from_behind=True), patient=patient)
    assert np.array_equal(front.image[:, ::-1], behind.image)
    shown = behind.corners[:14]
    assert (shown[:, 0, 0] < shown[:, 1, 0]).all()
    assert behind.curve == pytest.approx(front.curve)


def test_the_curve_is_the_largest_difference_of_tilts(patient: Patient) -> None:
    drr = project(Pose(added=(10.0,) * 3 + (5.0, 0.0, -5.0) + (-10.0,) * 11), patient=patient)
    assert drr.curve == pytest.approx(20, abs=0.5)
    assert drr.curve == pytest.approx(np.ptp(tilts_of(drr.corners[:14])))


@pytest.mark.parametrize(
    "changes",
    [
        {"rotation": 90},
        {"tilt": math.nan},
        {"distance": 100},
        {"added": (1.0,)},
        {"added": (math.inf,) * 17},
        {"above": -1},
        {"width": 4},
        {"aside": 2},
    ],
)
def test_impossible_poses_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(changes))):
        Pose(**changes)  # type: ignore[arg-type]


def test_labels_that_do_not_fit_are_refused() -> None:
    hounsfield, labels = (
        in_film_order(Volume(blocks.as_stored(a), blocks.affine())) for a in blocks.arrays()
    )
    with pytest.raises(IntegrityError, match="same grid"):
        build_patient(hounsfield, Volume(labels.array[1:], labels.affine), blocks.GROUPS)
    with pytest.raises(IntegrityError, match="whole numbers"):
        build_patient(hounsfield, Volume(labels.array + 0.5, labels.affine), blocks.GROUPS)
    without = np.where(labels.array == 4, 0, labels.array)
    with pytest.raises(IntegrityError, match="has no T4"):
        build_patient(hounsfield, Volume(without, labels.affine), blocks.GROUPS)
    hidden = labels.array.copy()
    hidden[blocks.FRONT, :, 70:75] = 20  # a cord in front of the bodies
    with pytest.raises(IntegrityError, match="no body"):
        build_patient(hounsfield, Volume(hidden, labels.affine), blocks.GROUPS)


def test_a_table_of_structures_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "structures.csv"
    path.write_text("group,structure\nvertebrae,vertebrae_T1\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match="not a table"):
        read_structures(path)
    path.write_text("group,structure,id\nvertebrae,vertebrae_T1,x\n", encoding="utf-8")
    with pytest.raises(IntegrityError, match="not a table"):
        read_structures(path)
