"""The state of the spine explorer: traits that refuse what does not fit, and changes that are drawn once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.data.vertebrae import CORNERS, VERTEBRAE
from workbench.errors import InvalidInputError
from workbench.figures import Display
from workbench.figures._spine_layers import check_layers
from workbench.figures.spine_modes import LIMIT
from workbench.figures.spine_view import VIEWED
from workbench.widgets._explorer import Explorer

if TYPE_CHECKING:
    from workbench.spine.results import SpinePrediction
    from workbench.spine.shape_model import ShapeModel

#: Landmarks of a vertebra that can be picked.
POINTS = (*CORNERS, "centre")
#: Traits whose change is drawn.
DRAWN = (
    "stage",
    "layers",
    "window",
    "gamma",
    "invert",
    "family",
    "view",
    "mode",
    "sigmas",
    "level",
    "corner",
)


class SpineState(Explorer):
    """What is shown of a spine. Subclasses set `prediction`, `shape_model` and `_waiting` before they are drawn."""

    prediction: SpinePrediction
    shape_model: ShapeModel | None
    _waiting: int
    _requests: int

    stage = traitlets.Int(0, help="which stage is shown; 0 is the start")
    layers = traitlets.Tuple(VIEWED, help="names of the layers over the film")
    window = traitlets.Tuple((0.0, 1.0), help="grey values that become black and white, in [0, 1]")
    gamma = traitlets.Float(1.0, help="exponent after windowing; below 1 brightens the dark parts")
    invert = traitlets.Bool(False, help="show bones dark")
    family = traitlets.Enum(("official", "clinical", "none"), "official", help="which angles are constructed")
    view = traitlets.Enum(("film", "modes", "projection"), "film", help="the film, or the shape model")
    mode = traitlets.Int(0, help="mode of the shape model, 0 has the largest variance")
    sigmas = traitlets.Float(2.0, help="coefficient of the mode in standard deviations, -3 to 3")
    level = traitlets.Int(None, allow_none=True, help="selected vertebra, 0 for T1, or None")
    corner = traitlets.Int(
        None, allow_none=True, help="picked landmark: 0 to 3 a corner, 4 the centre, or None"
    )

    @contextmanager
    def _one_drawing(self) -> Iterator[None]:
        """Several changes of the state, drawn once."""
        self._waiting += 1
        before = self._requests
        try:
            yield
        finally:
            self._waiting -= 1
        if not self._waiting and self._requests != before:
            self.redraw()

    def _changed(self, *_: Any) -> None:
        self._requests += 1
        if not self._waiting:
            self.redraw()

    @traitlets.validate("stage", "mode", "level", "corner")
    def _checknumber_of(self, proposal: Any) -> int | None:
        name, value = proposal["trait"].name, proposal["value"]
        modes = 1 if self.shape_model is None else self.shape_model.components
        count = {
            "stage": len(self.prediction.stages),
            "mode": modes,
            "level": VERTEBRAE,
            "corner": len(POINTS),
        }[name]
        if value is not None and not 0 <= value < count:
            raise InvalidInputError(f"{name} {value} is outside 0..{count - 1}")
        return value

    @traitlets.validate("view")
    def _check_view(self, proposal: Any) -> str:
        if proposal["value"] != "film" and self.shape_model is None:
            raise InvalidInputError(
                "the shape model is the cascade's: SpineExplorer(radiograph, prediction, cascade=…)"
            )
        return str(proposal["value"])

    @traitlets.validate("sigmas")
    def _check_sigmas(self, proposal: Any) -> float:
        if not abs(proposal["value"]) <= LIMIT:
            raise InvalidInputError(f"sigmas {proposal['value']} is outside -{LIMIT:g}..{LIMIT:g}")
        return proposal["value"]

    @traitlets.validate("layers")
    def _check_layers(self, proposal: Any) -> tuple[str, ...]:
        return check_layers(proposal["value"])

    @traitlets.validate("window", "gamma")
    def _check_display(self, proposal: Any) -> Any:
        Display(**{proposal["trait"].name: proposal["value"]})
        return proposal["value"]
