"""The panels that figures of an edit are made of: loss, scores, class probabilities, weight change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Panel
from workbench.figures._theme import BLUE, FAINT, GREEN, GREY, PINK, RED, RIGHT, SKY, TEXT, VIOLET, WRONG
from workbench.figures._unit_map import what_a_bit_owns

if TYPE_CHECKING:
    from workbench.editing import EditResult, EditTrajectory

#: Fractions in a course: name, column of `EditTrajectory.to_frame`, colour, dash, marker.
_FRACTIONS = (
    ("p(target)", "target_probability", GREEN, "solid", "circle"),
    ("SR", "sr", PINK, "dot", "diamond"),
    ("GR", "gr", BLUE, "solid", "square"),
    ("LR", "lr", RED, "dash", "triangle-up"),
)
_MARKED = 40  # steps that are marked one by one; more would run together
_STRIPS = 192  # bins that the units of a matrix are shown in

CHANGE_SCALE = [[0, FAINT], [0.004, FAINT], [0.0041, SKY], [0.35, BLUE], [0.7, VIOLET], [1, RED]]

LOSS_AXES = Axes(
    {"title": {"text": "step"}, "showgrid": False}, {"type": "log", "tickformat": "~g", "dtick": 1}
)
FRACTION_AXES = Axes(
    {"title": {"text": "step"}, "showgrid": False}, {"range": [-0.04, 1.04], "tickvals": [0, 0.5, 1]}
)
PROBABILITY_AXES = Axes(
    {"range": [0, 1.2], "tickvals": [0, 0.5, 1], "title": {"text": "probability"}},
    {"autorange": "reversed", "ticklabelstandoff": 6},
)


def check_step(trajectory: EditResult, step: int) -> int:
    """The step as 0, 1, …; −1 is the last. Raises `InvalidInputError` outside the trajectory."""
    last = len(trajectory) - 1
    if not -len(trajectory) <= step <= last:
        raise InvalidInputError(f"step {step} is outside 0..{last}: the edit took {last} updates")
    return step % len(trajectory)


def recorded(trajectory: EditTrajectory) -> np.ndarray:
    """The change of each unit at each state, (states, matrices, units)."""
    if trajectory.row_change is None:
        raise InvalidInputError("this edit did not keep its weight changes; call Editor.edit(…, record=True)")
    return trajectory.row_change.numpy()


def draw_loss(panel: Panel, trajectory: EditResult, step: int | None) -> None:
    """Loss at each step, the loss at which the edit stops, and the marked step."""
    steps, losses = np.arange(len(trajectory)), trajectory.losses.numpy().clip(1e-6)
    trace = go.Scatter(
        x=steps,
        y=losses.round(6),
        mode=_mode(trajectory),
        line={"color": BLUE, "width": 2},
        marker={"size": 5},
        showlegend=False,
        hovertemplate="step %{x}<br>loss %{y:.4f}<extra></extra>",
    )
    panel.draw(trace)
    stop = trajectory.settings.get("stop_loss")
    if stop:
        panel.line_across(stop, color=TEXT, width=1.5, dash="dot")
        panel.text(
            f"stops at {stop:g}",
            0,
            np.log10(stop),
            xref=f"{panel.x} domain",
            xanchor="left",
            yanchor="bottom",
        )
    _mark(panel, trajectory, step, None if step is None else losses[step])


def draw_fractions(panel: Panel, trajectory: EditResult, step: int | None) -> None:
    """Target probability, SR, GR and LR at each step."""
    frame = trajectory.to_frame()
    for name, column, colour, dash, symbol in _FRACTIONS:
        if column not in frame or frame[column].isna().all():
            continue
        trace = go.Scatter(
            x=frame["step"].to_numpy(),
            y=frame[column].astype(float).to_numpy().round(4),
            mode=_mode(trajectory),
            name=name,
            line={"color": colour, "width": 2, "dash": dash},
            marker={"symbol": symbol, "size": 6},
            hovertemplate=f"step %{{x}}<br>{name} %{{y:.3f}}<extra></extra>",
        )
        panel.draw(trace)
    _mark(panel, trajectory, step, None)


def draw_probabilities(panel: Panel, trajectory: EditResult, step: int, top: int) -> None:
    """Bars of the likeliest classes at a step, hollow marks where they were at step 0."""
    values = trajectory.probabilities.numpy()
    target, first = int(trajectory.targets[0]), int(trajectory.predictions[0, 0])
    shown = np.argsort(-values.max(axis=0), kind="stable")[:top]
    names = [trajectory.class_names[c] for c in shown]
    colours = [RIGHT if c == target else WRONG if c == first else GREY for c in shown]
    panel.draw(
        go.Bar(
            x=values[step, shown].round(4),
            y=names,
            orientation="h",
            marker_color=colours,
            width=0.62,
            showlegend=False,
            hovertemplate="%{y}<br>probability %{x:.3f}<extra></extra>",
        )
    )
    panel.draw(
        go.Scatter(
            x=values[0, shown].round(4),
            y=names,
            mode="markers",
            marker={"symbol": "diamond-open", "size": 9, "color": TEXT, "line": {"width": 1.5}},
            showlegend=False,
            hovertemplate="%{y}<br>%{x:.3f} before the edit<extra></extra>",
        )
    )
    panel.draw(
        go.Scatter(
            x=np.full(len(names), 1.2),
            y=names,
            mode="text",
            text=[f"{v:.2f}" for v in values[step, shown]],
            textposition="middle left",
            textfont={"size": 12},
            showlegend=False,
            hoverinfo="skip",
        )
    )


def draw_change_strips(panel: Panel, trajectory: EditTrajectory, step: int) -> None:
    """One strip a matrix: how far the weights of neighbouring units have moved together."""
    changes, space = recorded(trajectory), trajectory.mask.space
    per_bin = -(-space.units // _STRIPS)
    bins = np.add.reduceat(changes**2, np.arange(0, space.units, per_bin), axis=2) ** 0.5
    starts = np.arange(0, space.units, per_bin)
    ranges = [f"{s}–{min(s + per_bin, space.units) - 1}" for s in starts.tolist()]
    names = [f"{a.removeprefix('blocks.')} {what_a_bit_owns(a)}s" for a in space.addresses]
    largest = float(bins.max()) or 1.0
    panel.draw(
        go.Heatmap(
            z=bins[step].astype(np.float32),
            x=ranges,
            y=names,
            colorscale=CHANGE_SCALE,
            zmin=0,
            zmax=largest,
            showscale=False,
            ygap=3,
            hovertemplate="blocks.%{y} %{x}<br>moved by %{z:.4f}<extra></extra>",
        )
    )
    totals = np.linalg.norm(changes[step], axis=1)
    for name, total in zip(names, totals, strict=True):
        panel.text(f"{total:.3f}", 1, name, xref=f"{panel.x} domain", xanchor="left", xshift=6)


def _mode(trajectory: EditResult) -> str:
    """A mark a step where there is room for it."""
    return "lines+markers" if len(trajectory) <= _MARKED else "lines"


def _mark(panel: Panel, trajectory: EditResult, step: int | None, loss: float | None) -> None:
    """A vertical line at the marked step, and a larger dot on the loss."""
    if step is None:
        return
    panel.line_down(step, color=GREY, width=1.5)
    if loss is not None:
        marker = {"size": 12, "color": BLUE, "line": {"color": TEXT, "width": 2}}
        panel.draw(
            go.Scatter(x=[step], y=[loss], mode="markers", marker=marker, showlegend=False, hoverinfo="skip")
        )
