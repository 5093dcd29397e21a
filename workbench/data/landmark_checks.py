"""Whether 68 landmarks can be the corners of a spine's 17 vertebrae. Problems are reported, nothing is ever mended.

The faults looked for are those of the AASCE labels (specification, section 1.3): L5 stored first, vertebrae skipped
or labelled twice, end plates doubled, sides or end plates swapped, single points astray. Limits are wide enough for
strong curves and slender bodies; they were set on drawn spines, of which none may be flagged. A list that is moved
by one level as a whole, with plausible vertebrae at both ends, cannot be told from the points alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from workbench.data.vertebrae import CORNERS, LEVELS, Corners, centres_of, check_corners, visible

Kind = Literal[
    "missing",
    "rolled",
    "order",
    "level shift",
    "duplicated endplate",
    "swapped endplates",
    "swapped sides",
    "not convex",
    "wild point",
    "height",
    "overlap",
    "outside",
    "stretched",
]

#: Height of a vertebra by the median of its image. Source: specification, section 1.3.
HEIGHTS = (0.45, 2.0)

#: Width by height, median over an image; outside of this the image was squeezed or the corners are no vertebrae.
PROPORTIONS = (1.05, 2.4)

# In heights of the higher of two neighbours: nearest centres, widest disc, deepest overlap, end plates that are one.
_NEAR, _FAR, _DEEP, _SAME = 0.5, 0.95, -0.2, 0.05

# By how much of the shorter end plate a corner may miss the parallelogram of the other three, down or across.
_ASTRAY = 0.3

_OUTSIDE = 1.0  # pixels that a label may lie outside the image


@dataclass(frozen=True)
class LabelProblem:
    """One thing that is wrong with a label: the level ("T5"; None for the whole), what kind, and in words."""

    level: str | None
    kind: Kind
    text: str


@dataclass(frozen=True, eq=False)
class _Spine:
    """The n visible vertebrae as stored, and directions along the spine that do not depend on the order stored."""

    levels: Int[np.ndarray, " n"]
    corners: Float[np.ndarray, "n 4 2"]
    centres: Float[np.ndarray, "n 2"]
    down: Float[np.ndarray, "n 2"]  # unit, along the spine
    right: Float[np.ndarray, "n 2"]  # unit, to the image's right
    heights: Float[np.ndarray, " n"]
    widths: Float[np.ndarray, " n"]

    def name(self, i: int | np.integer) -> str:
        return LEVELS[self.levels[i]]


def check_labels(corners: object, size: tuple[int, int]) -> tuple[LabelProblem, ...]:
    """Everything that is wrong with the corners of one image; empty where nothing is.

    Args:
        corners: (17, 4, 2) or (68, 2), pixels of the original image, vertebrae that are not seen NaN.
        size: Height and width of the original image.

    Raises:
        InvalidInputError: the corners are no such array.

    Example:
        >>> [problem.kind for problem in check_labels(np.roll(corners, 1, axis=0), (2500, 1000))]
        ['rolled']
    """
    array = check_corners(corners)
    return tuple(_problems(array, size))


def _problems(corners: Corners, size: tuple[int, int]) -> Iterator[LabelProblem]:
    seen = visible(corners)
    if not seen.all():
        names = ", ".join(LEVELS[k] for k in np.flatnonzero(~seen))
        yield LabelProblem(None, "missing", f"{int((~seen).sum())} of 17 vertebrae are missing: {names}")
    if seen.sum() < 2:
        return
    spine = _measured(corners, seen)
    yield from _order(spine)
    flat = _flat(spine)
    sound = _sound(spine) & ~flat
    yield from _doubled_within(spine, flat)
    yield from _turned(spine, ~flat)
    yield from _astray(spine, ~flat)
    yield from _sizes(spine, ~flat)
    yield from _between(spine, sound)
    yield from _outside(spine, size)


def _measured(corners: Corners, seen: Bool[np.ndarray, " 17"]) -> _Spine:
    levels = np.flatnonzero(seen)
    four = corners[levels]
    centres = centres_of(four)
    down = _directions(centres)
    right = np.stack([down[:, 1], -down[:, 0]], axis=1)
    heights = np.linalg.norm(_downward(four), axis=1)
    widths = np.linalg.norm(_rightward(four), axis=1)
    return _Spine(levels, four, centres, down, right, heights, widths)


def _downward(four: np.ndarray) -> np.ndarray:
    """From the middle of the upper end plate to that of the lower one."""
    return (four[:, 2] + four[:, 3] - four[:, 0] - four[:, 1]) / 2


def _rightward(four: np.ndarray) -> np.ndarray:
    """From the middle of the left side to that of the right one."""
    return (four[:, 1] + four[:, 3] - four[:, 0] - four[:, 2]) / 2


def _directions(centres: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Unit vectors down the spine at each centre, by the neighbours from top to bottom of the image."""
    order = np.argsort(centres[:, 1], kind="stable")
    steps = np.gradient(centres[order], axis=0)
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    steps = np.where(lengths > 0, steps / np.maximum(lengths, 1e-12), (0.0, 1.0))
    result = np.empty_like(steps)
    result[order] = steps
    return result


def _order(spine: _Spine) -> Iterator[LabelProblem]:
    y = spine.centres[:, 1]
    first = int(np.argmin(y))
    if first and (np.diff(np.roll(y, -first)) > 0).all():
        text = (
            f"the list of vertebrae begins in the middle: the uppermost is stored as {spine.name(first)}, below it "
            f"follow the others, and {spine.name(0)} to {spine.name(first - 1)} lie lowest (L5 stored first?)"
        )
        yield LabelProblem(None, "rolled", text)
        return
    for i in np.flatnonzero(np.diff(y) < 0):
        yield LabelProblem(spine.name(i + 1), "order", f"{spine.name(i + 1)} lies above {spine.name(i)}")


def _flat(spine: _Spine) -> Bool[np.ndarray, " n"]:
    """Vertebrae whose two end plates are the same."""
    ends = np.linalg.norm(spine.corners[:, 2:] - spine.corners[:, :2], axis=2).max(1)
    return ends <= _SAME * np.median(spine.heights)


def _sound(spine: _Spine) -> Bool[np.ndarray, " n"]:
    """Vertebrae whose corners go round TL, TR, BR, BL clockwise on screen, upper end plate up."""
    upright = (_downward(spine.corners) * spine.down).sum(1) > 0
    return upright & (_turns(spine) > 0).all(1)


def _turns(spine: _Spine) -> Float[np.ndarray, "n 4"]:
    """Twice the signed areas at the four corners: all positive for a convex outline drawn in the right sense."""
    outline = spine.corners[:, [0, 1, 3, 2]]
    ahead, back = np.roll(outline, -1, axis=1) - outline, np.roll(outline, 1, axis=1) - outline
    return ahead[..., 0] * back[..., 1] - ahead[..., 1] * back[..., 0]


def _doubled_within(spine: _Spine, flat: Bool[np.ndarray, " n"]) -> Iterator[LabelProblem]:
    for i in np.flatnonzero(flat):
        text = f"the upper and the lower end plate of {spine.name(i)} are the same"
        yield LabelProblem(spine.name(i), "duplicated endplate", text)


def _turned(spine: _Spine, use: Bool[np.ndarray, " n"]) -> Iterator[LabelProblem]:
    """Outlines that cross themselves, and end plates or sides that are swapped."""
    turns = _turns(spine)
    down = (_downward(spine.corners) * spine.down).sum(1)
    right = (_rightward(spine.corners) * spine.right).sum(1)
    for i in np.flatnonzero(use):
        name = spine.name(i)
        if not ((turns[i] > 0).all() or (turns[i] < 0).all()):
            yield LabelProblem(name, "not convex", f"the corners of {name} make no convex outline")
            continue
        if down[i] < 0:
            text = f"the upper end plate of {name} lies below its lower one"
            yield LabelProblem(name, "swapped endplates", text)
        if right[i] < 0:
            text = f"the left side of {name} lies to the right of its right one"
            yield LabelProblem(name, "swapped sides", text)


def _astray(spine: _Spine, use: Bool[np.ndarray, " n"]) -> Iterator[LabelProblem]:
    """Corners that are far from where the other three of the vertebra put them; swaps do not matter here."""
    four = spine.corners
    missed = four[:, 0] + four[:, 3] - four[:, 1] - four[:, 2]
    apart = np.maximum(np.abs((missed * spine.right).sum(1)), np.abs((missed * spine.down).sum(1)))
    upper, lower = four[:, 1] - four[:, 0], four[:, 3] - four[:, 2]
    limit = _ASTRAY * np.minimum(np.linalg.norm(upper, axis=1), np.linalg.norm(lower, axis=1))
    for i in np.flatnonzero(use & (apart > limit)):
        name, corner = spine.name(i), CORNERS[_worst_corner(spine, i)]
        text = (
            f"a corner of {name}, probably {corner}, lies {np.linalg.norm(missed[i]):.0f} pixels from where the "
            "other three put it"
        )
        yield LabelProblem(name, "wild point", text)


def _worst_corner(spine: _Spine, i: int | np.integer) -> int:
    """The corner that fits the neighbours' outlines worst, laid on the same centre without it."""
    near = [j for j in (i - 1, i + 1) if 0 <= j < len(spine.corners)]
    shapes = spine.corners[near] - spine.centres[near, None]
    expected = shapes.mean(0) + np.median(spine.corners[i] - shapes.mean(0), axis=0)
    return int(np.linalg.norm(spine.corners[i] - expected, axis=1).argmax())


def _sizes(spine: _Spine, use: Bool[np.ndarray, " n"]) -> Iterator[LabelProblem]:
    use = use & (spine.heights > 0)
    if use.sum() < 3:
        return
    median = float(np.median(spine.heights[use]))
    ratios = spine.heights / median
    for i in np.flatnonzero(use & ((ratios < HEIGHTS[0]) | (ratios > HEIGHTS[1]))):
        text = f"{spine.name(i)} is {ratios[i]:.2f} times as high as the others; expected {HEIGHTS[0]} to {HEIGHTS[1]}"
        yield LabelProblem(spine.name(i), "height", text)
    proportion = float(np.median(spine.widths[use] / spine.heights[use]))
    if not PROPORTIONS[0] <= proportion <= PROPORTIONS[1]:
        text = (
            f"vertebrae are {proportion:.2f} times as wide as high, expected {PROPORTIONS[0]} to {PROPORTIONS[1]}: was "
            "the image squeezed? Angles are wrong in it"
        )
        yield LabelProblem(None, "stretched", text)


def _between(spine: _Spine, sound: Bool[np.ndarray, " n"]) -> Iterator[LabelProblem]:
    """Neighbours that are one and the same, too far apart, joined, or in one another's place."""
    for i in range(len(spine.levels) - 1):
        j = i + 1
        if spine.levels[j] - spine.levels[i] != 1:
            continue
        upper, lower = spine.name(i), spine.name(j)
        height = max(spine.heights[i], spine.heights[j])
        if np.linalg.norm(spine.centres[j] - spine.centres[i]) <= _NEAR * height:
            yield LabelProblem(lower, "level shift", f"{upper} and {lower} are labels of the same vertebra")
        elif sound[i] and sound[j] and spine.centres[j, 1] > spine.centres[i, 1]:
            yield from _disc(spine, i, j)


def _disc(spine: _Spine, i: int, j: int) -> Iterator[LabelProblem]:
    upper, lower = spine.name(i), spine.name(j)
    height = max(spine.heights[i], spine.heights[j])
    gap = spine.corners[j, :2] - spine.corners[i, 2:]  # left and right
    if np.linalg.norm(gap, axis=1).max() < _SAME * height:
        text = f"the lower end plate of {upper} and the upper one of {lower} are the same"
        yield LabelProblem(lower, "duplicated endplate", text)
        return
    down = spine.centres[j] - spine.centres[i]
    sides = gap @ (down / np.linalg.norm(down)) / height
    if sides.mean() > _FAR:
        text = f"between {upper} and {lower} there is room for another vertebra: was one skipped?"
        yield LabelProblem(lower, "level shift", text)
    elif sides.min() < _DEEP:
        text = f"{upper} and {lower} overlap on the {'left' if sides[0] < sides[1] else 'right'}"
        yield LabelProblem(lower, "overlap", text)


def _outside(spine: _Spine, size: tuple[int, int]) -> Iterator[LabelProblem]:
    last = np.array([size[1], size[0]]) - 1 + _OUTSIDE
    out = np.any((spine.corners < -_OUTSIDE) | (spine.corners > last), axis=2)
    for i in np.flatnonzero(np.any(out, axis=1)):
        which = ", ".join(CORNERS[c] for c in np.flatnonzero(out[i]))
        text = f"{which} of {spine.name(i)} lie outside the image of {size[0]} x {size[1]} pixels (height x width)"
        yield LabelProblem(spine.name(i), "outside", text)
