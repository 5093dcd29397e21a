"""Spines with exact angles: the chain, the balance, the outlines, and the statistics of the drawn families."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.phantom.curves import KINDS, Curves, draw_curves
from workbench.data.phantom.geometry import SpineGeometry, balance, build, chain, draw_geometry
from workbench.data.vertebrae import centres_of
from workbench.errors import InvalidInputError, UnknownNameError

seeds = st.integers(0, 2**32)


def drawn(seed: int, **keywords: str) -> SpineGeometry:
    return draw_geometry(np.random.default_rng(seed), **keywords)


def direction(vectors: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0]))


@pytest.fixture(scope="module")
def family() -> list[SpineGeometry]:
    return [drawn(seed) for seed in range(800)]


def test_a_straight_chain_goes_straight_down() -> None:
    centres = chain(np.zeros(17), np.full(17, 20.0), np.full(16, 6.0))
    assert np.allclose(centres, np.stack([np.zeros(17), 26.0 * np.arange(17)], axis=1))


def test_a_positive_tilt_leads_to_the_images_left() -> None:
    assert chain(np.full(17, 10.0), np.full(17, 20.0), np.full(16, 6.0))[-1, 0] < 0


@given(seeds)
def test_the_middle_line_has_exactly_the_tilt(seed: int) -> None:
    spine = drawn(seed)
    left, right = spine.corners[:, [0, 2]].mean(1), spine.corners[:, [1, 3]].mean(1)
    assert np.allclose(direction(right - left), spine.tilts, atol=1e-9)
    assert np.allclose((left + right) / 2, spine.centres, atol=1e-9)


@given(seeds)
def test_endplates_have_the_tilts_and_widths_that_are_told(seed: int) -> None:
    spine = drawn(seed)
    plates = spine.corners[:, [1, 3]] - spine.corners[:, [0, 2]]
    assert np.allclose(direction(plates), spine.endplate_tilts, atol=1e-9)
    along = np.stack([np.cos(np.radians(spine.tilts)), np.sin(np.radians(spine.tilts))], axis=-1)
    assert np.allclose((plates[:, 0] * along).sum(-1), spine.upper_widths)
    assert np.allclose((plates[:, 1] * along).sum(-1), spine.lower_widths)


def test_equally_wide_endplates_meet_at_the_wedge() -> None:
    wedges = np.linspace(-8, 8, 17)
    spine = build(np.zeros(17), wedges, 36, 36, 20, 6)
    assert np.allclose(np.diff(spine.endplate_tilts, axis=1)[:, 0], wedges)


def test_heights_and_discs_are_measured_along_the_axis() -> None:
    heights, discs = np.linspace(14, 25, 17), np.linspace(4, 9, 16)
    spine = build(np.zeros(17), 0.0, 36, 40, heights, discs)
    middles = spine.corners.reshape(17, 2, 2, 2).mean(2)
    assert np.allclose(middles[:, 1, 1] - middles[:, 0, 1], heights)
    assert np.allclose(middles[1:, 0, 1] - middles[:-1, 1, 1], discs)


@given(seeds, st.floats(-30, 30))
def test_balance_keeps_differences_and_meets_the_offset(seed: int, offset: float) -> None:
    spine = drawn(seed)
    tilts = balance(spine.tilts, spine.heights, spine.discs, offset)
    assert np.allclose(np.diff(tilts), np.diff(spine.tilts))
    assert chain(tilts, spine.heights, spine.discs)[-1, 0] == pytest.approx(offset, abs=1e-6)


@given(seeds)
def test_the_same_state_draws_the_same_spine(seed: int) -> None:
    assert np.array_equal(drawn(seed).corners, drawn(seed).corners)


@given(seeds, st.sampled_from(KINDS))
def test_the_tilt_turns_at_the_extremes_only(seed: int, kind: str) -> None:
    curves = draw_curves(np.random.default_rng(seed), kind)
    tilts = curves.tilts()
    assert np.allclose(tilts[curves.levels], curves.values)
    assert np.ptp(tilts) == pytest.approx(np.ptp(curves.values))
    for start, end in zip(curves.levels[:-1], curves.levels[1:], strict=True):
        steps = np.diff(tilts[start : end + 1])
        assert (steps >= -1e-9).all() or (steps <= 1e-9).all()


def test_vertebrae_turn_toward_the_convexity() -> None:
    curves = Curves("1", np.array([0, 4, 12, 16]), np.array([0.0, 20.0, -20.0, 0.0]))
    centres = chain(curves.tilts(), np.full(17, 20.0), np.full(16, 6.0))
    rotations = curves.rotations(0.3)
    assert centres[8, 0] < centres[4, 0]
    assert rotations[8] == pytest.approx(-0.3 * 40)
    assert np.allclose(rotations[[0, 4, 12, 16]], 0)
    assert np.allclose(curves.mirrored().rotations(0.3), -rotations)


@pytest.mark.parametrize(("side", "sign"), [("right", -1), ("left", 1)])
def test_a_right_thoracic_curve_bulges_to_the_images_left(
    side: str, sign: int, family: list[SpineGeometry]
) -> None:
    spines = [spine for spine in family if spine.side == side and spine.kind in ("1", "2", "3")]
    bulge = [spine.centres[8, 0] - spine.centres[[5, 11], 0].mean() for spine in spines]
    assert np.sign(np.mean(bulge)) == sign
    assert np.mean([spine.rotations[8] for spine in spines]) * sign > 5


def test_the_matrix_of_angles_has_the_major_angle_as_its_greatest(family: list[SpineGeometry]) -> None:
    for spine in family[:50]:
        assert spine.angle_matrix.max() == pytest.approx(spine.major_cobb)
        assert np.array_equal(spine.angle_matrix, spine.angle_matrix.T)


def shape_statistics(family: list[SpineGeometry]) -> dict[str, np.ndarray]:
    """Widths and heights over the arc, and deviations from the chord over the arc, (n, 17) each."""
    corners = np.stack([spine.corners / spine.arc for spine in family])
    centres = centres_of(corners)
    chord = centres[:, -1] - centres[:, 0]
    across = np.stack([chord[:, 1], -chord[:, 0]], axis=1) / np.linalg.norm(chord, axis=1)[:, None]
    return {
        "width": np.linalg.norm(corners[:, :, [1, 3]] - corners[:, :, [0, 2]], axis=-1).mean(-1),
        "height": np.linalg.norm(corners[:, :, 2:] - corners[:, :, :2], axis=-1).mean(-1),
        "deviation": np.einsum("nkd,nd->nk", centres - centres[:, :1], across),
    }


def test_shapes_are_like_the_measured_labels(family: list[SpineGeometry]) -> None:
    """Columns of the specification's table 1.4 at T1, T4, T8, T12, L2 and L4."""
    found = shape_statistics(family)
    levels = [0, 3, 7, 11, 13, 15]
    widths, heights = found["width"].mean(0)[levels], found["height"].mean(0)[levels]
    assert np.allclose(widths, [0.0668, 0.0598, 0.0695, 0.0886, 0.0997, 0.1071], rtol=0.02)
    assert np.allclose(heights, [0.0348, 0.0398, 0.0440, 0.0557, 0.0581, 0.0608], rtol=0.02)
    assert np.allclose(found["width"].std(0) / found["width"].mean(0), 0.09, atol=0.02)
    assert np.allclose(found["height"].std(0) / found["height"].mean(0), 0.10, atol=0.02)
    expected = [0.0168, 0.0369, 0.0386, 0.0337, 0.0134]
    assert np.allclose(found["deviation"].std(0)[levels[1:]], expected, rtol=0.3)
    # Right thoracic, left lumbar: T8 lies to the image's left, L2 to its right.
    assert found["deviation"].mean(0)[7] < -0.015
    assert found["deviation"].mean(0)[13] > 0.005


def test_angles_are_like_those_of_a_clinic(family: list[SpineGeometry]) -> None:
    major = np.array([spine.major_cobb for spine in family])
    assert 26 < major.mean() < 41
    assert 12 < major.std() < 18.5
    assert 0.02 < (major < 10).mean() < 0.12
    assert major.max() < 95
    assert {spine.kind for spine in family} == set(KINDS)


def test_screening_is_mostly_straight() -> None:
    major = np.array([drawn(seed, mix="screening").major_cobb for seed in range(800)])
    assert 0.01 < (major >= 10).mean() < 0.05
    assert np.median(major) < 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_may_be_asked_for(kind: str) -> None:
    assert drawn(0, kind=kind, mix="screening").kind == kind


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown kind of curve '7'"):
        drawn(0, kind="7")
    with pytest.raises(UnknownNameError, match="unknown mix 'asce'; did you mean 'aasce'"):
        drawn(0, mix="asce")


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"tilts has shape \(16,\); expected one number or \(17,\)"):
        build(np.zeros(16), 0.0, 36, 36, 20, 6)
    with pytest.raises(InvalidInputError, match="heights must be finite and positive"):
        build(np.zeros(17), 0.0, 36, 36, 0.0, 6)
    with pytest.raises(InvalidInputError, match="wedges must be finite; given nan"):
        build(np.zeros(17), np.nan, 36, 36, 20, 6)
