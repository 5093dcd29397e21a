"""Figures of one edit: its course, and its state at a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.figures._course_panels import (
    CHANGE_SCALE,
    FRACTION_AXES,
    LOSS_AXES,
    PROBABILITY_AXES,
    check_step,
    draw_fractions,
    draw_loss,
    draw_probabilities,
    recorded,
)
from workbench.figures._sheet import Sheet
from workbench.figures._unit_map import add_unit_maps, map_height

if TYPE_CHECKING:
    from workbench.editing import EditResult, EditTrajectory


def edit_course(trajectory: EditResult, step: int | None = None, title: str = "") -> go.Figure:
    """Loss at each step, and beside it the target's probability and SR, GR and LR where they were measured.

    Args:
        trajectory: The edit.
        step: Mark a step (−1 for the last); None marks none.
        title: Default: the outcome.
    """
    marked = None if step is None else check_step(trajectory, step)
    sheet = Sheet(380, title or "The edit", "" if title else trajectory.outcome(), t=76)
    draw_loss(sheet.panel((0, 0.46), title="loss", axes=LOSS_AXES), trajectory, marked)
    draw_fractions(sheet.panel((0.54, 1), axes=FRACTION_AXES), trajectory, marked)
    return sheet.build(legend={"x": 0.54, "y": 1, "yanchor": "bottom"})


def class_probabilities(trajectory: EditResult, step: int = -1, top: int = 6, title: str = "") -> go.Figure:
    """Probability of the likeliest classes at a step; hollow marks show the unedited model.

    The classes are those with the highest probability at any step, so they stay in place from step to step.
    """
    step = check_step(trajectory, step)
    sheet = Sheet(
        110 + 30 * top,
        title or "Class probabilities",
        f"step {step} of {trajectory.steps}, ◇ before the edit",
        l=130,
        b=40,
    )
    draw_probabilities(sheet.panel(axes=PROBABILITY_AXES), trajectory, step, top)
    return sheet.build()


def weight_change(trajectory: EditTrajectory, step: int = -1, title: str = "") -> go.Figure:
    """How far each hidden unit's weights have moved, on the same map as the masks.

    The colour scale is that of the whole edit, so that steps can be compared.

    Raises:
        InvalidInputError: the step is outside the trajectory, or the edit was made with `record=False`.
    """
    step, changes = check_step(trajectory, step), recorded(trajectory)
    space, largest = trajectory.mask.space, float(changes.max()) or 1.0
    now = changes[step]
    percent = np.ceil(100 * now / largest).astype(np.uint8)
    notes = [f"{np.linalg.norm(row):.4f} in {(row > 0).sum()} units" for row in now]
    note = f"step {step} of {trajectory.steps}, the most moved unit of the edit by {largest:.4f}"
    sheet = Sheet(44 + map_height(space) + 12, title or "Weight change", note, t=44, b=12, l=4, r=70)
    add_unit_maps(sheet, percent, space, notes, "moved %{z} % of the most moved unit")
    bar = {"ticksuffix": " %", "thickness": 12, "outlinewidth": 0, "tickfont": {"size": 12}}
    return sheet.build(coloraxis={"colorscale": CHANGE_SCALE, "cmin": 0, "cmax": 100, "colorbar": bar})
