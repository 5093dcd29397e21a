"""The official angles: the specification's test vectors, exact spines, and what may and may not change them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workbench.data.phantom.geometry import build, draw_geometry
from workbench.data.vertebrae import flip_corners
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.spine.angles import angle_matrix, longest_run, official_angles, tilts_of, visible_angles

K = np.arange(17)
SINE = 20 * np.sin(2 * np.pi * K / 16)
LATE = np.where(K < 6, 0.0, 25 * np.sin(2 * np.pi * (K - 6) / 10))

seeds = st.integers(0, 2**32)


def rectangles(tilts: np.ndarray, down: float = 0.0) -> np.ndarray:
    """Rectangular vertebrae, height 20, width 36, disc 6, T1's centre at (200, 60 + down)."""
    return build(tilts, 0.0, 36, 36, 20, 6).corners + np.array([200, 60 + down])


def spine(seed: int) -> np.ndarray:
    """A drawn spine as it would lie in a 704 x 384 image."""
    return draw_geometry(np.random.default_rng(seed)).corners * 1.45 + np.array([190, 45])


@pytest.mark.parametrize(
    ("tilts", "height", "down", "angles", "branch", "p", "q"),
    [
        (0.0 * K, 560, 0, (0, 0, 0), "S", 1, 1),
        (SINE, 560, 0, (40, 20, 20), "S-upper", 5, 13),
        (SINE, 900, 0, (40, 20, 20), "S-upper", 5, 13),
        (SINE, 300, 0, (40, 20, 0), "S-lower", 5, 13),
        (SINE, 560, 100, (40, 20, 0), "S-lower", 5, 13),
        (18 * np.sin(3 * np.pi * K / 16), 560, 0, (35.6541, 17.6541, 35.6541), "S-upper", 4, 9),
        (15 - 29 * K / 16, 560, 0, (29, 0, 0), "C", 1, 17),
        (np.interp(K, [0, 3, 13, 16], [3, 12, -13, -4]), 560, 0, (25, 9, 9), "C", 4, 14),
        (LATE, 560, 0, (47.5528, 23.7764, 0), "S-lower", 9, 14),
        (LATE, 900, 0, (47.5528, 23.7764, 23.7764), "S-upper", 9, 14),
    ],
)
def test_the_test_vectors(
    tilts: np.ndarray, height: float, down: float, angles: tuple[float, ...], branch: str, p: int, q: int
) -> None:
    found = official_angles(rectangles(tilts, down), height)
    for value, expected in zip(found.values, angles, strict=True):
        assert value == pytest.approx(expected, abs=1e-4 if expected >= 1 else 1e-2)
    assert found.branch.startswith(branch)
    assert (found.p + 1, found.q + 1) == (p, q)


def test_a_chord_that_is_exactly_vertical_counts_as_s() -> None:
    found = official_angles(rectangles(0.0 * K), 560)
    assert (found.an1, found.an2, found.an3, found.p, found.q) == (0, 0, 0, 0, 0)
    assert found.branch == "S-upper"
    assert official_angles(rectangles(0.0 * K), 560, "yi").branch == "S-upper"


@given(seeds)
def test_the_matrix_is_the_difference_of_the_tilts(seed: int) -> None:
    drawn = draw_geometry(np.random.default_rng(seed))
    matrix, exact = angle_matrix(drawn.corners), drawn.angle_matrix
    assert np.allclose(matrix[exact > 1], exact[exact > 1], atol=1e-3)
    assert np.allclose(matrix, exact, atol=1e-2)
    assert official_angles(drawn.corners, 500).an1 == pytest.approx(drawn.major_cobb, abs=1e-3)


@given(seeds, st.floats(300, 3000), st.sampled_from(["official", "yi"]))
def test_pairs_say_between_which_levels_each_angle_was_measured(
    seed: int, height: float, variant: str
) -> None:
    corners = spine(seed)
    found = official_angles(corners, height, variant)
    matrix = angle_matrix(corners, variant)
    assert found.values.tolist() == [matrix[pair] for pair in found.pairs]
    assert all(upper <= lower for upper, lower in found.pairs)
    assert found.pairs[0] == (found.p, found.q)
    assert (found.r is not None) == (found.branch == "S-lower")
    assert found.levels == (0, 16)


@given(seeds, st.floats(300, 3000))
def test_the_first_angle_is_the_greatest(seed: int, height: float) -> None:
    found = official_angles(spine(seed), height)
    assert found.an1 >= max(found.an2, found.an3)
    assert min(found.values) >= 0


@given(seeds)
def test_a_flip_changes_nothing(seed: int) -> None:
    corners = spine(seed)
    found, flipped = official_angles(corners, 704), official_angles(flip_corners(corners, 384), 704)
    assert np.allclose(found.values, flipped.values, atol=1e-6)
    assert found.branch == flipped.branch


@given(seeds, st.floats(0.2, 8))
def test_scaling_points_and_height_together_changes_nothing(seed: int, scale: float) -> None:
    corners = spine(seed)
    found, scaled = official_angles(corners, 704), official_angles(corners * scale, 704 * scale)
    assert np.allclose(found.values, scaled.values, atol=1e-5)
    assert found.branch == scaled.branch


@given(seeds, st.floats(-30, 30))
def test_a_rotation_leaves_the_matrix(seed: int, degrees: float) -> None:
    corners, turn = spine(seed), np.radians(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    assert np.allclose(angle_matrix(corners), angle_matrix(corners @ rotation), atol=1e-2)
    assert np.allclose(tilts_of(corners @ rotation), tilts_of(corners) + degrees)


@given(seeds, st.floats(-200, 200), st.floats(-200, 200))
def test_a_shift_leaves_the_first_angle_and_the_rest_within_a_branch(
    seed: int, right: float, down: float
) -> None:
    corners = spine(seed)
    found, shifted = official_angles(corners, 704), official_angles(corners + np.array([right, down]), 704)
    assert shifted.an1 == pytest.approx(found.an1, abs=1e-5)
    assume(found.branch == shifted.branch and found.pairs == shifted.pairs)
    assert np.allclose(shifted.values, found.values, atol=1e-5)


def test_an_uneven_resize_changes_every_angle() -> None:
    squeezed = official_angles(rectangles(SINE) * [0.5, 1], 560)
    assert squeezed.an1 == pytest.approx(72, abs=1)
    assert official_angles(rectangles(SINE) * [384 / 1000, 704 / 2500], 704).an1 == pytest.approx(
        29.9, abs=0.1
    )


def test_exchanged_sides_make_an_angle_near_180() -> None:
    corners = rectangles(SINE)
    corners[11] = corners[11, [1, 0, 3, 2]]
    assert official_angles(corners, 560).an1 > 175
    assert official_angles(corners, 560, "yi").an1 == 90


def test_small_angles_come_in_steps() -> None:
    matrix = angle_matrix(rectangles(np.where(K == 3, 0.004, 0.0)))
    assert set(np.unique(matrix.round(4))) <= {0.0, 0.0081}


def test_the_port_looks_at_upper_endplates_to_choose_a_branch() -> None:
    corners = rectangles(SINE)
    lower, upper = corners[[4, 12], 2:, 1].mean(1).sum(), corners[[4, 12], :2, 1].mean(1).sum()
    assert official_angles(corners, (lower + upper) / 2).branch == "S-lower"
    assert official_angles(corners, (lower + upper) / 2, "yi").branch == "S-upper"


def test_the_port_lets_a_curve_touch_its_chord() -> None:
    """T2's upper endplate is moved beyond the chord by a 1e-7th of the chord's width."""
    corners = rectangles(15 - 29 * K / 16)
    middles = corners.reshape(34, 2, 2).mean(1)
    along = (middles[2] - middles[-1]) / (middles[0] - middles[-1])
    inside = np.sign(along[1] - along[0])
    corners[1, :2, 0] += (along[1] - along[0] + 1e-7 * inside) * (middles[0] - middles[-1])[0]
    assert official_angles(rectangles(15 - 29 * K / 16), 560).branch == "C"
    assert official_angles(corners, 560).branch != "C"
    assert official_angles(corners, 560, "yi").branch == "C"


def test_missing_vertebrae_are_refused_with_the_way_out() -> None:
    corners = rectangles(SINE)
    corners[15:] = np.nan
    with pytest.raises(InvalidInputError, match=r"L4, L5 are missing \(NaN\); type visible_angles"):
        official_angles(corners, 560)


def test_what_cannot_be_measured_is_refused() -> None:
    corners = rectangles(SINE)
    with pytest.raises(InvalidInputError, match="height is 0"):
        official_angles(corners, 0)
    with pytest.raises(UnknownNameError, match="unknown variant 'matlab'"):
        official_angles(corners, 560, "matlab")
    corners[3] = 5.0
    with pytest.raises(InvalidInputError, match=r"vertebra 3 \(0-based\) coincide"):
        official_angles(corners, 560)


@given(seeds)
def test_a_whole_spine_has_the_same_visible_angles(seed: int) -> None:
    corners = spine(seed)
    found, seen = official_angles(corners, 704), visible_angles(corners, 704)
    assert (found.values.tolist(), found.pairs) == (seen.values.tolist(), seen.pairs)
    assert seen.variant == "visible"


def test_a_part_of_a_spine_is_measured_on_its_longest_run() -> None:
    corners = rectangles(SINE)
    corners[[1, 14]] = np.nan
    found = visible_angles(corners, 560)
    assert found.levels == (2, 13)
    assert (found.p, found.q) == (4, 12)
    assert found.an1 == pytest.approx(40, abs=1e-4)
    assert found.values.tolist() == [angle_matrix(rectangles(SINE))[pair] for pair in found.pairs]


def test_two_vertebrae_are_too_few() -> None:
    corners = np.full((17, 4, 2), np.nan)
    corners[4:6] = rectangles(SINE)[4:6]
    with pytest.raises(InvalidInputError, match="at most 2 neighbouring vertebrae are visible"):
        visible_angles(corners, 560)


@pytest.mark.parametrize(
    ("seen", "run"),
    [("0000", (0, -1)), ("1111", (0, 3)), ("1011", (2, 3)), ("1101100", (0, 1)), ("01", (1, 1))],
)
def test_the_longest_run(seen: str, run: tuple[int, int]) -> None:
    assert longest_run(np.array([letter == "1" for letter in seen])) == run
