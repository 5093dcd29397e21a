"""Everything about one step of an edit on one figure, and the images around it that it fixes or breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._course_panels import (
    FRACTION_AXES,
    LOSS_AXES,
    PROBABILITY_AXES,
    check_step,
    draw_change_strips,
    draw_fractions,
    draw_loss,
    draw_probabilities,
)
from workbench.figures._neighbour_rows import neighbour_rows
from workbench.figures._pictures import Picture, add_pictures, picture_axes, png_uri
from workbench.figures._sheet import Axes, Panel, Sheet
from workbench.figures._theme import SMALL

if TYPE_CHECKING:
    from workbench.editing import EditTrajectory

_UPPER = 184  # pixels of the upper panels


def edit_step(
    trajectory: EditTrajectory,
    step: int = -1,
    group_images: Sequence[Any] | None = None,
    protected_images: Sequence[Any] | None = None,
    titles: Sequence[str] = (),
) -> go.Figure:
    """One step of an edit: image, class probabilities, loss, SR/GR/LR, weight change, and its neighbours.

    Args:
        trajectory: The edit, with its weight changes recorded.
        step: 0 is the unedited model, −1 the last state.
        group_images: The group's failures, (n, 3, H, W); with them and an evaluation, thumbnails are shown.
        protected_images: The images whose predictions should stay, (m, 3, H, W).
        titles: Names of the group's images.

    Raises:
        InvalidInputError: the step is outside the trajectory, or there are not as many images as were evaluated.
    """
    step = check_step(trajectory, step)
    rows = neighbour_rows(trajectory, step, group_images, protected_images, titles, lines=1)
    now = f"taken for {trajectory.predicted_name(step)!r}, loss {float(trajectory.losses[step]):.3f}"
    strips = 20 * len(trajectory.mask.space.addresses)
    top = _UPPER + 86
    below = top + strips + 40
    sheet = Sheet(
        below + sum(row.height for row in rows) + 76,
        f"Step {step} of {trajectory.steps}",
        now,
        t=72,
        b=4,
        l=8,
    )
    _draw_upper(sheet, trajectory, step)
    heading = "weight change of neighbouring units, on the right of the whole matrix"
    strip_axes = Axes({"visible": False}, {"autorange": "reversed", "ticklabelstandoff": 6})
    draw_change_strips(sheet.panel((0.14, 0.955), (top, top + strips), heading, strip_axes), trajectory, step)
    for row in rows:
        row.draw(sheet, below)
        below += row.height
    return sheet.build()


def neighbours(
    trajectory: EditTrajectory,
    step: int = -1,
    group_images: Sequence[Any] | None = None,
    protected_images: Sequence[Any] | None = None,
    titles: Sequence[str] = (),
    title: str = "",
) -> go.Figure:
    """Thumbnails of the group's failures, fixed or still wrong, and of protected images, broken or kept.

    Protected images that some step of the edit breaks come first. The same images stay in the same places at
    every step.

    Args:
        trajectory: An edit with an evaluation.
        step: 0 is the unedited model, −1 the last state.
        group_images: The group's failures, (n, 3, H, W), in the order of the evaluation.
        protected_images: The images whose predictions should stay, (m, 3, H, W).
        titles: Names of the group's images.

    Raises:
        InvalidInputError: nothing was evaluated, or there are not as many images as were evaluated.
    """
    step = check_step(trajectory, step)
    rows = neighbour_rows(trajectory, step, group_images, protected_images, titles)
    if not rows:
        raise InvalidInputError(
            "neighbours need an evaluated edit and images: Editor.edit(request, evaluate=EvaluationSet.build(…)), "
            "then neighbours(trajectory, step, group_images, protected_images)"
        )
    heading = title or "Neighbours of the edited image"
    sheet = Sheet(
        sum(row.height for row in rows) + 84, heading, f"step {step} of {trajectory.steps}", t=76, b=4, l=8
    )
    top = 0
    for row in rows:
        row.draw(sheet, top)
        top += row.height
    return sheet.build()


def _draw_upper(sheet: Sheet, trajectory: EditTrajectory, step: int) -> None:
    """The image, and its probabilities, loss and scores beside it."""
    rows = (0, _UPPER)
    _draw_image(sheet.panel((0, 0.14), rows, axes=picture_axes(1, 1.45)), trajectory, step)
    bars = sheet.panel((0.255, 0.455), rows, "class probabilities (◇ before the edit)", PROBABILITY_AXES)
    draw_probabilities(bars, trajectory, step, top=6)
    draw_loss(sheet.panel((0.52, 0.73), rows, "loss", LOSS_AXES), trajectory, step)
    draw_fractions(sheet.panel((0.775, 1), rows, axes=FRACTION_AXES), trajectory, step)
    sheet.layout["legend"] = {
        "x": 0.765,
        "y": 1,
        "yanchor": "bottom",
        "font": {"size": SMALL},
        "itemwidth": 30,
    }


def _draw_image(panel: Panel, trajectory: EditTrajectory, step: int) -> None:
    right = int(trajectory.predictions[step, 0]) == int(trajectory.targets[0])
    lines = [
        f"wanted: <b>{trajectory.target_name}</b>",
        f"before: {trajectory.predicted_name(0)}",
        f"now: {trajectory.predicted_name(step)} {'✓' if right else '✗'}",
    ]
    picture = Picture(png_uri(trajectory.images[0]), 0, 0, "<br>".join(lines), size=0.98)
    add_pictures(panel, [picture], text_size=12)
