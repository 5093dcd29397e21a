"""A radiograph under a panel: grey, windowed, embedded once as a picture of bounded size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Panel

#: Bytes that an embedded radiograph may have, before base64 adds a third; and its longest side in pixels.
BUDGET, LONGEST = 40_000, 1024
_QUALITIES = (85, 75, 65, 55, 45, 35, 25)


@dataclass(frozen=True)
class Display:
    """How a radiograph is shown; the landmarks do not depend on it.

    Args:
        window: Grey values in [0, 1] that become black and white.
        gamma: Exponent after windowing; below 1 brightens the dark parts.
        invert: Show bones dark.
        budget: Bytes of the embedded picture at most.

    Raises:
        InvalidInputError: an empty window, values outside [0, 1], or a gamma that is not positive.

    Example:
        >>> spine_overlay(image, prediction, display=Display(window=(0.1, 0.8), gamma=0.7))
    """

    window: tuple[float, float] = (0.0, 1.0)
    gamma: float = 1.0
    invert: bool = False
    budget: int = BUDGET

    def __post_init__(self) -> None:
        low, high = self.window
        if not 0 <= low < high <= 1:
            raise InvalidInputError(f"window {self.window} cannot be shown; expected 0 <= low < high <= 1")
        if not 0.1 <= self.gamma <= 10:
            raise InvalidInputError(f"gamma {self.gamma} cannot be shown; expected 0.1 to 10")


@dataclass(frozen=True, eq=False)
class Film:
    """A radiograph made ready to be drawn again and again.

    Args:
        pixels: Bytes (h, w), at most `LONGEST` on a side.
        size: Height and width of the original, in whose pixels landmarks are.
    """

    pixels: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of(cls, image: Any) -> Film:
        """Make ready whatever `grey` takes."""
        picture = Image.fromarray(grey(image))
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        return cls(np.asarray(picture), film_size(image))


def film_size(image: Any) -> tuple[int, int]:
    """Height and width of a radiograph in its original pixels; one that was reduced when it was read says so."""
    size = getattr(image, "size", None)
    if isinstance(size, tuple):
        return int(size[0]), int(size[1])
    height, width = grey(image).shape
    return height, width


def grey(image: Any) -> np.ndarray:
    """A radiograph as bytes (H, W): an array in [0, 1] or of bytes, or anything with `pixels` or `image`.

    Raises:
        InvalidInputError: another shape, or values that are not finite.
    """
    values = np.asarray(getattr(image, "pixels", getattr(image, "image", image)))
    if values.ndim != 2 or min(values.shape) < 2:
        raise InvalidInputError(f"a radiograph to draw is grey, (height, width); this one is {values.shape}")
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all():
        raise InvalidInputError("a radiograph to draw must be finite; this one has NaN or infinite pixels")
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def grey_uri(image: Any, display: Display | None = None, longest: int = LONGEST) -> str:
    """A radiograph as a ``data:image/webp`` address, at most `longest` pixels on a side."""
    array = grey(image)
    return _picture(array.tobytes(), array.shape, display or Display(), longest)


@lru_cache(maxsize=32)
def _picture(data: bytes, size: tuple[int, int], display: Display, longest: int) -> str:
    values = _look_up(display)[np.frombuffer(data, np.uint8).reshape(size)]
    picture = Image.fromarray(values)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return "data:image/webp;base64," + base64.b64encode(_compress(picture, display.budget)).decode("ascii")


def _look_up(display: Display) -> np.ndarray:
    """The 256 grey values that are shown in place of 0…255."""
    low, high = display.window
    shown = ((np.arange(256) / 255 - low) / (high - low)).clip(0, 1) ** display.gamma
    return ((1 - shown if display.invert else shown) * 255 + 0.5).astype(np.uint8)


def _compress(picture: Image.Image, budget: int) -> bytes:
    """The best quality within the budget; noisy films shrink once quality alone does not suffice.

    WebP, which every browser shows, keeps a film's look at half of a JPEG's bytes.
    """
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "WEBP", quality=quality)
            if buffer.tell() <= budget or max(picture.size) < 64:
                return buffer.getvalue()
        picture = picture.resize((max(1, picture.width * 3 // 4), max(1, picture.height * 3 // 4)))


def radiograph_axes(size: tuple[int, int]) -> Axes:
    """Axes of image pixels: x grows right, y down, pixel centres at whole numbers.

    Where the panel has another shape the axes reach beyond the image: shrinking the panel instead would leave a live
    figure small when it shows something else and comes back.
    """
    bare = {"visible": False, "constrain": "range"}
    height, width = size
    return Axes(
        {**bare, "range": [-0.5, width - 0.5], "constraintoward": "left"},
        {**bare, "range": [height - 0.5, -0.5], "constraintoward": "top"},
        square=True,
    )


def draw_radiograph(panel: Panel, image: Any, display: Display | None = None) -> None:
    """Lay the radiograph under a panel with `radiograph_axes`."""
    height, width = film_size(image)
    place = {"x": -0.5, "y": -0.5, "sizex": width, "sizey": height, "xref": panel.x, "yref": panel.y}
    picture = {"source": grey_uri(image, display), "sizing": "stretch", **place}
    panel.sheet.images.append(picture)
