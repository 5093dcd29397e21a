"""Quality flags: each corruption has its name, and drawn spines have none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.phantom.geometry import draw_geometry
from workbench.spine.quality import convex, gate_rate, overlap, passes_gate, quality_flags

SIZE = (704, 384)
SQUARE = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])


def spine(seed: int = 3, kind: str | None = None) -> np.ndarray:
    return draw_geometry(np.random.default_rng(seed), kind=kind).corners * 1.45 + np.array([190, 45])


def names(corners: np.ndarray) -> list[str]:
    return [flag.name for flag in quality_flags(corners, SIZE)]


def test_drawn_spines_are_not_flagged() -> None:
    spines = [spine(seed) for seed in range(300)]
    assert [seed for seed, corners in enumerate(spines) if quality_flags(corners)] == []
    assert gate_rate(spines) == 1.0


def exchanged_sides(corners: np.ndarray) -> None:
    corners[7] = corners[7, [1, 0, 3, 2]]


def exchanged_ends(corners: np.ndarray) -> None:
    corners[7] = corners[7, [2, 3, 0, 1]]


def upside_down(corners: np.ndarray) -> None:
    corners[7] = corners[7, [3, 2, 1, 0]]


def one_pair_exchanged(corners: np.ndarray) -> None:
    corners[7, [0, 1]] = corners[7, [1, 0]]


def dented(corners: np.ndarray) -> None:
    corners[7, 0] = corners[7].mean(0) + 0.2 * (corners[7, 3] - corners[7, 0])


def moved_up(corners: np.ndarray) -> None:
    corners[7] += 0.5 * (corners[6].mean(0) - corners[7].mean(0))


def flattened(corners: np.ndarray) -> None:
    middle = corners[7].mean(0)
    corners[7, :, 1] = middle[1] + 0.3 * (corners[7, :, 1] - middle[1])


def widened(corners: np.ndarray) -> None:
    middle = corners[7].mean(0)
    corners[7, :, 0] = middle[0] + 2 * (corners[7, :, 0] - middle[0])


def turned(corners: np.ndarray, degrees: float = 35) -> None:
    a = np.radians(degrees)
    middle = corners[7].mean(0)
    corners[7] = middle + (corners[7] - middle) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def left_out(corners: np.ndarray) -> None:
    corners[7:-1] = corners[8:]
    corners[-1] += corners[-1].mean(0) - corners[-3].mean(0)


def rolled(corners: np.ndarray) -> None:
    corners[:] = np.roll(corners, 1, axis=0)


def outside(corners: np.ndarray) -> None:
    corners[16, 3, 1] = 704.0


@pytest.mark.parametrize(
    ("spoil", "name", "level"),
    [
        (exchanged_sides, "corner-order", 7),
        (exchanged_ends, "corner-order", 7),
        (upside_down, "corner-order", 7),
        (one_pair_exchanged, "not-convex", 7),
        (dented, "not-convex", 7),
        (moved_up, "overlap", 7),
        (flattened, "height", 7),
        (widened, "width", 7),
        (turned, "tilt-jump", 7),
        (left_out, "level-shift", 7),
        (rolled, "level-order", 1),
        (outside, "outside", 16),
    ],
)
def test_each_corruption_has_its_flag(spoil: Callable[[np.ndarray], None], name: str, level: int) -> None:
    corners = spine()
    assert names(corners) == []
    spoil(corners)
    (flag,) = (flag for flag in quality_flags(corners, SIZE) if flag.name == name)
    assert level in flag.levels
    gated = name in ("corner-order", "not-convex", "overlap", "level-order")
    assert not (gated and passes_gate(corners))


def test_flags_speak_in_sentences() -> None:
    corners = spine()
    exchanged_sides(corners)
    outside(corners)
    said = {flag.name: flag.text for flag in quality_flags(corners, SIZE)}
    assert said["corner-order"] == "Left and right or upper and lower corners of T8 are exchanged."
    assert said["outside"] == "L5 reaches beyond the image."
    corners[[1, 2, 5]] = np.nan
    flag = quality_flags(corners)[0]
    assert (flag.name, flag.levels) == ("missing", (1, 2, 5))
    assert flag.text == "T2, T3 and T6 are not seen; angles are those of the other vertebrae."


def test_missing_vertebrae_raise_no_other_flag() -> None:
    corners = spine()
    corners[[0, 5, 6, 15, 16]] = np.nan
    assert names(corners) == ["missing"]
    assert passes_gate(corners)
    assert names(np.full((17, 4, 2), np.nan)) == ["missing"]


def test_the_rate_of_no_spine_is_undefined() -> None:
    assert np.isnan(gate_rate([]))
    bad = spine()
    moved_up(bad)
    assert gate_rate([spine(), bad]) == 0.5


@given(st.floats(0, 1), st.floats(0, 1))
def test_overlap_is_the_shared_area(right: float, down: float) -> None:
    assert overlap(SQUARE, SQUARE + np.array([right, down])) == pytest.approx(
        (1 - right) * (1 - down), abs=1e-9
    )


@given(st.floats(-np.pi, np.pi), st.floats(0.2, 5))
def test_overlap_knows_no_direction_or_scale(turn: float, scale: float) -> None:
    other = SQUARE * [0.5, 0.7] + np.array([0.3, 0.6])
    rotation = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    expected = 0.5 * 0.4 / 0.35
    assert overlap(SQUARE @ rotation, other @ rotation) == pytest.approx(expected)
    assert overlap(other @ rotation, SQUARE @ rotation) == pytest.approx(expected)
    assert overlap(SQUARE[[1, 0, 3, 2]], other) == pytest.approx(expected)


def test_apart_is_no_overlap() -> None:
    assert overlap(SQUARE, SQUARE + np.array([2, 0])) == 0
    assert overlap(SQUARE, SQUARE + np.array([0, 1])) == 0


def test_convexity() -> None:
    crossed = SQUARE[[1, 0, 2, 3]]
    flat = SQUARE * [1, 0]
    assert convex(np.stack([SQUARE, SQUARE[[1, 0, 3, 2]], crossed, flat, SQUARE * np.nan])).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]
