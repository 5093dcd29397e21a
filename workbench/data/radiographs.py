"""Radiographs from files and arrays: one grey image, bones bright, with what is needed to map points back.

Files may be PNG, JPEG or TIFF with 8 or 16 bits, or DICOM where pydicom is installed. Nothing else is done to the
picture: no equalisation, no cropping, no scaling but by a whole number where a side is longer than 4096 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from workbench.data._dicom import is_dicom, read_dicom
from workbench.data._films import read_film
from workbench.data._pixels import Stored, block_mean, reduction, to_grey, to_unit
from workbench.data.images import check_images
from workbench.errors import InvalidInputError

_LEAST_CONTRAST = 1 / 255


@dataclass(frozen=True, eq=False)
class Radiograph:
    """A grey radiograph as it is shown: bones bright, values in [0, 1].

    Attributes:
        pixels: float32 (height, width), at most 4096 on a side.
        spacing_mm: distance of the centres of the original pixels down and across, in mm; None if not known.
        inverted: whether the stored values were dark where bones are, and were turned round.
        path: where it was read from; "array" for arrays.
        scale: sides of `pixels` by those of the original: 1, or 1/2, 1/4, … where it was too large.
        size: height and width of the original.

    Example:
        >>> film = read_radiograph("spine.png")
        >>> film.to_original(corners)  # of the model that saw film.pixels
    """

    pixels: Float[np.ndarray, "height width"]
    spacing_mm: tuple[float, float] | None
    inverted: bool
    path: str
    scale: float
    size: tuple[int, int]

    def to_original(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) as (x, y) in `pixels` to the original's: (p + 0.5) / scale − 0.5, exactly."""
        return (np.asarray(points, dtype=np.float64) + 0.5) / self.scale - 0.5

    def from_original(self, points: np.ndarray) -> np.ndarray:
        """The inverse of `to_original`."""
        return (np.asarray(points, dtype=np.float64) + 0.5) * self.scale - 0.5


def read_radiograph(path: str | Path, *, allow_colour: bool = False, as_stored: bool = False) -> Radiograph:
    """Read one radiograph.

    8 bits become value/255. More bits are brought to [0, 1] by their 0.5th and 99.5th percentile; of DICOM files the
    stored rescaling and window are used, where there are any. Colour files are read if they are grey or nearly so.
    A side of more than 4096 pixels is reduced by 2, 4, 8 … (means of blocks), and `scale` says so.

    Args:
        path: PNG, JPEG, TIFF, another format that Pillow reads, or DICOM.
        allow_colour: Take the mean of the channels of an image that is colourful.
        as_stored: Ignore the camera's orientation, as the labels of AASCE do.

    Raises:
        InvalidInputError: no such file; damaged or cut short; not an image; a colour image; the same value
            everywhere; NaN; a side under 64 pixels; more than 1 GiB to unpack; DICOM with several frames, with pixels
            that are not square, or compressed in a way that cannot be undone here.
        WorkbenchError: a DICOM file, and pydicom is not installed.

    Example:
        >>> read_radiograph("spine.jpg").pixels.shape
        (2500, 1000)
    """
    path = Path(path)
    stored = read_dicom(path) if is_dicom(path) else read_film(path, as_stored=as_stored)
    return _finished(stored, str(path), allow_colour)


def from_array(
    array: np.ndarray | torch.Tensor,
    *,
    spacing_mm: tuple[float, float] | None = None,
    allow_colour: bool = False,
) -> Radiograph:
    """Check an image that is in memory already, as `read_radiograph` checks a file.

    Args:
        array: (H, W), (1, H, W) or (3, H, W): uint8, floating point in [0, 1], or other whole numbers, which are
            brought to [0, 1] by their robust range.
        spacing_mm: Distance of pixel centres down and across, if known.
        allow_colour: As in `read_radiograph`.

    Raises:
        InvalidInputError: another shape or type, or values and content as in `read_radiograph`.

    Example:
        >>> from_array(np.random.rand(704, 384)).scale
        1.0
    """
    values = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array
    if not isinstance(values, np.ndarray):
        raise InvalidInputError(
            f"a radiograph must be a numpy array or a torch tensor, not {type(array).__name__}; from a file: "
            "read_radiograph(path)"
        )
    planes = _checked(values)
    size = (planes.shape[1], planes.shape[2])
    factor = reduction(size, "the array")
    values = block_mean(np.moveaxis(planes, 0, -1), factor)
    grey = values[..., 0] if values.shape[-1] == 1 else values
    if planes.dtype.kind in "iu":
        grey = grey / np.float32(255) if planes.dtype == np.uint8 else to_unit(grey)
    return _finished(Stored(grey, factor, size, False, spacing_mm), "array", allow_colour)


def _checked(values: np.ndarray) -> np.ndarray:
    """The array as (1, H, W) or (3, H, W)."""
    shape = values.shape
    expected = f"a radiograph must have shape (H, W), (1, H, W) or (3, H, W), not {shape}"
    if values.ndim == 3 and shape[0] not in (1, 3) and shape[2] in (1, 3):
        raise InvalidInputError(f"{expected}; move the channels: np.moveaxis(array, -1, 0)")
    if values.ndim == 4 and shape[0] == 1:
        raise InvalidInputError(f"{expected}; take it out of its batch: array[0]")
    if values.ndim not in (2, 3) or (values.ndim == 3 and shape[0] not in (1, 3)) or 0 in shape:
        raise InvalidInputError(expected)
    if values.dtype.kind not in "iuf":
        raise InvalidInputError(
            f"a radiograph must hold numbers, not {values.dtype}; array.astype(np.float32)"
        )
    planes = values if values.ndim == 3 else values[None]
    if values.dtype.kind == "f":
        check_images(torch.from_numpy(planes.astype(np.float32))[None], channels=len(planes))
    return planes


def _finished(stored: Stored, where: str, allow_colour: bool) -> Radiograph:
    if not np.isfinite(stored.values).all():
        bad = int((~np.isfinite(stored.values)).sum())
        raise InvalidInputError(f"{where} has {bad} values that are NaN or infinite; expected numbers only")
    pixels = to_grey(stored.values, where, allow_colour=allow_colour)
    if np.ptp(pixels) < _LEAST_CONTRAST:
        raise InvalidInputError(
            f"{where} is not a radiograph: it has the same value ({float(pixels.mean()):.3g}) everywhere"
        )
    pixels = np.clip(pixels, 0, 1).astype(np.float32)
    scale = 1 / stored.factor
    return Radiograph(pixels, stored.spacing_mm, stored.inverted, where, scale, stored.size)
