"""Images in figures: as PNG data, never as arrays of numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Panel
from workbench.figures._theme import LINE


def pixels(image: Any) -> np.ndarray:
    """An image (3, H, W) in [0, 1], tensor or array, as (H, W, 3) bytes.

    Raises:
        InvalidInputError: another shape.
    """
    values = np.asarray(image)
    if values.ndim != 3 or values.shape[0] != 3:
        raise InvalidInputError(f"an image to draw is (3, height, width), this one is {values.shape}")
    return np.ascontiguousarray((values.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0))


def png_uri(image: Any, side: int | None = None, colours: int = 64) -> str:
    """An image (3, H, W) in [0, 1] as a ``data:image/png`` address.

    Args:
        image: Tensor or array.
        side: Longer side in pixels that it is shrunk to; None keeps its size.
        colours: Size of the palette; 64 keep a drawing's look at a third of the bytes.
    """
    array = pixels(image)
    return _png(array.tobytes(), array.shape[:2], side, colours)


@lru_cache(maxsize=512)
def _png(data: bytes, size: tuple[int, int], side: int | None, colours: int) -> str:
    picture = Image.frombytes("RGB", (size[1], size[0]), data)
    if side is not None and side < max(size):
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture_axes(columns: float, rows: float) -> Axes:
    """Axes for pictures on a grid of square cells: x grows right, y down, one cell is one unit."""
    bare = {"visible": False, "fixedrange": True, "constrain": "domain"}
    return Axes(
        {**bare, "range": [0, columns], "constraintoward": "left"},
        {**bare, "range": [rows, 0], "constraintoward": "top"},
        square=True,
    )


def add_picture(
    panel: Panel, uri: str, x: float, y: float, size: float = 0.92, border: str = LINE, width: float = 1
) -> None:
    """Put a picture into the cell whose upper left corner is (x, y), with a border."""
    panel.picture(uri, x, y, size)
    panel.box(x, y, x + size, y + size, color=border, width=width)


def add_caption(panel: Panel, text: str, x: float, y: float, size: float = 0.92, **style: Any) -> None:
    """A small text under the cell whose upper left corner is (x, y)."""
    panel.text(text, x + size / 2, y + size, yanchor="top", yshift=-2, **style)


def add_badge(panel: Panel, text: str, x: float, y: float, size: float, colour: str) -> None:
    """A small sign in the upper right corner of a picture, so that its border's colour is not the only sign."""
    style = {"bgcolor": colour, "font": {"size": 10, "color": "#ffffff"}, "borderpad": 1}
    panel.text(text, x + size, y, xanchor="right", yanchor="top", **style)


def wrapped(text: str, width: int = 18) -> str:
    """Text broken into lines of at most `width` characters at spaces and hyphens, at most three lines."""
    lines = [""]
    for word in text.replace("-", "- ").split(" "):
        joined = lines[-1] + ("" if not lines[-1] or lines[-1].endswith("-") else " ") + word
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return "<br>".join(lines if len(lines) <= 3 else [*lines[:2], lines[2] + " …"])


def check_count(what: str, given: Sequence[Any], expected: int) -> None:
    """Raise `InvalidInputError` unless there are as many as expected."""
    if len(given) != expected:
        raise InvalidInputError(f"{len(given)} {what} for {expected} images; give one an image")
