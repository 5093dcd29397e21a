"""Stored grey or colour values on their way to a radiograph: reduced, brought to [0, 1], made grey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from workbench.errors import InvalidInputError

#: A radiograph is reduced until no side is longer than this.
MAX_SIDE = 4096

#: A shorter side than this shows no vertebrae.
MIN_SIDE = 64

#: What an image may take in memory while it is read; one that needs more is refused.
MAX_BYTES = 1 << 30

#: Of grey and nearly grey images, 95 % of the pixels have channels that differ by less than this share of white.
MAX_SATURATION = 0.2

# Robust ends of the range of values, in per cent: markers and a burnt-out rim do not set the contrast.
_ENDS = (0.5, 99.5)
_SAMPLES = 1 << 21

Values = Float[np.ndarray, "height width"] | Float[np.ndarray, "height width 3"]


@dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds: grey or colour in [0, 1], reduced by a whole `factor` from `size` (height, width)."""

    values: Values
    factor: int
    size: tuple[int, int]
    inverted: bool = False
    spacing_mm: tuple[float, float] | None = None


def reduction(size: tuple[int, int], where: str) -> int:
    """The power of two by which an image of `size` (height, width) is reduced so that it fits `MAX_SIDE`.

    Raises:
        InvalidInputError: a side is shorter than `MIN_SIDE` pixels, before or after the reduction.
    """
    shape = f"{where} is {size[0]} pixels high and {size[1]} wide"
    if min(size) < MIN_SIDE:
        raise InvalidInputError(f"{shape}; a radiograph has at least {MIN_SIDE} pixels on each side")
    factor = 1 << (-(-max(size) // MAX_SIDE) - 1).bit_length()
    if min(size) // factor < MIN_SIDE:
        raise InvalidInputError(f"{shape}: too long and thin for a radiograph; cut out the spine first")
    return factor


def check_memory(size: tuple[int, int], bytes_per_pixel: float, where: str) -> None:
    """Raise `InvalidInputError` if unpacking an image of `size` (height, width) takes more than `MAX_BYTES`."""
    needed = size[0] * size[1] * bytes_per_pixel
    if needed > MAX_BYTES:
        raise InvalidInputError(
            f"{where} is {size[0]} pixels high and {size[1]} wide and would take {needed / 2**30:.1f} GiB, more "
            f"than {MAX_BYTES / 2**30:.0f}; scale it down first"
        )


def block_mean(values: np.ndarray, factor: int) -> Values:
    """Means of blocks of `factor` × `factor` pixels, float32; blocks at the right and lower rim may be smaller.

    The result has ceil(height / factor) rows: pixel i lies at (i + 0.5)·factor − 0.5 of the original.
    """
    if factor == 1:
        return values.astype(np.float32)
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], factor)
        counts = np.diff(starts, append=values.shape[axis]).astype(np.float32)
        sums = np.add.reduceat(values, starts, axis=axis, dtype=np.float32)
        values = sums / counts.reshape(-1, *(1,) * (sums.ndim - 1 - axis))
    return values


def to_unit(
    values: Float[np.ndarray, "height width"], ignore: Bool[np.ndarray, "height width"] | None = None
) -> Float[np.ndarray, "height width"]:
    """Bring values of unknown range to [0, 1] by their 0.5th and 99.5th percentile, clipped.

    Where these coincide the least and greatest value are used; constant values become 0. Pixels marked in
    `ignore` have no say in the range. What is not finite has none either, and becomes NaN.
    """
    finite = np.isfinite(values)
    counted = values[finite & ~ignore] if ignore is not None and not ignore.all() else values[finite]
    if counted.size == 0:
        return np.full_like(values, np.nan)
    counted = counted[:: max(1, counted.size // _SAMPLES)]
    low, high = np.percentile(counted, _ENDS)
    if not high > low:
        low, high = counted.min(), counted.max()
    span = float(high - low) or 1.0
    shown = np.clip((values - np.float32(low)) / np.float32(span), 0, 1)
    return np.where(finite, shown, np.float32(np.nan))


def saturation(colours: Float[np.ndarray, "height width 3"]) -> float:
    """How colourful an image is: the 95th percentile over pixels of greatest minus least channel, 0 to 1.

    A few coloured marks on a grey film do not count, a tint of the whole film counts by its strength.

    Example:
        >>> saturation(np.full((8, 8, 3), 0.5))
        0.0
    """
    return float(np.percentile(colours.max(-1) - colours.min(-1), 95))


def to_grey(values: Values, where: str, *, allow_colour: bool) -> Float[np.ndarray, "height width"]:
    """The mean of the channels of an image that is grey or nearly so; grey values come back as they are.

    Raises:
        InvalidInputError: the image is colourful and `allow_colour` is false.
    """
    if values.ndim == 2:
        return values
    found = saturation(values)
    if found > MAX_SATURATION and not allow_colour:
        raise InvalidInputError(
            f"{where} is not a radiograph: it is a colour image of saturation {found:.2f}, expected at most "
            f"{MAX_SATURATION}; to use it all the same: allow_colour=True"
        )
    return values.mean(-1)
