"""Images in figures: as PNG data, never as arrays of numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Panel
from workbench.figures._theme import LINE, SMALL


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


@dataclass(frozen=True)
class Picture:
    """A picture in the cell whose upper left corner is (x, y).

    Args:
        uri: What `png_uri` gives.
        x: Column.
        y: Row.
        caption: Small text below it.
        size: Side, as a fraction of a cell.
        border: Colour of its frame.
        width: Width of its frame in pixels.
        badge: A sign in its upper right corner, so that the border's colour is not the only sign.
    """

    uri: str
    x: float
    y: float
    caption: str = ""
    size: float = 0.92
    border: str = LINE
    width: float = 1
    badge: str = ""


def add_pictures(panel: Panel, pictures: Sequence[Picture], text_size: int = SMALL) -> None:
    """Draw pictures with their frames, captions and badges."""
    for picture in pictures:
        panel.picture(picture.uri, picture.x, picture.y, picture.size)
    looks = dict.fromkeys((p.border, p.width) for p in pictures)
    for border, width in looks:
        mine = [p for p in pictures if (p.border, p.width) == (border, width)]
        corners = [(p.x, p.y, p.x + p.size, p.y + p.size) for p in mine]
        panel.boxes(corners, color=border, width=width)
    if any(p.caption for p in pictures):
        _draw_captions(panel, pictures, text_size)
    if any(p.badge for p in pictures):
        _draw_badges(panel, pictures)


def _draw_captions(panel: Panel, pictures: Sequence[Picture], text_size: int) -> None:
    trace = go.Scatter(
        x=[round(p.x + p.size / 2, 3) for p in pictures],
        y=[round(p.y + p.size, 3) for p in pictures],
        mode="markers+text",
        marker={"size": 6, "opacity": 0},  # unseen: it keeps the text a few pixels off the picture
        text=[p.caption for p in pictures],
        textposition="bottom center",
        textfont={"size": text_size},
        **_SILENT,
    )
    panel.draw(trace)


def _draw_badges(panel: Panel, pictures: Sequence[Picture]) -> None:
    trace = go.Scatter(
        x=[round(p.x + p.size - 0.1, 3) for p in pictures],
        y=[round(p.y + 0.1, 3) for p in pictures],
        mode="markers+text",
        marker={"symbol": "square", "size": 15, "opacity": 1, "color": [p.border for p in pictures]},
        text=[p.badge for p in pictures],
        textfont={"size": 10, "color": "#ffffff"},
        **_SILENT,
    )
    panel.draw(trace)


#: Traces that only write on pictures.
_SILENT: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False, "cliponaxis": False}


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
