"""The three Cobb angles of the AASCE challenge, computed as its organisers do.

The angles are called an1, an2, an3 because the first is always the greatest, wherever it lies; clinical angles are
in `workbench.spine.clinical`. Everything is measured between vertebral mid-lines (from the middle of the left side to
the middle of the right side). Source: specification, section 5.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from workbench.data.vertebrae import LEVELS, check_corners, visible
from workbench.errors import InvalidInputError, UnknownNameError

Branch = Literal["C", "S-upper", "S-lower"]
Variant = Literal["official", "yi"]
Pair = tuple[int, int]

#: Fewest neighbouring vertebrae from which a curve's angles are taken.
FEWEST = 3


@dataclass(frozen=True)
class CobbAngles:
    """Three angles in degrees, and between which vertebrae each was measured.

    Args:
        an1: The greatest angle between any two vertebrae.
        an2: The angle above it (C: between the first vertebra and p).
        an3: The angle below it, or the second one above it in the S-lower branch.
        branch: ``"C"``, or for a curve that crosses its chord ``"S-upper"`` or ``"S-lower"``.
        p: Upper vertebra of an1, 0-based.
        q: Lower vertebra of an1, 0-based.
        r: Upper vertebra of an2 where the S-lower branch measures an3 from it, else None.
        variant: Which rules were followed; ``"visible"`` for a part of the spine.
        pairs: The two levels (upper, lower) of an1, an2 and an3.
        levels: First and last level that were looked at.
    """

    an1: float
    an2: float
    an3: float
    branch: Branch
    p: int
    q: int
    r: int | None
    variant: Literal["official", "yi", "visible"]
    pairs: tuple[Pair, Pair, Pair]
    levels: Pair = (0, len(LEVELS) - 1)

    @property
    def values(self) -> Float[np.ndarray, " 3"]:
        """an1, an2, an3 as an array."""
        return np.array([self.an1, self.an2, self.an3])


def tilts_of(corners: np.ndarray) -> np.ndarray:
    """Mid-line tilt of each vertebra, (…, 4, 2) to (…) degrees; positive is clockwise on the screen, NaN stays NaN."""
    line = _mid_lines(np.asarray(corners))
    return np.degrees(np.arctan2(line[..., 1], line[..., 0]))


def endplate_tilts_of(corners: np.ndarray) -> np.ndarray:
    """Tilts of the upper and lower endplates, (…, 4, 2) to (…, 2) degrees."""
    corners = np.asarray(corners)
    line = corners[..., [1, 3], :] - corners[..., [0, 2], :]
    return np.degrees(np.arctan2(line[..., 1], line[..., 0]))


def angle_matrix(corners: np.ndarray, variant: Variant = "official") -> np.ndarray:
    """Angles between all mid-lines, (V, 4, 2) to (V, V) degrees.

    The official cosines are rounded to 8 decimals, so angles near 0 move in steps of about 0.008°. The variant
    ``"yi"`` does not round, and clips cosines below 0: angles over 90° become 90°.

    Raises:
        InvalidInputError: a vertebra whose left and right sides coincide.
    """
    line = _mid_lines(np.asarray(corners, dtype=np.float64))
    length = np.sqrt((line**2).sum(-1))
    if not (length > 0).all():
        numbers = ", ".join(str(k) for k in np.flatnonzero(~(length > 0)))
        raise InvalidInputError(
            f"the left and right sides of vertebra {numbers} (0-based) coincide; it has no tilt"
        )
    cosine = (line @ line.T) / (length[:, None] * length[None, :])
    if variant == "yi":
        return np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0)))
    return np.degrees(np.arccos(np.clip(np.round(cosine, 8), -1.0, 1.0)))


def official_angles(corners: np.ndarray, height: float, variant: Variant = "official") -> CobbAngles:
    """The challenge's three angles of a whole spine.

    The rules look at the absolute y of the spine and at the image's height, so a crop, a shift or padding may change
    an3 (and nothing warns of an image that was resized unevenly: every angle is wrong then). Give points in pixels of
    the original image and its own height. Look at `workbench.spine.quality.quality_flags` first: a vertebra with
    left and right exchanged gives angles near 180°.

    Args:
        corners: (17, 4, 2) or (68, 2) in original pixels; no vertebra may be missing.
        height: Height of the original image in pixels.
        variant: ``"official"``, or ``"yi"`` for the widespread Python port: cosines clipped to [0, 1] instead of
            rounded, a tolerance of 1e-4 in the S test, and upper instead of lower endplates to choose between the
            two S branches. It is computed in double precision here.

    Raises:
        InvalidInputError: missing vertebrae (use `visible_angles`), a height that is not positive, or a vertebra
            without width.
        UnknownNameError: another variant.

    Example:
        >>> official_angles(corners, height=2500).branch
        'S-upper'
    """
    if variant not in ("official", "yi"):
        raise UnknownNameError("variant", variant, ["official", "yi"])
    array = check_corners(corners)
    if not visible(array).all():
        names = ", ".join(LEVELS[k] for k in np.flatnonzero(~visible(array)))
        raise InvalidInputError(
            f"the official angles need all 17 vertebrae, but {names} are missing (NaN); type visible_angles(corners, "
            "height) for the angles of the part that is seen"
        )
    return _measure(array, _checked(height), variant)


def visible_angles(corners: np.ndarray, height: float) -> CobbAngles:
    """Angles of the longest run of visible vertebrae by the official rules: ours, not part of the challenge.

    The first and last visible vertebrae take the places of T1 and L5; where no vertebra is missing the result equals
    `official_angles`, up to the name of the variant. Compare it only with the same function on the same levels.

    Raises:
        InvalidInputError: fewer than three neighbouring vertebrae are visible.
    """
    array = check_corners(corners)
    first, last = longest_run(visible(array))
    if last - first + 1 < FEWEST:
        raise InvalidInputError(
            f"at most {last - first + 1} neighbouring vertebrae are visible; curves need at least {FEWEST}"
        )
    return _measure(array[first : last + 1], _checked(height), "visible", first)


def longest_run(seen: np.ndarray) -> Pair:
    """First and last index of the longest run of True, the upper one of equals; (0, −1) without any.

    Example:
        >>> longest_run(np.array([True, False, True, True]))
        (2, 3)
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(seen, dtype=int), [0]])))
    if not len(edges):
        return 0, -1
    starts, ends = edges[::2], edges[1::2]
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best]) - 1


def _measure(
    corners: np.ndarray, height: float, variant: Literal["official", "yi", "visible"], first: int = 0
) -> CobbAngles:
    """The rules on any number of vertebrae; `first` is the level of the first one."""
    angles = angle_matrix(corners, "yi" if variant == "yi" else "official")
    upper_of = angles.argmax(axis=0)  # the first row on ties
    p = int(angles.max(axis=0).argmax())  # the first column on ties, so p is never below q
    q = int(upper_of[p])
    branch = _branch(corners, p, q, height, "yi" if variant == "yi" else "official")
    pairs, r = _pairs(angles, branch, p, q)
    an1, an2, an3 = (float(angles[pair]) for pair in pairs)
    shifted = tuple((a + first, b + first) for a, b in pairs)
    span = (first, first + len(corners) - 1)
    low = None if r is None else r + first
    return CobbAngles(an1, an2, an3, branch, p + first, q + first, low, variant, shifted, span)  # type: ignore[arg-type]


def _pairs(angles: np.ndarray, branch: Branch, p: int, q: int) -> tuple[tuple[Pair, Pair, Pair], int | None]:
    """Between which vertebrae each angle is measured, and r where it is used."""
    if branch == "C":
        return ((p, q), (0, p), (q, len(angles) - 1)), None
    r = int(angles[p, : p + 1].argmax())
    if branch == "S-upper":
        below = q + int(angles[q, q:].argmax())
        return ((p, q), (r, p), (q, below)), None
    above = int(angles[r, : r + 1].argmax())
    return ((p, q), (r, p), (above, r)), r


def _branch(corners: np.ndarray, p: int, q: int, height: float, variant: Variant) -> Branch:
    middles = corners.reshape(-1, 2, 2).mean(axis=1)  # upper and lower endplate of each vertebra in turn
    if not _crosses_chord(middles, tolerance=1e-4 if variant == "yi" else 0.0):
        return "C"
    which = 0 if variant == "yi" else 1
    return "S-upper" if middles[2 * p + which, 1] + middles[2 * q + which, 1] < height else "S-lower"


def _crosses_chord(middles: np.ndarray, tolerance: float) -> bool:
    """Whether endplate mid-points lie on both sides of the straight line from the first to the last.

    A chord that is exactly vertical divides by zero; the comparison with NaN is then false and the curve counts as S.
    """
    start, end = middles[0], middles[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (middles[:-2] - end) / (start - end)
        side = along[:, 1] - along[:, 0]
        products = np.outer(side, side)
        difference = abs(products.sum() - np.abs(products).sum())
    return not difference <= tolerance


def _mid_lines(corners: np.ndarray) -> np.ndarray:
    left, right = corners[..., [0, 2], :].mean(-2), corners[..., [1, 3], :].mean(-2)
    return right - left


def _checked(height: float) -> float:
    if not (np.isfinite(height) and height > 0):
        raise InvalidInputError(f"height is {height}; expected the image's height in pixels, above 0")
    return float(height)
