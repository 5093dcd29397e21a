"""The label validator: it names every fault that AASCE labels have, and lets drawn spines pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.data.landmark_checks import LabelProblem, check_labels
from workbench.data.phantom.geometry import draw_geometry
from workbench.data.vertebrae import LEVELS
from workbench.errors import InvalidInputError

PIXELS_PER_MM = 1.5
MARGIN = 20

Fault = Callable[[np.ndarray, int], object]


def in_image(corners: np.ndarray, margin: float = MARGIN) -> tuple[np.ndarray, tuple[int, int]]:
    """Corners in mm as pixels of an image that is just large enough, and its size."""
    pixels = corners * PIXELS_PER_MM
    pixels = pixels - pixels.reshape(-1, 2).min(0) + margin
    width, height = pixels.reshape(-1, 2).max(0) + margin
    return pixels, (int(height), int(width))


def spines(seed: int, count: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [draw_geometry(random).corners for _ in range(count)]


def kinds(problems: tuple[LabelProblem, ...]) -> set[str]:
    return {problem.kind for problem in problems}


@pytest.fixture
def corners() -> np.ndarray:
    """A straight column of 17 equal vertebrae, 36 × 20 pixels, in an image of 560 × 200."""
    box = np.array([[-18, -10], [18, -10], [-18, 10], [18, 10]])
    centres = np.stack([np.full(17, 100), 60 + 26 * np.arange(17)], axis=1)
    return (centres[:, None] + box).astype(float)


SIZE = (560, 200)


def test_clean_spines_pass(corners: np.ndarray) -> None:
    assert check_labels(corners, SIZE) == ()
    assert check_labels(corners.reshape(68, 2), SIZE) == ()
    flagged = [i for i, drawn in enumerate(spines(0, 1000)) if check_labels(*in_image(drawn))]
    assert flagged == []


def roll(corners: np.ndarray, k: int) -> None:
    corners[:] = np.roll(corners.reshape(68, 2), 4, axis=0).reshape(17, 4, 2)


def swap_endplates(corners: np.ndarray, k: int) -> None:
    corners[k] = corners[k][[2, 3, 0, 1]]


def swap_sides(corners: np.ndarray, k: int) -> None:
    corners[k] = corners[k][[1, 0, 3, 2]]


def double_endplate(corners: np.ndarray, k: int) -> None:
    corners[k, 2:] = corners[k, :2]


def double_neighbours_endplate(corners: np.ndarray, k: int) -> None:
    k = min(k, 15)
    corners[k + 1, :2] = corners[k, 2:]


def misplace_a_point(corners: np.ndarray, k: int) -> None:
    direction = np.array([np.cos(k), np.sin(k)])
    corners[k, k % 4] += 0.8 * np.linalg.norm(corners[k, 1] - corners[k, 0]) * direction


def skip_a_level(corners: np.ndarray, k: int) -> None:
    k = int(np.clip(k, 1, 15))
    beyond = 2 * corners[16] - corners[15]
    corners[k:16] = corners[k + 1 :].copy()
    corners[16] = beyond


def label_a_level_twice(corners: np.ndarray, k: int) -> None:
    k = min(k, 15)
    corners[k + 1 :] = corners[k:16].copy()


def exchange_levels(corners: np.ndarray, k: int) -> None:
    k = min(k, 15)
    corners[[k, k + 1]] = corners[[k + 1, k]]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (roll, "rolled"),
        (swap_endplates, "swapped endplates"),
        (swap_sides, "swapped sides"),
        (double_endplate, "duplicated endplate"),
        (double_neighbours_endplate, "duplicated endplate"),
        (misplace_a_point, "wild point"),
        (skip_a_level, "level shift"),
        (label_a_level_twice, "level shift"),
        (exchange_levels, "order"),
    ],
)
def test_every_fault_is_named_at_every_level(fault: Fault, kind: str) -> None:
    missed = []
    for i, drawn in enumerate(spines(1, 102)):
        pixels, (height, width) = in_image(drawn, margin=60)
        fault(pixels, i % 17)
        if kind not in kinds(check_labels(pixels, (height + 100, width + 100))):
            missed.append(i)
    assert missed == []


@pytest.mark.parametrize("fault", [roll, swap_endplates, swap_sides, double_endplate])
def test_one_fault_is_one_problem(fault: Fault) -> None:
    for i, drawn in enumerate(spines(2, 34)):
        pixels, size = in_image(drawn)
        fault(pixels, i % 17)
        (problem,) = check_labels(pixels, size)
        assert problem.level in (LEVELS[i % 17], None)


def test_labels_are_not_changed(corners: np.ndarray) -> None:
    swap_sides(corners, 3)
    before = corners.copy()
    check_labels(corners, SIZE)
    assert np.array_equal(corners, before)


def test_the_words(corners: np.ndarray) -> None:
    swapped = corners.copy()
    swap_sides(swapped, 11)
    assert check_labels(swapped, SIZE) == (
        LabelProblem("T12", "swapped sides", "the left side of T12 lies to the right of its right one"),
    )
    (rolled,) = check_labels(np.roll(corners, 1, axis=0), SIZE)
    assert "the uppermost is stored as T2" in rolled.text
    assert "L5 stored first?" in rolled.text


def test_one_side_upside_down_is_not_convex(corners: np.ndarray) -> None:
    corners[5] = corners[5][[2, 1, 0, 3]]
    assert "not convex" in kinds(check_labels(corners, SIZE))


def test_heights(corners: np.ndarray) -> None:
    corners[3, :2, 1] += 12
    (problem,) = check_labels(corners, SIZE)
    assert (problem.level, problem.kind) == ("T4", "height")
    assert "0.40 times as high as the others" in problem.text


def test_overlap_names_the_side(corners: np.ndarray) -> None:
    corners[8, 2:, 1] += (13, 10)
    assert "T9 and T10 overlap on the left" in {problem.text for problem in check_labels(corners, SIZE)}


def test_points_outside_the_image(corners: np.ndarray) -> None:
    (problem,) = check_labels(corners, (480, 200))
    assert problem.text == "BL, BR of L5 lie outside the image of 480 x 200 pixels (height x width)"


@pytest.mark.parametrize("stretch", [(0.5, 1.0), (1.0, 0.6)])
def test_a_squeezed_image_is_told(corners: np.ndarray, stretch: tuple[float, float]) -> None:
    assert kinds(check_labels(corners * stretch, SIZE)) == {"stretched"}


def test_missing_vertebrae_are_reported_and_the_rest_is_checked(corners: np.ndarray) -> None:
    corners[[0, 9, 16]] = np.nan
    (problem,) = check_labels(corners, SIZE)
    assert (problem.level, problem.kind) == (None, "missing")
    assert problem.text == "3 of 17 vertebrae are missing: T1, T10, L5"
    swap_endplates(corners, 4)
    assert kinds(check_labels(corners, SIZE)) == {"missing", "swapped endplates"}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_vertebra(corners: np.ndarray, count: int) -> None:
    corners[count:] = np.nan
    assert kinds(check_labels(corners, SIZE)) == {"missing"}


def test_all_points_in_one_place() -> None:
    assert {"level shift"} <= kinds(check_labels(np.full((17, 4, 2), 50.0), SIZE))


def test_what_is_no_label_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match=r"corners have shape \(4, 2\)"):
        check_labels(np.zeros((4, 2)), SIZE)
