"""A widget to step through an edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import plotly.graph_objects as go
import traitlets

from workbench.errors import InvalidInputError
from workbench.figures import edit_step
from workbench.widgets._explorer import Explorer

if TYPE_CHECKING:
    from workbench.editing import EditTrajectory

_INTERVAL = 900  # milliseconds between two steps while playing


class EditStepper(Explorer):
    """One edit, step by step: everything about a step on one figure, with a slider and a play button.

    The edit has been made before: moving the slider only draws. The state is the trait `step`.

    Args:
        trajectory: The edit.
        group_images: The group's failures, (n, 3, H, W), in the order of the trajectory's evaluation.
        protected_images: The protected images, (m, 3, H, W), likewise.
        titles: Names of the group's images.

    Raises:
        InvalidInputError: not as many images as were evaluated; later, a step outside the trajectory.

    Example:
        >>> stepper = EditStepper(trajectory, group.images, protected.images)
        >>> stepper.go_to(3)
        >>> stepper
        EditStepper(step 3 of 7)
    """

    step = traitlets.Int(0, help="which state of the edit is shown; 0 is the unedited model")

    def __init__(
        self,
        trajectory: EditTrajectory,
        group_images: Sequence[Any] | None = None,
        protected_images: Sequence[Any] | None = None,
        titles: Sequence[str] = (),
    ) -> None:
        self.trajectory, self.titles = trajectory, tuple(titles)
        self.group_images, self.protected_images = group_images, protected_images
        self.snapshot()  # images that do not fit are an error here, not a message in the panel
        last = trajectory.steps
        play = ipywidgets.Play(min=0, max=last, interval=_INTERVAL, show_repeat=False)
        slider = ipywidgets.IntSlider(0, min=0, max=last, description="step", continuous_update=False)
        slider.layout.width = "480px"
        super().__init__([play, slider])
        for control in (slider, play):
            traitlets.link((self, "step"), (control, "value"))
        self.observe(self.redraw, "step")

    def go_to(self, step: int) -> None:
        """Show a state; negative steps count from the end, −1 is the last."""
        self.step = step + len(self.trajectory) if step < 0 else step

    def forward(self) -> None:
        """One step on; stays at the last."""
        self.step = min(self.step + 1, self.trajectory.steps)

    def back(self) -> None:
        """One step back; stays at 0."""
        self.step = max(self.step - 1, 0)

    def snapshot(self) -> go.Figure:
        """What is shown now, as a static figure."""
        return edit_step(self.trajectory, self.step, self.group_images, self.protected_images, self.titles)

    def __repr__(self) -> str:
        return f"EditStepper(step {self.step} of {self.trajectory.steps})"

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        value, last = proposal["value"], self.trajectory.steps
        if not 0 <= value <= last:
            raise InvalidInputError(f"step {value} is outside 0..{last}: the edit took {last} updates")
        return value
