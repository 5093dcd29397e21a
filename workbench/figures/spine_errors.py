"""Figures over many radiographs: detection rate, error of every level, agreement of angles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.data.vertebrae import LEVELS
from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Sheet
from workbench.figures._spine_cobb import ANGLES
from workbench.figures._spine_layers import HEAT
from workbench.figures._spine_traces import Trace, scatter
from workbench.figures._theme import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, TEXT
from workbench.spine.metrics import detection_curve, distances

_COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
_DASHES = ("solid", "dash", "dot", "dashdot")
_RADII = np.concatenate([np.arange(0, 10, 0.25), np.arange(10, 41, 1.0)])


def spine_detection(
    predicted: Mapping[str, np.ndarray],
    truth: np.ndarray,
    sizes: Sequence[tuple[int, int]] | None = None,
    title: str = "",
) -> go.Figure:
    """Share of landmarks within a radius of the truth, by method.

    Args:
        predicted: Corners (n, 17, 4, 2) by method.
        truth: True corners (n, 17, 4, 2).
        sizes: Height and width of every image; with them radii count pixels of the 704 x 384 frame, as published.
        title: Default: "Detection rate".

    Raises:
        InvalidInputError: no methods, or shapes that differ.
    """
    _check_methods(predicted)
    unit = "px" if sizes is None else "px of the 704 × 384 frame"
    sheet = Sheet(420, title or "Detection rate", f"{len(truth)} radiographs", t=84)
    axes = Axes(
        {"title": {"text": f"radius, {unit}"}, "range": [0, 40]}, {"range": [0, 102], "ticksuffix": " %"}
    )
    panel = sheet.panel(axes=axes)
    for i, (name, corners) in enumerate(predicted.items()):
        rates = detection_curve(corners, truth, _RADII, None if sizes is None else np.asarray(sizes))
        line = {"color": _COLOURS[i % 6], "width": 2, "dash": _DASHES[i // 6 % 4]}
        hover = f"{name}: %{{y:.1f}} % within %{{x:g}} px<extra></extra>"
        panel.draw(
            scatter(x=_RADII, y=rates.round(2), mode="lines", name=name, line=line, hovertemplate=hover)
        )
    return sheet.build(**sheet.legend_above(8))


def spine_level_errors(
    predicted: Mapping[str, np.ndarray], truth: np.ndarray, title: str = "", largest: float | None = None
) -> go.Figure:
    """Mean corner error of every level, a row a method, over all images.

    Args:
        predicted: Corners (n, 17, 4, 2) by method, or by image where n is 1.
        truth: True corners (n, 17, 4, 2); the same for each row, or one image a row.
        title: Default: "Error of every level".
        largest: Error in pixels of the last colour; by default the largest one.

    Raises:
        InvalidInputError: no methods, or shapes that differ.
    """
    _check_methods(predicted)
    rows = [_level_means(distances(corners, truth)) for corners in predicted.values()]
    values = np.array(rows).round(2)
    sheet = Sheet(
        110 + 26 * len(rows), title or "Error of every level", "mean over images, px", t=64, b=34, l=120
    )
    panel = sheet.panel(axes=Axes({"showgrid": False}, {"autorange": "reversed", "ticklabelstandoff": 6}))
    panel.draw(
        go.Heatmap(
            z=values,
            x=list(LEVELS),
            y=list(predicted),
            colorscale=HEAT,
            zmin=0,
            zmax=largest or float(np.nanmax(values)) or 1.0,
            xgap=2,
            ygap=2,
            text=[[f"{v:.1f}" for v in row] for row in values],
            texttemplate="%{text}",
            textfont={"size": 11},
            showscale=False,  # the numbers are written
            hovertemplate="%{y}, %{x}: %{z:.2f} px<extra></extra>",
        )
    )
    return sheet.build()


def _level_means(apart: np.ndarray) -> np.ndarray:
    """Mean over images and corners of (n, 17, 4), NaN where a level is never seen."""
    flat = np.moveaxis(apart, -2, 0).reshape(17, -1)
    seen = ~np.isnan(flat)
    return np.where(seen.any(1), np.nansum(flat, axis=1) / np.maximum(seen.sum(1), 1), np.nan)


def spine_agreement(
    predicted: np.ndarray, truth: np.ndarray, names: Sequence[str] = (), title: str = ""
) -> go.Figure:
    """Predicted against true angles, and their difference against their mean with bias and 95 % limits of agreement.

    Args:
        predicted: an1, an2, an3 of every image in degrees, (n, 3).
        truth: The same as labelled.
        names: Of the images, for reading them off.
        title: Default: "Agreement of the official angles".

    Raises:
        InvalidInputError: shapes that differ or are not (n, 3), or no images.

    Example:
        >>> spine_agreement(np.array([p.angles().values for p in predictions]), true_angles)
    """
    predicted, truth = _angles(predicted), _angles(truth)
    if predicted.shape != truth.shape:
        raise InvalidInputError(
            f"angles {predicted.shape} and {truth.shape} differ in shape; give one row an image"
        )
    texts = list(names) or [str(i) for i in range(len(truth))]
    apart = predicted - truth
    bias, spread = float(apart.mean()), 1.96 * float(apart.std(ddof=1)) if apart.size > 1 else 0.0
    note = f"{len(truth)} radiographs: bias {bias:+.1f}°, 95 % limits {bias - spread:+.1f}° to {bias + spread:+.1f}°"
    sheet = Sheet(440, title or "Agreement of the official angles", note, t=88)
    top = 1.05 * max(float(predicted.max()), float(truth.max()), 10.0)
    axes = Axes(
        {"title": {"text": "true, °"}, "range": [0, top]},
        {"title": {"text": "predicted, °"}, "range": [0, top]},
    )
    first = sheet.panel((0, 0.46), axes=axes)
    first.draw(_diagonal(top))
    second = sheet.panel(
        (0.56, 1),
        axes=Axes({"title": {"text": "mean of both, °"}}, {"title": {"text": "predicted − true, °"}}),
    )
    for i in range(3):
        first.draw(_points(truth[:, i], predicted[:, i], i, texts, legend=True))
        second.draw(_points((truth + predicted)[:, i] / 2, apart[:, i], i, texts, legend=False))
    for value, dash in ((bias, "solid"), (bias - spread, "dash"), (bias + spread, "dash")):
        second.line_across(value, color=TEXT, width=1.5, dash=dash)
    return sheet.build(**sheet.legend_above(8))


def _angles(values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or not len(array):
        raise InvalidInputError(f"angles have shape {array.shape}; expected (images, 3): an1, an2, an3")
    return array


def _points(x: np.ndarray, y: np.ndarray, i: int, texts: Sequence[str], *, legend: bool) -> Trace:
    return scatter(
        x=x.round(2),
        y=y.round(2),
        mode="markers",
        name=f"an{i + 1}",
        legendgroup=f"an{i + 1}",
        showlegend=legend,
        marker={"size": 7, "color": ANGLES[i], "symbol": ("circle", "square", "diamond")[i], "opacity": 0.8},
        text=list(texts),
        hovertemplate=f"%{{text}}<br>an{i + 1}: %{{x:.1f}}°, %{{y:.1f}}°<extra></extra>",
    )


def _diagonal(top: float) -> Trace:
    return scatter(
        x=[0, top],
        y=[0, top],
        mode="lines",
        line={"color": GREY, "width": 1.5},
        showlegend=False,
        hoverinfo="skip",
    )


def _check_methods(predicted: Mapping[str, np.ndarray]) -> None:
    if not predicted:
        raise InvalidInputError("no predictions to show; give at least one method")
