"""Figures of a cascade's stages: where the landmarks are after each, and how the error falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from workbench.data.vertebrae import Corners
from workbench.errors import InvalidInputError
from workbench.figures._radiograph import Display, draw_radiograph, film_size, radiograph_axes
from workbench.figures._sheet import Axes, Panel, Sheet
from workbench.figures._spine_layers import TRUE, WHITE, draw_layers
from workbench.figures._spine_panels import (
    coefficient_axes,
    draw_coefficients,
    draw_stage_errors,
    stage_axes,
    stage_errors,
)
from workbench.figures._spine_shapes import corners_of, outlines, xy
from workbench.figures._spine_traces import Trace, scatter
from workbench.figures._theme import BLUE, GREEN, ORANGE, PINK, RED

if TYPE_CHECKING:
    from workbench.spine.results import SpinePrediction
    from workbench.spine.shape_model import ShapeModel

_HEIGHT = 760
_COLOURS = (BLUE, RED, GREEN, PINK, ORANGE)


def check_stage(prediction: SpinePrediction, stage: int) -> int:
    """The stage as 0, 1, …; −1 is the last. Raises `InvalidInputError` for one that the cascade does not have."""
    count = len(prediction.stages)
    if not -count <= stage < count:
        raise InvalidInputError(
            f"stage {stage} is outside 0..{count - 1}: this prediction has {count} stages"
        )
    return stage % count


def spine_stage(
    image: Any,
    prediction: SpinePrediction,
    stage: int = -1,
    truth: Any = None,
    shape_model: ShapeModel | None = None,
    display: Display | None = None,
    title: str = "",
) -> go.Figure:
    """The landmarks after a stage, the trails they came along, and the error of every stage.

    Args:
        image: Grey, (H, W).
        prediction: With its stages.
        stage: 0 is the start, −1 the last.
        truth: True corners or a phantom; without, the second panel shows how far each stage moved the landmarks.
        shape_model: That of the centres, to show the coefficients in standard deviations.
        display: Window, gamma, inversion.
        title: Default: the stage's name.

    Raises:
        InvalidInputError: an image that is not grey, or a stage that does not exist.

    Example:
        >>> spine_stage(phantom.image, prediction, 2, truth=phantom, shape_model=cascade.shape_model)
    """
    stage, true = check_stage(prediction, stage), None if truth is None else corners_of(truth)
    now = prediction.stages[stage]
    values, what = stage_errors(prediction, true)
    note = f"{what.split(',')[0]} {values[stage]:.1f} px" if np.isfinite(values[stage]) else "mean shape"
    heading = title or f"Stage {stage} of {len(prediction.stages) - 1}: {now.name}"
    sheet = Sheet(_HEIGHT, heading, note, t=64, l=8)
    panel = sheet.panel((0, 0.37), (0, sheet.inner + 36), axes=radiograph_axes(film_size(image)))
    draw_radiograph(panel, image, display)
    draw_trails(panel, prediction, stage)
    draw_layers(panel, now.corners, true, layers=("truth", "outlines", "levels"))
    half = sheet.inner // 2
    axes = stage_axes(prediction)
    draw_stage_errors(sheet.panel((0.45, 1), (0, half - 50), what, axes), prediction, stage, true)
    deviations = None
    if shape_model is not None and now.coefficients is not None:
        deviations = now.coefficients / np.sqrt(shape_model.variances)
    coefficients = sheet.panel((0.45, 1), (half + 30, sheet.inner), "shape coefficients in standard deviations",
                               coefficient_axes(deviations))  # fmt: skip
    draw_coefficients(coefficients, now, shape_model)
    return sheet.build(showlegend=False)


def draw_trails(panel: Panel, prediction: SpinePrediction, stage: int, *, visible: bool = True) -> None:
    """The start as a ghost, and the way of every centre, and of every corner since the corners move on their own."""
    stages = prediction.stages[: stage + 1]
    ghost = outlines(stages[0].corners)
    parts = [_line(ghost, WHITE, 1, 0.35, "start")]
    centres = np.stack([s.centres for s in stages], axis=1)
    parts.append(_line(_with_gaps(centres), TRUE, 1.5, 0.9, "way of the centres"))
    moving = [s.corners.reshape(68, 2) for s in prediction.stages[first_corners(prediction) : stage + 1]]
    corners = np.stack(moving, axis=1) if len(moving) > 1 else np.empty((0, 2, 2))
    parts.append(_line(_with_gaps(corners), PINK, 1.5, 0.9, "way of the corners"))
    for part in parts:
        part.update(visible=visible)
        panel.draw(part)


def first_corners(prediction: SpinePrediction) -> int:
    """The stage before the first corner stage: from there corners move on their own."""
    steps = [s.step for s in prediction.stages]
    return max(0, steps.index("corners") - 1) if "corners" in steps else len(steps)


def _with_gaps(ways: np.ndarray) -> np.ndarray:
    gap = np.full((len(ways), 1, 2), np.nan)
    return np.concatenate([ways, gap], axis=1).reshape(-1, 2)


def _line(points: np.ndarray, colour: str, width: float, opacity: float, name: str) -> Trace:
    line = {"color": colour, "width": width}
    return scatter(
        **xy(points), mode="lines", line=line, opacity=opacity, name=name, showlegend=False, hoverinfo="skip"
    )  # fmt: skip


def spine_stage_errors(
    predictions: Mapping[str, Sequence[SpinePrediction]], truths: Sequence[Corners], title: str = ""
) -> go.Figure:
    """Error after every stage over several images: the median, and a band from the first to the third quartile.

    Args:
        predictions: By method, one prediction an image; all of a method have as many stages.
        truths: True corners or phantoms, in the same order.
        title: Default: "Error by stage".

    Raises:
        InvalidInputError: nothing to show, or not one prediction an image.
    """
    if not predictions or not truths:
        raise InvalidInputError("no predictions to show; give at least one method and one image")
    sheet = Sheet(380, title or "Error by stage", f"{len(truths)} radiographs", t=84)
    first = next(iter(predictions.values()))[0]
    axes = stage_axes(first)
    panel = sheet.panel(axes=Axes(axes.x, {**axes.y, "title": {"text": "mean error, px"}}))
    for (name, found), colour in zip(predictions.items(), _COLOURS * len(predictions), strict=False):
        if len(found) != len(truths):
            raise InvalidInputError(
                f"{len(found)} predictions by {name!r} for {len(truths)} truths; give one each"
            )
        errors = np.array([stage_errors(p, corners_of(t))[0] for p, t in zip(found, truths, strict=True)])
        _draw_band(panel, errors, name, colour)
    return sheet.build(**sheet.legend_above(8))


def _draw_band(panel: Panel, errors: np.ndarray, name: str, colour: str) -> None:
    """Median and quartiles over images, (images, stages)."""
    low, middle, high = np.quantile(errors, [0.25, 0.5, 0.75], axis=0).round(3)
    steps = np.arange(len(middle))
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    panel.draw(
        scatter(
            x=np.concatenate([steps, steps[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            mode="lines",
            line={"width": 0},
            fillcolor=f"rgba({red}, {green}, {blue}, 0.18)",
            showlegend=False,
            hoverinfo="skip",
        )
    )
    panel.draw(
        scatter(
            x=steps,
            y=middle,
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2},
            hovertemplate=f"{name}: median %{{y:.2f}} px<extra></extra>",
        )
    )
