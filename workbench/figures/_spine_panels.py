"""Panels beside a radiograph: tilt, error and stage curves, one row a vertebra where they have levels."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data.vertebrae import LEVELS, Corners, centres_of
from workbench.figures._sheet import Axes, Panel
from workbench.figures._spine_shapes import Errors
from workbench.figures._spine_traces import Trace, bars, scatter
from workbench.figures._theme import BLUE, ORANGE, PINK, RED, SKY, TEXT
from workbench.spine.angles import tilts_of

if TYPE_CHECKING:
    from workbench.spine.clinical import ClinicalAngles, Name
    from workbench.spine.results import SpinePrediction, Stage
    from workbench.spine.shape_model import ShapeModel

#: Tilts within this many degrees of the upright do not fill the panel.
_LEAST_TILT = 12.0

#: Clinical curves from top to bottom, and their colours.
_CURVES: dict[Name, str] = {"PT": SKY, "MT": ORANGE, "TL": PINK}

_LEVEL_AXIS = {
    "range": [16.6, -0.6],
    "tickvals": list(range(17)),
    "ticktext": list(LEVELS),
    "showgrid": False,
    "tickfont": {"size": 11},
    "ticklabelstandoff": 4,
}


def level_axes(title: str, **x: Any) -> Axes:
    """Axes with one row a vertebra, T1 above."""
    return Axes({"title": {"text": title}, "nticks": 5, **x}, _LEVEL_AXIS)


def tilt_axes(*shapes: Corners | None) -> Axes:
    """Axes for `draw_tilts`, symmetric about the upright."""
    largest = max(float(np.nanmax(np.abs(tilts_of(s)))) for s in shapes if s is not None)
    reach = 1.1 * max(_LEAST_TILT, largest)
    return level_axes("tilt, °", range=[-reach, reach], zeroline=True, zerolinecolor=TEXT)


def draw_tilts(panel: Panel, corners: Corners, truth: Corners | None = None) -> None:
    """Mid-line tilt of each vertebra, rings where the truth is."""
    rows = np.arange(17)
    if truth is not None:
        panel.draw(_profile(tilts_of(truth), rows, "true tilt", ORANGE, "circle-open", dash="dot"))
    panel.draw(_profile(tilts_of(corners), rows, "tilt", BLUE, "circle"))


def _profile(values: np.ndarray, rows: np.ndarray, name: str, colour: str, symbol: str, **line: Any) -> Trace:
    return scatter(
        x=values.round(2),
        y=rows,
        mode="lines+markers",
        name=name,
        showlegend=False,
        line={"color": colour, "width": 2, **line},
        marker={"symbol": symbol, "size": 8, "color": colour},
        text=LEVELS,
        hovertemplate=f"%{{text}} {name} %{{x:.1f}}°<extra></extra>",
    )


def draw_level_errors(panel: Panel, errors: Errors) -> None:
    """Mean corner error of each vertebra in pixels, and its largest corner error as a tick."""
    rows, means = np.arange(17), errors.levels
    panel.draw(
        bars(
            x=means.round(2),
            y=rows,
            orientation="h",
            width=0.7,
            showlegend=False,
            marker={"color": BLUE},
            text=[f"{LEVELS[k]}: centre off by {c:.1f} px" for k, c in enumerate(errors.centres)],
            textposition="none",
            hovertemplate="%{text}<br>corners off by %{x:.1f} px on average<extra></extra>",
        )
    )
    panel.draw(
        scatter(
            x=errors.corners.max(1).round(2),
            y=rows,
            mode="markers",
            showlegend=False,
            marker={"symbol": "line-ns", "size": 10, "line": {"width": 2, "color": RED}},
            hovertemplate="worst corner off by %{x:.1f} px<extra></extra>",
        )
    )


def severity_axes(found: ClinicalAngles, true: ClinicalAngles | None) -> Axes:
    """Axes for `draw_severity`: degrees, and one row a curve."""
    largest = max([50.0, *(1.15 * c.cobb for part in (found, true) if part for c in part.curves)])
    ticks = {"tickvals": [0, 10, 25, 40], "ticksuffix": "°"}
    texts = [f"{name}  {found.cobb(name):.1f}°" if found.cobb(name) else f"{name}  none" for name in _CURVES]
    rows = {"range": [2.6, -0.6], "tickvals": [0, 1, 2], "ticktext": texts, "showgrid": False}
    x = {"range": [0, largest], "showgrid": False, "title": {"text": "Cobb angle"}, **ticks}
    return Axes(x, {**rows, "ticklabelstandoff": 4})


def draw_severity(panel: Panel, found: ClinicalAngles, true: ClinicalAngles | None = None) -> None:
    """The Cobb angle of each curve on the bands none, mild, moderate, severe; rings are true."""
    for limit, name in ((0, "none"), (10, "mild"), (25, "moderate"), (40, "severe")):
        panel.line_down(limit, color=TEXT, width=1, dash="dot")
        panel.text(name, limit, 1, yref=f"{panel.y} domain", xanchor="left", yanchor="bottom", xshift=3)
    values = [found.cobb(name) for name in _CURVES]
    panel.draw(
        bars(
            x=np.round(values, 2),
            y=[0, 1, 2],
            orientation="h",
            width=0.5,
            showlegend=False,
            marker={"color": list(_CURVES.values())},
            hovertemplate="%{x:.1f}°<extra></extra>",
        )
    )
    if true is not None:
        rings = {"symbol": "circle-open", "size": 13, "color": TEXT, "line": {"width": 3}}
        panel.draw(
            scatter(
                x=np.round([true.cobb(name) for name in _CURVES], 2),
                y=[0, 1, 2],
                mode="markers",
                marker=rings,
                showlegend=False,
                hovertemplate="true %{x:.1f}°<extra></extra>",
            )
        )


def stage_errors(prediction: SpinePrediction, truth: Corners | None) -> tuple[np.ndarray, str]:
    """A number for each stage and its name: the error of what the stage moves, or, without truth, how far it moved it.

    Centre stages are judged by centres, corner stages by corners, in pixels.
    """
    stages = prediction.stages
    if truth is not None:
        target = centres_of(truth)
        values = [
            _mean_distance(s.corners, truth) if s.step == "corners" else _mean_distance(s.centres, target)
            for s in stages
        ]
        return np.array(values), "mean error, px"
    moved = [np.nan, *(_mean_distance(b.corners, a.corners) for a, b in pairwise(stages))]
    return np.array(moved), "moved, px"


def _mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.nanmean(np.linalg.norm(a - b, axis=-1)))


def draw_stage_errors(panel: Panel, prediction: SpinePrediction, stage: int, truth: Corners | None) -> None:
    """The course over the stages, with the shown one marked."""
    values, what = stage_errors(prediction, truth)
    steps = np.arange(len(values))
    names = [s.name for s in prediction.stages]
    panel.draw(
        scatter(
            x=steps,
            y=values.round(3),
            mode="lines+markers",
            showlegend=False,
            line={"color": BLUE, "width": 2},
            marker={"size": 7},
            text=names,
            hovertemplate=f"%{{text}}<br>{what} %{{y:.2f}}<extra></extra>",
        )
    )
    panel.line_down(stage, color=TEXT, width=1.5)
    marker = {"size": 13, "color": BLUE, "line": {"color": TEXT, "width": 2}}
    panel.draw(
        scatter(
            x=[stage],
            y=values[[stage]].round(3),
            mode="markers",
            marker=marker,
            showlegend=False,
            hoverinfo="skip",
        )
    )


def stage_axes(prediction: SpinePrediction, *, narrow: bool = False) -> Axes:
    """Axes for `draw_stage_errors`; errors span decades, so they are logarithmic."""
    stages = prediction.stages
    x: dict[str, Any] = {"tickvals": list(range(len(stages))), "showgrid": False, "tickangle": 0}
    x["range"] = [-0.4, len(stages) - 0.6]
    if narrow:
        first = next((i for i, s in enumerate(stages) if s.step == "corners"), len(stages))
        x["title"] = {"text": f"stage; corners from {first} on" if first < len(stages) else "stage"}
    else:
        x["ticktext"] = [s.name.replace(" ", "<br>") for s in stages]
    return Axes(x, {"type": "log", "tickformat": "~g", "dtick": "D2"})


def coefficient_axes(coefficients: np.ndarray | None) -> Axes:
    """Axes for `draw_coefficients`: ±3 standard deviations and some room."""
    count = 8 if coefficients is None else len(coefficients)
    reach = 3.6 if coefficients is None else max(3.6, 1.1 * float(np.abs(coefficients).max()))
    x = {"title": {"text": "mode"}, "range": [-0.6, count - 0.4], "dtick": 1 if count <= 20 else 5}
    return Axes({**x, "showgrid": False}, {"range": [-reach, reach], "tickvals": [-3, 0, 3]})


def draw_coefficients(panel: Panel, stage: Stage, shape_model: ShapeModel | None) -> None:
    """A stage's coefficients in standard deviations; a note where it has none."""
    if stage.coefficients is not None and shape_model is not None:
        draw_deviations(panel, stage.coefficients / np.sqrt(shape_model.variances), stage.clamped)
        return
    reason = "this stage has no shape model" if stage.coefficients is None else "no shape model given"
    panel.draw(_bars(np.empty(0), ()))
    panel.text(reason, 0.5, 0.5, xref=f"{panel.x} domain", yref=f"{panel.y} domain", font={"size": 12})


def draw_deviations(panel: Panel, deviations: np.ndarray, clamped: tuple[int, ...]) -> None:
    """Coefficients in standard deviations, those at their limit red and named."""
    panel.draw(_bars(deviations, clamped))
    for limit in (-3, 3):
        panel.line_across(limit, color=RED, width=1, dash="dot")
    if clamped:
        modes = ", ".join(str(mode) for mode in clamped)
        text = f"<span style='color:{RED}'>✕ at or beyond ±3 σ: mode {modes}</span>"
        place = {"xref": f"{panel.x} domain", "yref": f"{panel.y} domain", "xanchor": "right"}
        panel.text(text, 1, 1, yanchor="bottom", **place)


def _bars(deviations: np.ndarray, clamped: tuple[int, ...]) -> Trace:
    return bars(
        x=np.arange(len(deviations)),
        y=deviations.round(3),
        marker={"color": [RED if mode in clamped else BLUE for mode in range(len(deviations))]},
        width=0.7,
        showlegend=False,
        hovertemplate="mode %{x}: %{y:+.2f} σ<extra></extra>",
    )
