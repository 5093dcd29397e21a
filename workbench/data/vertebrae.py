"""The vertebrae of a spine radiograph and their four corners: names, order, flips.

Landmarks travel as arrays (17, 4, 2): vertebra T1…L5 from top to bottom, corner, (x, y) in pixels of the original
image, x to the right, y down, (0, 0) the centre of the upper left pixel. A vertebra that cannot be seen is NaN.
Corners are named as they lie in the image: left is the image's left. Source: specification, section 1.1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from workbench.errors import InvalidInputError

LEVELS = tuple([f"T{i}" for i in range(1, 13)] + [f"L{i}" for i in range(1, 6)])
CORNERS = ("TL", "TR", "BL", "BR")
VERTEBRAE = len(LEVELS)

#: Where each corner goes when left and right change places.
_MIRRORED = [1, 0, 3, 2]

Corners = Float[np.ndarray, "17 4 2"]
Centres = Float[np.ndarray, "17 2"]


def check_corners(corners: object, *, missing: bool = True) -> Corners:
    """The corners as a float64 array (17, 4, 2).

    Args:
        corners: An array (17, 4, 2), or (68, 2) as label files hold it.
        missing: Whether vertebrae may be NaN, each as a whole.

    Raises:
        InvalidInputError: another shape, infinite numbers, or a vertebra of which a part is NaN.

    Example:
        >>> check_corners(np.zeros((68, 2))).shape
        (17, 4, 2)
    """
    array = np.asarray(corners, dtype=np.float64)
    if array.shape == (4 * VERTEBRAE, 2):
        array = array.reshape(VERTEBRAE, 4, 2)
    if array.shape != (VERTEBRAE, 4, 2):
        raise InvalidInputError(
            f"corners have shape {array.shape}; expected (17, 4, 2): T1 to L5, corners TL, TR, BL, BR, (x, y)"
        )
    absent = np.isnan(array)
    partly = [LEVELS[k] for k in range(VERTEBRAE) if absent[k].any() and not absent[k].all()]
    if partly or np.isinf(array).any():
        where = f"a part of {', '.join(partly)} is NaN" if partly else "some are infinite"
        raise InvalidInputError(
            f"corners must be finite: {where}; a vertebra that is not seen is NaN as a whole"
        )
    if absent.any() and not missing:
        names = [LEVELS[k] for k in np.flatnonzero(absent.any((1, 2)))]
        raise InvalidInputError(f"all 17 vertebrae are needed here, but {', '.join(names)} are missing (NaN)")
    return array


def visible(corners: Corners) -> np.ndarray:
    """Which vertebrae are there, as booleans (17,)."""
    return ~np.isnan(corners).any((1, 2))


def centres_of(corners: np.ndarray) -> np.ndarray:
    """Mean of the four corners of each vertebra: (…, 17, 4, 2) to (…, 17, 2)."""
    return corners.mean(-2)


def flip_corners(corners: np.ndarray, width: float) -> np.ndarray:
    """Landmarks of the image flipped left to right: x becomes width − 1 − x and left and right corners change places.

    Args:
        corners: (…, 17, 4, 2).
        width: Width of the image in pixels.

    Example:
        >>> flip_corners(flip_corners(corners, 384), 384) == corners  # everywhere
    """
    flipped = corners[..., _MIRRORED, :].copy()
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped


def reorder(points: np.ndarray) -> Corners:
    """Put 68 points in order: corners within each vertebra (left pair, right pair, upper first), then vertebrae by y.

    For labels whose four points of a vertebra stand together but in any order. Fails for tilts over about 60°.

    Args:
        points: (17, 4, 2) or (68, 2), without NaN.
    """
    array = check_corners(points, missing=False)
    ordered = np.empty_like(array)
    for k, four in enumerate(array):
        by_x = four[np.argsort(four[:, 0], kind="stable")]
        left, right = by_x[:2], by_x[2:]
        left, right = left[np.argsort(left[:, 1])], right[np.argsort(right[:, 1])]
        ordered[k] = left[0], right[0], left[1], right[1]
    return ordered[np.argsort(centres_of(ordered)[:, 1], kind="stable")]
