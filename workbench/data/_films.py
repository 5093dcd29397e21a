"""Image files of radiographs through Pillow, 8 or 16 bits, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from workbench.data._pixels import Stored, Values, block_mean, check_memory, reduction, to_unit
from workbench.data.images import explained

Result = TypeVar("Result")

_LIFTED = Lock()
_STRIP = 1 << 22  # pixels
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_ORIENTATION = 274  # EXIF
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF


def read_film(path: Path, *, as_stored: bool) -> Stored:
    """Read an image file; the camera's orientation is applied unless `as_stored`.

    JPEG files are reduced while they are decoded. Of other files the whole image is unpacked once, within
    `MAX_BYTES`. Values with more than 8 bits are brought to [0, 1] by their robust range.

    Raises:
        InvalidInputError: no such file, damaged, not an image, too small or too large.
    """
    with explained(path):
        return _of_any_size(path, lambda image: _read(image, path, as_stored))


def size_of(path: Path) -> tuple[int, int]:
    """Height and width as stored, from the file's header.

    Raises:
        InvalidInputError: no such file, or not an image.
    """
    with explained(path):
        return _of_any_size(path, lambda image: (image.height, image.width))


def _of_any_size(path: Path, use: Callable[[Image.Image], Result]) -> Result:
    """Open the file and use the image, without Pillow's limit where that is in the way.

    The limit counts pixels and is one for the whole process; what counts here is memory (`MAX_BYTES`).
    """
    try:
        with Image.open(path) as image:
            return use(image)
    except Image.DecompressionBombError:
        with _LIFTED:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                with Image.open(path) as image:
                    return use(image)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def _read(image: Image.Image, path: Path, as_stored: bool) -> Stored:
    if not as_stored:
        image = _upright(image, path)
    size = (image.height, image.width)
    factor = reduction(size, str(path))
    left = factor // _draft(image, factor)
    check_memory((image.height, image.width), _BYTES.get(image.mode, 4), str(path))
    inverted = image.mode in _DEEP and _white_is_zero(image)
    values = _values(image, left)
    return Stored(1 - values if inverted else values, factor, size, inverted)


def _upright(image: Image.Image, path: Path) -> Image.Image:
    if image.getexif().get(_ORIENTATION, 1) in (0, 1):
        return image
    check_memory((image.height, image.width), 2 * _BYTES.get(image.mode, 4), str(path))
    return ImageOps.exif_transpose(image)


def _draft(image: Image.Image, factor: int) -> int:
    """Let a JPEG file be reduced while it is decoded; the factor by which it will be."""
    before = image.size
    image.draft(None, (image.width // factor, image.height // factor))
    return 1 if image.size == before else min(factor, 8)


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF file's small values are bright; Pillow turns these round itself, but only with 8 bits."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _values(image: Image.Image, factor: int) -> Values:
    """The reduced image in [0, 1], (height, width) or (height, width, 3)."""
    if image.mode in _DEEP:
        return to_unit(_deep(image, factor))
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    values = np.asarray(image.reduce(factor), dtype=np.float32) / 255
    if values.ndim == 3 and values.shape[-1] == 4:
        return values[..., :3] * values[..., 3:]  # what is clear is black, like film outside the exposure
    return values


def _deep(image: Image.Image, factor: int) -> Values:
    """Block means of an image of more than 8 bits, a strip at a time: Pillow's arrays are copies."""
    image.load()
    rows = factor * max(1, _STRIP // (image.width * factor))
    tops = range(0, image.height, rows)
    boxes = ((0, top, image.width, min(top + rows, image.height)) for top in tops)
    return np.concatenate([block_mean(np.asarray(image.crop(box)), factor) for box in boxes])
