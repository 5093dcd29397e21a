"""Figures of images: grids, and the CutMix pairs that a hypernetwork is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._pictures import (
    Picture,
    add_pictures,
    check_count,
    picture_axes,
    png_uri,
    wrapped,
)
from workbench.figures._sheet import Panel, Sheet
from workbench.figures._theme import BLUE, ORANGE, SKY

if TYPE_CHECKING:
    from workbench.editing import BinaryMask, CutMix

_CELL, _LARGE = 118, 176  # pixels of a cell's side where the page is wide enough; the latter for few images
_CAPTION = 0.42  # of a cell
_PITCH = 1.04  # of a cell, from row to row without captions


def image_grid(
    images: Sequence[Any], titles: Sequence[str] = (), columns: int = 8, title: str = "", note: str = ""
) -> go.Figure:
    """Images side by side with a caption each.

    Args:
        images: (3, H, W) each, in [0, 1]; a tensor (n, 3, H, W) will do.
        titles: Captions, one an image, or none at all.
        columns: Images in a row at most.

    Raises:
        InvalidInputError: no images, or not one caption an image.
    """
    if len(images) == 0:
        raise InvalidInputError("no images to show; give at least one")
    if titles:
        check_count("titles", titles, len(images))
    few = len(images) <= min(columns, 4)
    cell, across = (_LARGE, 6) if few else (_CELL, max(6, min(columns, len(images))))
    pitch = 1 + (_CAPTION if titles else 0.06)
    rows = math.ceil(len(images) / columns) * pitch
    top = 44 if title else 8
    sheet = Sheet(round(rows * cell) + top, title, note, t=top, b=0, l=4, r=4)
    panel = sheet.panel(axes=picture_axes(across, rows))
    captions = [wrapped(title, cell // 6) for title in titles] or [""] * len(images)
    pictures = [
        Picture(png_uri(image), i % columns, round(i // columns * pitch, 3), caption)
        for i, (image, caption) in enumerate(zip(images, captions, strict=True))
    ]
    add_pictures(panel, pictures)
    return sheet.build()


def cutmix_pairs(
    hosts: Sequence[Any],
    donors: Sequence[Any],
    mixed: CutMix,
    masks: Sequence[BinaryMask] | None = None,
    title: str = "",
) -> go.Figure:
    """Host, donor and mixture of each pair, the pasted rectangle framed, and the density of its mask.

    Args:
        hosts: Images that keep what is outside the rectangle, (n, 3, H, W), in [0, 1].
        donors: Images that give what is inside.
        mixed: What `cutmix` made of them.
        masks: The mask that belongs to each mixture; shown as its density in each matrix.

    Raises:
        InvalidInputError: not as many of each.
    """
    n = len(mixed.images)
    for what, given in (("hosts", hosts), ("donors", donors), ("masks", masks)):
        if given is not None:
            check_count(what, given, n)
    rows = (4 if masks else 3) * _PITCH
    cell, across = (_CELL, n) if n > 6 else (140, 7)
    sheet = Sheet(round(rows * cell) + 56, title or "CutMix pseudo-failures", t=52, b=4, l=88)
    panel = sheet.panel(axes=picture_axes(across, rows))
    for row, (name, images) in enumerate((("host", hosts), ("donor", donors), ("mixture", mixed.images))):
        panel.text(name, 0, row * _PITCH + 0.46, xanchor="right", xshift=-8, font={"size": 12})
        add_pictures(panel, [Picture(png_uri(image), i, row * _PITCH) for i, image in enumerate(images)])
    _frame_rectangles(panel, mixed)
    if masks:
        _draw_densities(panel, masks)
    return sheet.build(barmode="overlay", legend={"x": 1, "xanchor": "right"})


def _frame_rectangles(panel: Panel, mixed: CutMix) -> None:
    """Frame what was pasted, in the donor and in the mixture."""
    height, width = mixed.images.shape[-2:]
    unit = np.array([mixed.patch[0] / height, mixed.patch[1] / width] * 2) * 0.92
    frames = []
    for column, rectangle in enumerate(mixed.rectangles.numpy()):
        top, left, tall, wide = (float(v) for v in rectangle * unit)
        for row in (1, 2):
            x, y = column + left, row * _PITCH + top
            frames.append((x, y, x + wide, y + tall))
    panel.boxes(frames, color=ORANGE, width=2)


def _draw_densities(panel: Panel, masks: Sequence[BinaryMask]) -> None:
    """Under each mixture, the density of its mask in each matrix: blocks from left to right."""
    densities = np.array([mask.density_per_matrix().to_numpy() for mask in masks])
    addresses = masks[0].space.addresses
    tallest, floor = float(densities.max()) or 1.0, 3 * _PITCH + 0.92
    step = 0.92 / len(addresses)
    panel.text(
        f"density of<br>the mask<br>(0 to {tallest:.2f})",
        0,
        floor - 0.46,
        xanchor="right",
        xshift=-8,
        align="right",
    )
    for matrix, colour in ((0, BLUE), (1, SKY)):
        chosen = range(matrix, len(addresses), 2)
        bars = go.Bar(
            x=[round(column + (k + 0.5) * step, 4) for column in range(len(masks)) for k in chosen],
            y=(-0.8 / tallest * densities[:, chosen]).ravel().round(4),
            base=floor,
            width=step * 0.8,
            marker_color=colour,
            name=f"fc{matrix + 1}",
            text=[f"{addresses[k]}<br>density {row[k]:.3f}" for row in densities for k in chosen],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
        panel.draw(bars)
