"""A widget to look at the landmarks of a spine, stage by stage, and to move them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import plotly.graph_objects as go

from workbench.data.vertebrae import CORNERS, LEVELS, VERTEBRAE, Corners, centres_of
from workbench.errors import InvalidInputError
from workbench.figures import Display, View, spine_modes, spine_projection, spine_table, spine_view
from workbench.figures._radiograph import Film
from workbench.figures._spine_shapes import corners_of
from workbench.figures.spine_view import CENTRE, SURFACE, Family
from workbench.widgets._spine_controls import SpineControls
from workbench.widgets._spine_moves import SpineMoves, number_of
from workbench.widgets._spine_state import DRAWN, POINTS, SpineState

if TYPE_CHECKING:
    import pandas as pd

    from workbench.spine.angles import CobbAngles
    from workbench.spine.results import SpinePrediction


class SpineExplorer(SpineState):
    """One spine: its film under layers, the stages it was found in, its angles; corners and centres can be moved.

    Click a landmark to pick it, then click where it belongs: angles and errors follow at once. A moved centre lets the
    cascade find the corners of that vertebra anew. The state is in traits, which can be set from code as well as by
    hand. Research use, not for diagnosis.

    Args:
        radiograph: Grey, (H, W) in [0, 1] or bytes, or a radiograph or phantom that holds one.
        prediction: What a detector found, with its stages.
        truth: True corners (17, 4, 2) or a phantom.
        cascade: For moved centres and for the shape model; without one, neither is offered.
        display: Window, gamma and inversion at first, and how many bytes the picture may have.

    Raises:
        InvalidInputError: an image that is not grey or of another size than the prediction's; later, a state outside
            its range.

    Example:
        >>> explorer = SpineExplorer(phantom, prediction, truth=phantom, cascade=cascade)
        >>> explorer.move_corner("T5", "TL", 131.5, 240)
        >>> explorer.angles.an1, explorer.undo()
    """

    def __init__(
        self,
        radiograph: Any,
        prediction: SpinePrediction,
        truth: Any = None,
        cascade: Any = None,
        display: Display | None = None,
    ) -> None:
        self.film, self.truth = Film.of(radiograph), None if truth is None else corners_of(truth)
        if self.film.size != tuple(prediction.size):
            raise InvalidInputError(
                f"the radiograph is {self.film.size}, the prediction is for {tuple(prediction.size)}; give the image "
                "that was predicted"
            )
        self.prediction, self.shape_model = prediction, getattr(cascade, "shape_model", None)
        self._moves = SpineMoves(getattr(radiograph, "image", radiograph), prediction, cascade)
        self._waiting = self._requests = 0
        self._listening: set[str] = set()
        self._drawn_view = ""
        modes = 0 if self.shape_model is None else self.shape_model.components
        self.controls = SpineControls(len(prediction.stages), modes)
        shown = display or Display()
        self._budget = shown.budget
        state = {"window": shown.window, "gamma": shown.gamma, "invert": shown.invert}
        super().__init__(self.controls.rows(), stage=len(prediction.stages) - 1, **state)
        self.controls.link(self)
        self.controls.previous.on_click(lambda _: self.step_level(-1))
        self.controls.next.on_click(lambda _: self.step_level(1))
        self.controls.undo.on_click(lambda _: self.undo())
        self.controls.reset.on_click(lambda _: self.reset())
        self.observe(self._changed, DRAWN)

    @property
    def result(self) -> SpinePrediction:
        """The prediction with what was moved; can be saved."""
        return self._moves.result

    @property
    def corners(self) -> Corners:
        """Corners (17, 4, 2) with what was moved, in pixels."""
        return self.result.corners.copy()

    @property
    def angles(self) -> CobbAngles:
        """The official angles of `corners`; of the visible part where vertebrae are missing."""
        return self.result.angles()

    @property
    def moves(self) -> int:
        """How many moves can be taken back."""
        return len(self._moves)

    def to_frame(self) -> pd.DataFrame:
        """One row a level, with what was moved and, where there is a truth, its errors."""
        return spine_table(self.result, self.truth)

    def go_to_stage(self, stage: int) -> None:
        """Show a stage; negative ones count from the end, −1 is the last."""
        self.stage = stage + len(self.prediction.stages) if stage < 0 else stage

    def show_mode(self, mode: int, sigmas: float = 2.0) -> None:
        """Show what a mode of the shape model does to the mean spine."""
        with self._one_drawing():
            self.mode, self.sigmas, self.view = mode, sigmas, "modes"

    def select(self, level: int | str | None) -> None:
        """Select a vertebra, by 0-based number or name; None selects none."""
        with self._one_drawing():
            self.corner, self.level = None, None if level is None else number_of(level, LEVELS, "vertebra")

    def step_level(self, step: int) -> None:
        """Select the next vertebra (1) or the previous one (−1); T1 follows L5."""
        start = (-1 if step > 0 else VERTEBRAE) if self.level is None else self.level
        self.select((start + step) % VERTEBRAE)

    def pick(self, level: int | str, corner: int | str) -> None:
        """Pick a corner (``"TL"``, …) or ``"centre"`` of a vertebra; the next click on the film moves it."""
        k, c = number_of(level, LEVELS, "vertebra"), number_of(corner, POINTS, "landmark")
        with self._one_drawing():
            self.level, self.corner, self.stage = k, c, len(self.prediction.stages) - 1

    def release(self) -> None:
        """Pick nothing: the next click selects."""
        self.corner = None

    def move_corner(self, level: int | str, corner: int | str, x: float, y: float) -> None:
        """Put a corner where it belongs, in pixels of the radiograph.

        Raises:
            UnknownNameError: no such vertebra or corner.
            InvalidInputError: a place outside the radiograph.
        """
        k, c = number_of(level, LEVELS, "vertebra"), number_of(corner, CORNERS, "corner")
        self._moves.move_corner(k, c, x, y)
        self._moved(k)

    def move_centre(self, level: int | str, x: float, y: float) -> None:
        """Put a centre where it belongs and let the cascade find the corners of this vertebra again.

        Raises:
            UnknownNameError: no such vertebra.
            InvalidInputError: a place outside the radiograph, missing vertebrae, or an explorer without a cascade.
        """
        k = number_of(level, LEVELS, "vertebra")
        self._moves.move_centre(k, x, y)
        self._moved(k)

    def undo(self) -> None:
        """Take back the last move, if there is one."""
        self._moves.undo()
        self._moved(self.level)

    def reset(self) -> None:
        """Take back all moves."""
        self._moves.reset()
        self._moved(self.level)

    def snapshot(self) -> go.Figure:
        """What is shown now, as a static figure: without hidden layers and what only takes clicks."""
        figure = self.drawing()
        figure.data = [t for t in figure.data if t.visible in (None, True) and t.name != SURFACE]
        return figure

    def drawing(self) -> go.Figure:
        """What the live figure should look like: all layers, of which some are hidden, so that it changes in place."""
        if self.view == "film" or self.shape_model is None:
            view, display = self._shown(), self._display()
            return self._zoomed(spine_view(self.film, self.result, self.truth, view, display, self._title()))
        if self.view == "modes":
            return spine_modes(self.shape_model, self.mode, self.sigmas)
        return spine_projection(self.shape_model, self.result)

    def drawn(self) -> None:
        """Listen to clicks on what was drawn."""
        self._drawn_view = self.view
        self._listen()

    def __repr__(self) -> str:
        moved = f", {self.moves} moved" if self.moves else ""
        an1 = f"an1 {self.angles.an1:.1f}°"
        return f"SpineExplorer(stage {self.stage} of {len(self.prediction.stages) - 1}, {an1}{moved})"

    def _moved(self, level: int | None) -> None:
        """Show what was moved."""
        with self._one_drawing():
            self.level, self.corner, self.stage = level, None, len(self.prediction.stages) - 1
            self._changed()

    def _shown(self) -> View:
        return View(self.stage, self.layers, cast(Family, self.family), self.level, self.corner)

    def _display(self) -> Display:
        return Display(self.window, self.gamma, self.invert, self._budget)

    def _title(self) -> str:
        moved = (
            f" ({self.moves} moved)" if self.moves and self.stage == len(self.prediction.stages) - 1 else ""
        )
        return self.prediction.stages[self.stage].name + moved

    def _zoomed(self, figure: go.Figure) -> go.Figure:
        """The figure with the part of the film that is looked at now."""
        if self._drawn_view == "film":
            for axis in ("xaxis", "yaxis"):
                seen = self.figure.layout[axis].range
                figure.layout[axis].range = seen or figure.layout[axis].range
        return figure

    def _listen(self) -> None:
        """Take the clicks of traces that were not there before."""
        for trace in self.figure.data:
            if trace.name in (*POINTS, "centres", SURFACE) and trace.uid not in self._listening:
                self._listening.add(trace.uid)
                trace.on_click(self._clicked)

    def _clicked(self, trace: Any, points: Any, _: Any) -> None:
        """A click on a landmark picks it; beside landmarks it moves what is picked, or selects the nearest vertebra."""
        if not points.point_inds:
            return
        try:
            if trace.name != SURFACE:
                self.pick(points.point_inds[0], "centre" if trace.name == "centres" else trace.name)
            else:
                self._clicked_at(points.xs[0], points.ys[0])
        # Nobody sees what a callback raises, except here.
        except Exception as error:
            self.report(error)

    def _clicked_at(self, x: float, y: float) -> None:
        if self.level is not None and self.corner == CENTRE:
            self.move_centre(self.level, x, y)
        elif self.level is not None and self.corner is not None:
            self.move_corner(self.level, self.corner, x, y)
        else:
            away = np.linalg.norm(centres_of(self.corners) - [x, y], axis=1)
            self.select(int(np.nanargmin(away)))
