"""What looks wrong about a set of spine landmarks: named flags, each with its levels and a sentence.

The flags report; they mend nothing. They apply to predictions and to labels alike. Source: specification, sections
1.3 and 9.2 (invariant 23); the limits for widths, tilts and spacing are ours, set so that no drawn spine is flagged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.data.vertebrae import LEVELS, Corners, centres_of, check_corners, visible
from workbench.spine.angles import tilts_of

#: Largest share of the smaller vertebra that a neighbour may cover.
OVERLAP = 0.10
#: Smallest and largest height over the median height of the image.
HEIGHTS = (0.45, 2.0)
#: Smallest and largest width, and spacing, over the median of up to two levels above and below.
WIDTHS, SPACINGS = (0.6, 1.6), (0.55, 1.6)
#: Largest difference, degrees, between a tilt and the mean of its neighbours' tilts.
TILT_JUMP = 20.0

_ROUND = [0, 1, 3, 2]  # TL, TR, BR, BL: once round the vertebra


@dataclass(frozen=True)
class QualityFlag:
    """One thing that looks wrong.

    Args:
        name: ``"missing"``, ``"corner-order"``, ``"level-order"``, ``"not-convex"``, ``"overlap"``, ``"outside"``,
            ``"height"``, ``"width"``, ``"tilt-jump"`` or ``"level-shift"``.
        levels: The vertebrae it concerns, 0-based.
        text: A sentence for people, with the vertebrae's names.
    """

    name: str
    levels: tuple[int, ...]
    text: str


def quality_flags(corners: np.ndarray, size: tuple[int, int] | None = None) -> tuple[QualityFlag, ...]:
    """Everything that looks wrong about a spine's landmarks; empty where nothing does.

    Args:
        corners: (17, 4, 2) or (68, 2) pixels, NaN where not seen. Only neighbours that are both seen are compared.
        size: Height and width of the image, to find landmarks outside it; not looked for where None.

    Example:
        >>> [flag.text for flag in quality_flags(corners, (704, 384))]
        ['T12 and L1 overlap by 10 % or more.']
    """
    array = check_corners(corners)
    found = [(name, find(array), say) for name, find, say in _CHECKS]
    if size is not None:
        found.append(("outside", _outside(array, size), "{names} {reach} beyond the image."))
    return tuple(
        QualityFlag(name, levels, _sentence(text, levels)) for name, levels, text in found if len(levels)
    )


def passes_gate(corners: np.ndarray) -> bool:
    """Whether the landmarks can be a spine at all: convex vertebrae in order, neighbours overlapping by under 10 %.

    Source: specification, section 9.2, invariant 23. Vertebrae that are not seen are passed over.
    """
    array = check_corners(corners)
    return not any(len(find(array)) for find in (_not_convex, _corner_order, _level_order, _overlaps))


def gate_rate(spines: Iterable[np.ndarray]) -> float:
    """Share of spines that pass the gate, in [0, 1]; NaN for none."""
    passed = [passes_gate(corners) for corners in spines]
    return float(np.mean(passed)) if passed else float("nan")


def convex(quads: Float[np.ndarray, "*n 4 2"]) -> np.ndarray:
    """Whether quadrilaterals (TL, TR, BL, BR) are strictly convex without crossing themselves; False for NaN."""
    turns = _turns(quads)
    return np.asarray((turns > 0).all(-1) | (turns < 0).all(-1))


def overlap(first: Float[np.ndarray, "4 2"], second: Float[np.ndarray, "4 2"]) -> float:
    """Area shared by two convex vertebrae over the smaller one's area, in [0, 1].

    Example:
        >>> overlap(square, square + [0.5, 0])
        0.5
    """
    subject, frame = _clockwise(first), _clockwise(second)
    smaller = min(_area(subject), _area(frame))
    for a, b in zip(frame, np.roll(frame, -1, axis=0), strict=True):
        subject = _keep_right_of(subject, a, b)
        if len(subject) < 3:
            return 0.0
    return float(_area(subject) / smaller)


def _missing(corners: Corners) -> tuple[int, ...]:
    return _where(~visible(corners))


def _not_convex(corners: Corners) -> tuple[int, ...]:
    return _where(visible(corners) & ~convex(corners))


def _corner_order(corners: Corners) -> tuple[int, ...]:
    """Vertebrae whose left and right, or upper and lower corners are exchanged."""
    across = corners[:, [1, 3], 0].mean(1) - corners[:, [0, 2], 0].mean(1)
    down = corners[:, 2:, 1].mean(1) - corners[:, :2, 1].mean(1)
    return _where(visible(corners) & ((across <= 0) | (down <= 0)))


def _level_order(corners: Corners) -> tuple[int, ...]:
    """Vertebrae that do not lie below the one before them, along the main axis of the spine."""
    seen = np.flatnonzero(visible(corners))
    if len(seen) < 2:
        return ()
    centres = centres_of(corners[seen])
    axis = np.linalg.svd(centres - centres.mean(0))[2][0]
    steps = np.diff(centres @ (axis if axis[1] >= 0 else -axis))
    return tuple(int(k) for k in seen[1:][steps <= 0])


def _overlaps(corners: Corners) -> tuple[int, ...]:
    """Both vertebrae of each pair that overlaps too much."""
    good = convex(corners)
    pairs = [k for k in range(len(corners) - 1) if good[k] and good[k + 1]]
    bad = [k for k in pairs if overlap(corners[k], corners[k + 1]) >= OVERLAP]
    return tuple(sorted({*bad, *(k + 1 for k in bad)}))


def _heights(corners: Corners) -> tuple[int, ...]:
    heights = np.linalg.norm(corners[:, 2:] - corners[:, :2], axis=-1).mean(-1)
    return _where(_beyond(heights / _median(heights), HEIGHTS))


def _widths(corners: Corners) -> tuple[int, ...]:
    widths = np.linalg.norm(corners[:, [1, 3]] - corners[:, [0, 2]], axis=-1).mean(-1)
    return _where(_beyond(widths / _around(widths), WIDTHS))


def _tilt_jumps(corners: Corners) -> tuple[int, ...]:
    tilts = tilts_of(corners)
    middle = np.full(len(tilts), np.nan)
    middle[1:-1] = (tilts[:-2] + tilts[2:]) / 2
    middle[0], middle[-1] = 2 * tilts[1] - tilts[2], 2 * tilts[-2] - tilts[-3]
    apart = np.abs((tilts - middle + 180) % 360 - 180)
    apart[[0, -1]] /= 2  # two steps away from the middle of the two that foretell it
    return _where(apart > TILT_JUMP)


def _level_shifts(corners: Corners) -> tuple[int, ...]:
    """Both vertebrae of each pair that lies much farther apart, or nearer, than the pairs around it."""
    spacing = np.linalg.norm(np.diff(centres_of(corners), axis=0), axis=-1)
    bad = np.flatnonzero(_beyond(spacing / _around(spacing), SPACINGS))
    return tuple(sorted({*map(int, bad), *(int(k) + 1 for k in bad)}))


def _outside(corners: Corners, size: tuple[int, int]) -> tuple[int, ...]:
    """Vertebrae with a corner outside the pixels' area, which reaches half a pixel beyond the outer centres."""
    high = np.array([size[1], size[0]]) - 0.5
    return _where(((corners < -0.5) | (corners > high)).any((1, 2)))


_CHECKS: tuple[tuple[str, Callable[[Corners], tuple[int, ...]], str], ...] = (
    ("missing", _missing, "{names} {is_} not seen; angles are those of the other vertebrae."),
    ("corner-order", _corner_order, "Left and right or upper and lower corners of {names} are exchanged."),
    ("level-order", _level_order, "{names} {lies} above the vertebra before."),
    ("not-convex", _not_convex, "The outline of {names} crosses itself or is dented."),
    ("overlap", _overlaps, f"{{names}} overlap by {OVERLAP:.0%} or more."),
    (
        "height",
        _heights,
        f"{{names}} {{has}} under {HEIGHTS[0]} or over {HEIGHTS[1]:g} times the median height.",
    ),
    ("width", _widths, "{names} {is_} much wider or narrower than the vertebrae around."),
    ("tilt-jump", _tilt_jumps, f"{{names}} {{is_}} tilted over {TILT_JUMP:.0f}° away from the neighbours."),
    ("level-shift", _level_shifts, "The spacing of {names} suggests a vertebra left out or counted twice."),
)


def _sentence(text: str, levels: tuple[int, ...]) -> str:
    one = len(levels) == 1
    names = [LEVELS[k] for k in levels]
    said = names[0] if one else f"{', '.join(names[:-1])} and {names[-1]}"
    verbs = {"is_": "are is", "lies": "lie lies", "has": "have has", "reach": "reach reaches"}
    return text.format(names=said, **{name: both.split()[one] for name, both in verbs.items()})


def _where(mask: np.ndarray | np.bool) -> tuple[int, ...]:
    return tuple(int(k) for k in np.flatnonzero(mask))


def _beyond(ratio: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Outside the limits; NaN is not."""
    return (ratio < limits[0]) | (ratio > limits[1])


def _median(values: np.ndarray) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


def _around(values: np.ndarray, reach: int = 2) -> np.ndarray:
    """Median of the values up to `reach` places away, the place itself left out."""
    padded = np.pad(values.astype(float), reach, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return np.array([_median(np.delete(window, reach)) for window in windows])


def _turns(quads: np.ndarray) -> np.ndarray:
    """Cross products of successive sides once round, (…, 4): one sign where convex."""
    side = np.roll(quads[..., _ROUND, :], -1, axis=-2) - quads[..., _ROUND, :]
    after = np.roll(side, -1, axis=-2)
    return side[..., 0] * after[..., 1] - side[..., 1] * after[..., 0]


def _clockwise(quad: np.ndarray) -> np.ndarray:
    """The outline in the order in which the inside lies to the right on the screen."""
    outline = quad[_ROUND]
    return outline if (_turns(quad) > 0).all() else outline[::-1]


def _keep_right_of(outline: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The part of a convex outline on the right of the line from a to b (y down), (m, 2)."""
    side = (b[0] - a[0]) * (outline[:, 1] - a[1]) - (b[1] - a[1]) * (outline[:, 0] - a[0])
    kept: list[np.ndarray] = []
    for i in range(len(outline)):
        j = (i + 1) % len(outline)
        if side[i] >= 0:
            kept.append(outline[i])
        if side[i] * side[j] < 0:
            kept.append(outline[i] + (outline[j] - outline[i]) * side[i] / (side[i] - side[j]))
    return np.array(kept).reshape(-1, 2)


def _area(outline: np.ndarray) -> float:
    after = np.roll(outline, -1, axis=0)
    return float(abs((outline[:, 0] * after[:, 1] - outline[:, 1] * after[:, 0]).sum()) / 2)
