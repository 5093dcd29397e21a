"""Clinical curves: where they begin and end, what they are called, how great they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.phantom.geometry import build, draw_geometry
from workbench.data.vertebrae import flip_corners
from workbench.errors import InvalidInputError
from workbench.spine.clinical import TURN, clinical_angles, lenke_type, severity_of, turning_points

K = np.arange(17)
SINE = 21 * np.sin(2 * np.pi * K / 16)

seeds = st.integers(0, 2**32)


def corners_of(tilts: np.ndarray, wedges: np.ndarray | float = 0.0) -> np.ndarray:
    return build(tilts, wedges, 36, 36, 20, 6).corners + np.array([200, 60])


def test_a_double_s_has_three_curves() -> None:
    found = clinical_angles(corners_of(SINE))
    assert [(c.name, c.upper, c.lower, c.convexity) for c in found.curves] == [
        ("PT", 0, 4, "right"),
        ("MT", 4, 12, "left"),
        ("TL", 12, 16, "right"),
    ]
    assert [found.cobb(name) for name in ("PT", "MT", "TL")] == pytest.approx([21, 42, 21])
    assert (found.curves[1].apex, found.severity, found.lenke) == (8, "severe", "1")


@pytest.mark.parametrize(
    ("first", "last", "name"), [(0, 6, "PT"), (4, 11, "MT"), (9, 15, "TL"), (0, 16, "MT"), (8, 16, "TL")]
)
def test_a_curve_is_named_by_its_apex(first: int, last: int, name: str) -> None:
    tilts = np.interp(K, [first, last], [15, -15])
    (curve,) = clinical_angles(corners_of(tilts)).curves
    assert (curve.name, curve.upper, curve.lower) == (name, first, last)
    assert curve.cobb == pytest.approx(30)


def test_cobb_is_taken_from_the_outer_endplates() -> None:
    """An end vertebra's wedge counts: upper endplate τ − ω/2, lower endplate τ + ω/2."""
    wedges = np.zeros(17)
    wedges[4], wedges[12] = -4.0, -6.0
    curve = clinical_angles(corners_of(SINE, wedges)).curves[1]
    assert curve.cobb == pytest.approx(abs((21 + 2) - (-21 - 3)))


@given(seeds)
def test_cobb_agrees_with_the_exact_endplates(seed: int) -> None:
    spine = draw_geometry(np.random.default_rng(seed))
    for curve in clinical_angles(spine.corners).curves:
        exact = spine.endplate_tilts
        assert curve.cobb == pytest.approx(abs(exact[curve.upper, 0] - exact[curve.lower, 1]), abs=1e-6)
        assert curve.upper < curve.apex < curve.lower


@given(seeds)
def test_a_flip_changes_the_sides_only(seed: int) -> None:
    corners = draw_geometry(np.random.default_rng(seed)).corners
    found, flipped = clinical_angles(corners), clinical_angles(flip_corners(corners, 100))
    other = {"left": "right", "right": "left"}
    assert [(c.name, c.upper, c.lower, c.apex, other[c.convexity]) for c in found.curves] == [
        (c.name, c.upper, c.lower, c.apex, c.convexity) for c in flipped.curves
    ]
    assert [c.cobb for c in found.curves] == pytest.approx([c.cobb for c in flipped.curves])
    assert (found.severity, found.lenke) == (flipped.severity, flipped.lenke)


def test_a_straight_spine_has_no_curve() -> None:
    found = clinical_angles(corners_of(0.1 * K))
    assert (found.curves, found.severity, found.lenke, found.cobb("MT")) == ((), "none", None, 0.0)


def test_vertebrae_that_are_not_seen_are_passed_over() -> None:
    corners = corners_of(SINE)
    corners[[0, 7, 8, 16]] = np.nan
    found = clinical_angles(corners)
    assert [(c.name, c.upper, c.lower) for c in found.curves] == [("PT", 1, 4), ("MT", 4, 12), ("TL", 12, 15)]
    corners[2:] = np.nan
    with pytest.raises(InvalidInputError, match="1 vertebrae are visible; curves need at least 3"):
        clinical_angles(corners)


@pytest.mark.parametrize(
    ("tilts", "ends"),
    [
        ([3, 12, 0, -13, -11, -4], (0, 1, 3, 5)),
        ([0, 4, 0, 4, 0], ()),
        ([0, 4, -1, 4, -1], (1, 2, 3, 4)),
        ([0, 10, 6, 20], (0, 3)),
        ([5, 0, 5], (0, 1, 2)),
        ([0, 3, -10], (1, 2)),
    ],
)
def test_turning_points(tilts: list[float], ends: tuple[int, ...]) -> None:
    assert turning_points(np.array(tilts, dtype=float)) == ends


@given(st.lists(st.floats(-60, 60).map(lambda tilt: round(tilt, 3)), min_size=1, max_size=17))
def test_between_turning_points_the_tilt_turns_by_enough(tilts: list[float]) -> None:
    ends = turning_points(np.array(tilts))
    steps = np.diff([tilts[k] for k in ends])
    assert (np.abs(steps) >= TURN).all()
    assert (np.sign(steps[1:]) == -np.sign(steps[:-1])).all()
    assert list(ends) == sorted(set(ends))
    assert bool(ends) == (np.ptp(tilts) >= TURN)


@pytest.mark.parametrize(
    ("angles", "lenke"),
    [
        ((10, 50, 20), "1"),
        ((30, 50, 20), "2"),
        ((10, 50, 40), "3"),
        ((30, 60, 40), "4"),
        ((30, 20, 40), "4"),
        ((10, 20, 40), "5"),
        ((10, 30, 40), "6"),
        ((10, 20, 24.9), None),
        ((30, 20, 20), None),
        ((0, 25, 25), "3"),
    ],
)
def test_lenke_types(angles: tuple[float, float, float], lenke: str | None) -> None:
    assert lenke_type(*angles) == lenke


@pytest.mark.parametrize(
    ("cobb", "band"),
    [(0, "none"), (9.9, "none"), (10, "mild"), (25, "moderate"), (39.9, "moderate"), (40, "severe")],
)
def test_severity(cobb: float, band: str) -> None:
    assert severity_of(cobb) == band
