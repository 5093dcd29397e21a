"""Landmark arrays: what is accepted, flips that swap corners, and putting points in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.vertebrae import (
    CORNERS,
    LEVELS,
    centres_of,
    check_corners,
    flip_corners,
    reorder,
    visible,
)
from workbench.errors import InvalidInputError

SQUARE = np.array([[-20.0, -14], [20, -14], [-20, 14], [20, 14]])


def spine(tilts: np.ndarray) -> np.ndarray:
    """Vertebrae one below the other, each turned by its tilt in degrees."""
    angle = np.radians(tilts)
    turn = np.stack(
        [np.stack([np.cos(angle), np.sin(angle)], -1), np.stack([-np.sin(angle), np.cos(angle)], -1)], 1
    )
    return SQUARE @ turn + np.stack([np.full(17, 190.0), 50 + 38.0 * np.arange(17)], -1)[:, None]


tilts = st.lists(st.floats(-44, 44), min_size=17, max_size=17).map(np.array)


def test_names_run_from_t1_to_l5() -> None:
    assert (LEVELS[0], LEVELS[11], LEVELS[12], LEVELS[16], len(LEVELS)) == ("T1", "T12", "L1", "L5", 17)
    assert CORNERS == ("TL", "TR", "BL", "BR")


def test_corners_as_label_files_hold_them_are_reshaped() -> None:
    points = spine(np.zeros(17)).reshape(68, 2)
    corners = check_corners(points.astype(np.float32))
    assert corners.shape == (17, 4, 2)
    assert corners.dtype == np.float64
    np.testing.assert_array_equal(corners[3, 2], points[14])


@pytest.mark.parametrize("shape", [(17, 4), (16, 4, 2), (64, 2), (136,), (1, 17, 4, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"expected \(17, 4, 2\): T1 to L5"):
        check_corners(np.zeros(shape))


def test_a_vertebra_is_missing_as_a_whole_or_not_at_all() -> None:
    corners = spine(np.zeros(17))
    corners[[0, 16]] = np.nan
    assert visible(check_corners(corners)).tolist() == [False] + 15 * [True] + [False]
    with pytest.raises(InvalidInputError, match="T1, L5 are missing"):
        check_corners(corners, missing=False)
    corners[13, 2, 0] = np.nan
    with pytest.raises(InvalidInputError, match="a part of L2 is NaN"):
        check_corners(corners)
    with pytest.raises(InvalidInputError, match="some are infinite"):
        check_corners(np.full((17, 4, 2), np.inf))


@given(tilts, st.integers(1, 5000))
def test_two_flips_change_nothing(angles: np.ndarray, width: int) -> None:
    corners = spine(angles)
    np.testing.assert_allclose(flip_corners(flip_corners(corners, width), width), corners, rtol=0, atol=1e-9)


def test_a_flip_mirrors_and_swaps_left_and_right() -> None:
    corners = spine(np.linspace(-20, 20, 17))
    flipped = flip_corners(corners, 384)
    np.testing.assert_array_equal(flipped[:, 0], [383, 0] + corners[:, 1] * [-1, 1])
    np.testing.assert_array_equal(flipped[:, 2], [383, 0] + corners[:, 3] * [-1, 1])
    assert (flipped[:, [0, 2], 0] < flipped[:, [1, 3], 0]).all()
    np.testing.assert_allclose(centres_of(flipped), [383, 0] + centres_of(corners) * [-1, 1])


def test_a_flip_agrees_with_flipped_pixels() -> None:
    image = np.zeros((30, 21))
    image[4, 7] = 1
    corners = np.broadcast_to(np.array([7.0, 4.0]), (17, 4, 2))
    x, y = flip_corners(corners, 21)[0, 0]
    assert image[:, ::-1][int(y), int(x)] == 1


@given(tilts, st.integers(0, 10**6))
def test_points_shuffled_within_vertebrae_are_put_in_order(angles: np.ndarray, seed: int) -> None:
    corners = spine(angles)
    generator = np.random.default_rng(seed)
    shuffled = np.stack([generator.permutation(four) for four in corners])
    np.testing.assert_array_equal(reorder(shuffled), corners)
    np.testing.assert_array_equal(reorder(generator.permutation(shuffled)), corners)


def test_only_complete_spines_are_put_in_order() -> None:
    corners = spine(np.zeros(17))
    corners[4] = np.nan
    with pytest.raises(InvalidInputError, match="T5 are missing"):
        reorder(corners)
