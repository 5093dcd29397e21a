"""Figures of the shape model: what a mode does to a spine, and how well the model describes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from workbench.data.vertebrae import LEVELS, Centres, Corners
from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Panel, Sheet
from workbench.figures._spine_cobb import ANGLES
from workbench.figures._spine_panels import coefficient_axes, draw_deviations
from workbench.figures._spine_shapes import angles_of, outlines, xy
from workbench.figures._spine_traces import bars, scatter
from workbench.figures._theme import BLUE, GREY, RED, TEXT

if TYPE_CHECKING:
    from workbench.spine.results import SpinePrediction
    from workbench.spine.shape_model import ShapeModel

#: Height and width of the frame that shapes are fractions of.
_HEIGHT, _WIDTH = 704, 384
#: Standard deviations to which a mode is followed; and half a body's width and height in spacings of centres.
LIMIT = 3.0
_HALF_BODY = (0.72, 0.39)


def spine_modes(shape_model: ShapeModel, mode: int = 0, sigmas: float = 2.0, title: str = "") -> go.Figure:
    """The mean spine and the spine that a mode makes of it, with the official angles on the way from −3 to +3.

    Args:
        shape_model: Of the 17 centres, as fractions of the frame's width and height.
        mode: 0 has the largest variance.
        sigmas: Coefficient in standard deviations; drawn in red from ±3 on, where predictions are held.
        title: Default: the mode and its share of the variance.

    Raises:
        InvalidInputError: a mode that the model does not have, or a model of something else.

    Example:
        >>> spine_modes(cascade.shape_model, mode=1, sigmas=-2)
    """
    check_mode(shape_model, mode)
    share = shape_model.variances[mode] / shape_model.variances.sum()
    held = "  — at the limit" if abs(sigmas) >= LIMIT else ""
    note = f"{share:.1%} of the variance kept; {sigmas:+.1f} σ{held}"
    sheet = Sheet(620, title or f"Mode {mode} of {shape_model.components}", note, t=64, l=8)
    draw_mode(sheet.panel((0, 0.34), axes=frame_axes()), shape_model, mode, sigmas)
    axes = Axes({"title": {"text": "coefficient, σ"}, "dtick": 1}, {"rangemode": "tozero", "ticksuffix": "°"})
    draw_mode_angles(sheet.panel((0.44, 0.98), (0, 240), "official angles", axes), shape_model, mode, sigmas)
    axes = Axes(
        {"title": {"text": "mode"}, "showgrid": False}, {"type": "log", "tickformat": ".1%", "dtick": 1}
    )
    shares = sheet.panel((0.44, 0.98), (320, sheet.inner), "share of the variance kept", axes)
    _draw_shares(shares, shape_model, mode)
    return sheet.build(legend={"x": 0.72, "y": 1, "yanchor": "bottom"})


def check_mode(shape_model: ShapeModel, mode: int) -> None:
    """Raise `InvalidInputError` unless the model is one of 17 centres and has the mode."""
    if len(shape_model.mean) != 34:
        raise InvalidInputError(
            f"this shape model is of {len(shape_model.mean)} numbers; expected 34, x and y of the 17 centres"
        )
    if not 0 <= mode < shape_model.components:
        raise InvalidInputError(f"mode {mode} is outside 0..{shape_model.components - 1}")


def frame_axes() -> Axes:
    """Axes of the frame, 704 high and 384 wide, y down."""
    bare = {"visible": False, "constrain": "range"}
    return Axes(
        {**bare, "range": [0, _WIDTH], "constraintoward": "left"},
        {**bare, "range": [_HEIGHT, 0], "constraintoward": "top"},
        square=True,
    )


def mode_centres(shape_model: ShapeModel, mode: int, sigmas: float) -> Centres:
    """Centres (17, 2) in frame pixels of the mean spine moved along one mode."""
    coefficients = np.zeros(shape_model.components)
    coefficients[mode] = sigmas * np.sqrt(shape_model.variances[mode])
    return centres_in_frame(shape_model.reconstruct(coefficients))


def centres_in_frame(shape: np.ndarray) -> Centres:
    """A shape vector (34,) as points of the frame in pixels."""
    return np.asarray(shape).reshape(17, 2) * [_WIDTH, _HEIGHT]


def laid_on(centres: Centres) -> Corners:
    """A vertebra of usual proportions on each centre, upright to the line through them."""
    along = np.gradient(centres, axis=0)
    across = np.stack([along[:, 1], -along[:, 0]], axis=1)  # as long as `along`: one spacing
    w, h = _HALF_BODY
    return np.stack(
        [centres + x * w * across + y * h * along for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1))], axis=1
    )


def draw_mode(panel: Panel, shape_model: ShapeModel, mode: int, sigmas: float) -> None:
    """The mean, the opposite, and the spine at a coefficient."""
    colour = RED if abs(sigmas) >= LIMIT else BLUE
    parts = (
        (0.0, "mean", {"color": GREY, "width": 1.5}),
        (-sigmas, f"{-sigmas:+.1f} σ", {"color": colour, "width": 1, "dash": "dot"}),
        (sigmas, f"{sigmas:+.1f} σ", {"color": colour, "width": 2.5}),
    )
    for value, name, line in parts:
        corners = laid_on(mode_centres(shape_model, mode, value))
        panel.draw(
            scatter(
                **xy(outlines(corners)),
                mode="lines",
                line=line,
                name=name,
                showlegend=False,
                hoverinfo="skip",
            )
        )


def draw_mode_angles(panel: Panel, shape_model: ShapeModel, mode: int, sigmas: float) -> None:
    """The three official angles of the redrawn spine over the coefficient; the shown one is marked."""
    steps = np.linspace(-LIMIT, LIMIT, 25)
    table = np.array([_mode_angles(shape_model, mode, s) for s in steps])
    now = _mode_angles(shape_model, mode, sigmas)
    for i, colour in enumerate(ANGLES):
        name = f"an{i + 1} {now[i]:.1f}°"
        panel.draw(
            scatter(
                x=steps,
                y=table[:, i].round(2),
                mode="lines",
                name=name,
                line={"color": colour, "width": 2.5},
                hovertemplate=f"an{i + 1} %{{y:.1f}}° at %{{x:+.2f}} σ<extra></extra>",
            )
        )
    panel.draw(
        scatter(
            x=[sigmas] * 3, y=now.round(2), mode="markers", marker={"size": 10, "color": list(ANGLES)},
            showlegend=False, hoverinfo="skip",
        )
    )  # fmt: skip
    panel.line_down(sigmas, color=TEXT, width=1.5)


def _mode_angles(shape_model: ShapeModel, mode: int, sigmas: float) -> np.ndarray:
    return angles_of(laid_on(mode_centres(shape_model, mode, sigmas)), _HEIGHT).values


def _draw_shares(panel: Panel, shape_model: ShapeModel, mode: int) -> None:
    shares = shape_model.variances / shape_model.variances.sum()
    colours = [BLUE if k == mode else GREY for k in range(len(shares))]
    panel.draw(
        bars(
            x=np.arange(len(shares)),
            y=shares.round(5),
            marker={"color": colours},
            showlegend=False,
            hovertemplate="mode %{x}: %{y:.2%}<extra></extra>",
        )
    )


def spine_projection(
    shape_model: ShapeModel,
    prediction: SpinePrediction | Centres,
    size: tuple[int, int] | None = None,
    title: str = "",
) -> go.Figure:
    """A spine and its nearest spine in the shape model: coefficients, those beyond ±3 in red, and what is left over.

    Args:
        shape_model: Of the 17 centres.
        prediction: What a detector found, or centres (17, 2) in image pixels.
        size: Height and width of the image, where `prediction` does not say.
        title: Default: the residual.

    Raises:
        InvalidInputError: no size, missing vertebrae, or a model of something else.
    """
    check_mode(shape_model, 0)
    found, nearest, coefficients = _project(shape_model, prediction, size)
    deviations = coefficients / np.sqrt(shape_model.variances)
    beyond = tuple(np.flatnonzero(shape_model.clamped(coefficients)).tolist())
    residual = np.linalg.norm(found - nearest, axis=1)
    note = f"centres {residual.mean():.1f} px from the model on average, {residual.max():.1f} at worst (in the frame)"
    sheet = Sheet(620, title or "Projected into the shape model", note, t=64, l=8)
    panel = sheet.panel((0, 0.34), axes=frame_axes())
    for centres, name, line in (
        (nearest, "nearest in the model", {"color": BLUE, "width": 2}),
        (found, "this spine", {"color": TEXT, "width": 2, "dash": "dot"}),
    ):
        shape = xy(outlines(laid_on(centres)))
        panel.draw(scatter(**shape, mode="lines", line=line, name=name, hoverinfo="skip"))
    axes, category = coefficient_axes(deviations), Axes({"type": "category"}, {"type": "linear"})
    above = sheet.panel((0.44, 0.98), (0, 240), "coefficients in standard deviations", axes)
    draw_deviations(above, deviations, beyond)
    _draw_residuals(
        sheet.panel((0.44, 0.98), (320, sheet.inner), "residual of each centre, px", category), residual
    )
    return sheet.build(legend={"x": 0, "y": 1, "yanchor": "bottom"})


def _project(
    shape_model: ShapeModel, prediction: Any, size: tuple[int, int] | None
) -> tuple[Centres, Centres, np.ndarray]:
    """Centres in the frame, the nearest ones within the model's limits, and the coefficients before the limits."""
    from workbench.spine.frames import Frame

    size = size or getattr(prediction, "size", None)
    if not isinstance(size, tuple):
        raise InvalidInputError(
            "bare centres need the image's size: spine_projection(model, centres, (height, width))"
        )
    centres = np.asarray(getattr(prediction, "centres", prediction), dtype=np.float64)
    if centres.shape != (17, 2) or not np.isfinite(centres).all():
        raise InvalidInputError(f"all 17 centres are needed, (17, 2) without NaN; these are {centres.shape}")
    found = Frame.of(size).forward(centres)
    coefficients = shape_model.project((found / [_WIDTH, _HEIGHT]).ravel())
    nearest = centres_in_frame(shape_model.reconstruct(shape_model.clamp(coefficients)))
    return found, nearest, coefficients


def _draw_residuals(panel: Panel, residual: np.ndarray) -> None:
    panel.draw(
        bars(
            x=list(LEVELS),
            y=residual.round(2),
            marker={"color": BLUE},
            showlegend=False,
            hovertemplate="%{x}: %{y:.2f} px<extra></extra>",
        )
    )
