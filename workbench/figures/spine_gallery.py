"""Several radiographs side by side with their landmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.data.vertebrae import Corners, centres_of
from workbench.errors import InvalidInputError
from workbench.figures._pictures import check_count, picture_axes
from workbench.figures._radiograph import Display, film_size, grey_uri
from workbench.figures._sheet import Panel, Sheet
from workbench.figures._spine_layers import FOUND, TRUE
from workbench.figures._spine_shapes import Errors, angles_of, corners_of, measured, outlines, xy
from workbench.figures._spine_traces import Trace, scatter
from workbench.figures._theme import RED

#: Pixels of a film's height; its width in heights; room for the caption; bytes and longest side of each picture.
_TALL, _WIDE, _CAPTION, _BUDGET, _LONGEST = 300, 0.58, 0.16, 3_000, 420


def spine_gallery(
    images: Sequence[Any],
    predictions: Sequence[Any],
    truths: Sequence[Any] = (),
    titles: Sequence[str] = (),
    columns: int = 6,
    display: Display | None = None,
    title: str = "",
) -> go.Figure:
    """Radiographs in a grid: predicted outlines blue, true ones yellow and dotted, an1 and the error below.

    Args:
        images: Grey, (H, W) each, of any sizes; each is fitted into its cell.
        predictions: One an image, or corners.
        truths: One an image, or none at all.
        titles: One an image, or none at all.
        columns: Films in a row at most.
        display: Window, gamma, inversion of all.
        title: Of the figure.

    Raises:
        InvalidInputError: no images, or not one prediction, truth and title an image.
    """
    if len(images) == 0:
        raise InvalidInputError("no radiographs to show; give at least one")
    for what, given in (("predictions", predictions), ("truths", truths), ("titles", titles)):
        if len(given) or what == "predictions":
            check_count(what, given, len(images))
    rows, across = math.ceil(len(images) / columns), max(4, min(columns, len(images)))
    pitch = 1 + _CAPTION
    sheet = Sheet(round(rows * pitch * _TALL) + 60, title or "Radiographs", t=52, b=8, l=4, r=4)
    panel = sheet.panel(axes=picture_axes(across * _WIDE, rows * pitch))
    places = [np.array([i % columns * _WIDE, i // columns * pitch]) for i in range(len(images))]
    for image, place in zip(images, places, strict=True):
        _lay(panel, image, place, replace(display or Display(), budget=_BUDGET))
    scales = [_scale(image) for image in images]
    found = _placed([corners_of(p) for p in predictions], scales, places)
    panel.draw(_outline(found, "predicted", FOUND))
    if len(truths):
        panel.draw(
            _outline(_placed([corners_of(t) for t in truths], scales, places), "true", TRUE, dash="dot")
        )
    captions = [_caption(i, images, predictions, truths, titles) for i in range(len(images))]
    panel.draw(_captions(captions, places))
    return sheet.build()


def _lay(panel: Panel, image: Any, place: np.ndarray, display: Display) -> None:
    height, width = film_size(image)
    size = {"sizex": width * _scale(image), "sizey": height * _scale(image), "sizing": "stretch"}
    where = {"x": round(float(place[0]), 4), "y": round(float(place[1]), 4), "xref": panel.x, "yref": panel.y}
    panel.sheet.images.append({"source": grey_uri(image, display, _LONGEST), **where, **size})


def _scale(image: Any) -> float:
    """Grid units a pixel: as high as a cell, or as wide where the film is wider than a cell."""
    height, width = film_size(image)
    return min(1 / height, (_WIDE - 0.02) / width)


def _placed(spines: Sequence[Corners], scales: Sequence[float], places: Sequence[np.ndarray]) -> np.ndarray:
    """Outlines of all spines in the grid's units, with gaps."""
    moved = [outlines((c + 0.5) * s + p) for c, s, p in zip(spines, scales, places, strict=True)]
    return np.concatenate(moved)


def _outline(points: np.ndarray, name: str, colour: str, **line: Any) -> Trace:
    style = {"color": colour, "width": 1.2, **line}
    return scatter(**xy(points), mode="lines", name=name, line=style, hoverinfo="skip", showlegend=False)


def _caption(
    i: int, images: Sequence[Any], predictions: Sequence[Any], truths: Sequence[Any], titles: Sequence[str]
) -> str:
    corners, size = corners_of(predictions[i]), film_size(images[i])
    true = corners_of(truths[i]) if len(truths) else None
    lines = [f"<b>{titles[i]}</b>"] if len(titles) else []
    lines.append(f"an1 {angles_of(measured(corners, size, true), size[0]).an1:.1f}°")
    if true is not None:
        error = float(np.nanmean(Errors.between(corners, true).corners))
        lines[-1] += f" (true {angles_of(true, size[0]).an1:.1f}°)"
        worse = error > 0.15 * float(np.nanmean(np.linalg.norm(np.diff(centres_of(true), axis=0), axis=1)))
        lines.append(
            f"off by {error:.1f} px"
            if not worse
            else f"<span style='color:{RED}'>✗ off by {error:.1f} px</span>"
        )
    return "<br>".join(lines)


def _captions(texts: Sequence[str], places: Sequence[np.ndarray]) -> Trace:
    return scatter(
        **xy(np.array(places) + np.array([0, 1.01])),
        mode="text",
        text=list(texts),
        textposition="bottom right",
        textfont={"size": 11},
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )
