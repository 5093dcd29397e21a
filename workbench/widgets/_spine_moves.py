"""Landmarks that somebody moves: the prediction after every move, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.data.vertebrae import Corners, centres_of
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.spine.quality import quality_flags

if TYPE_CHECKING:
    from workbench.spine.results import SpinePrediction


class SpineMoves:
    """The history of one prediction.

    Args:
        radiograph: What the cascade looks at when a centre was moved.
        prediction: Where it begins.
        cascade: Finds the corners of a moved vertebra; None where centres stay.
    """

    def __init__(self, radiograph: Any, prediction: SpinePrediction, cascade: Any = None) -> None:
        self.radiograph, self.cascade = radiograph, cascade
        self._history = [prediction]

    def __len__(self) -> int:
        """How many moves can be taken back."""
        return len(self._history) - 1

    @property
    def result(self) -> SpinePrediction:
        """The prediction with what was moved."""
        return self._history[-1]

    def move_corner(self, level: int, corner: int, x: float, y: float) -> None:
        """Put a corner at a place in the image."""
        corners = self.result.corners.copy()
        corners[level, corner] = self._inside(x, y)
        self._keep(corners)

    def move_centre(self, level: int, x: float, y: float) -> None:
        """Put a centre at a place in the image; the cascade finds the corners of this vertebra anew."""
        if self.cascade is None:
            raise InvalidInputError(
                "a moved centre needs a cascade: SpineExplorer(radiograph, prediction, cascade=…)"
            )
        corners = self.result.corners.copy()
        centres = centres_of(corners)
        centres[level] = self._inside(x, y)
        corners[level] = self.cascade.refine(self.radiograph, centres, levels=[level])[level]
        self._keep(corners)

    def undo(self) -> None:
        """Take back the last move, if there is one."""
        del self._history[max(1, len(self)) :]

    def reset(self) -> None:
        """Take back all moves."""
        del self._history[1:]

    def _keep(self, corners: Corners) -> None:
        before = self.result
        last = replace(before.stages[-1], corners=corners, centres=centres_of(corners))
        flags = quality_flags(corners, before.size)
        self._history.append(replace(before, stages=(*before.stages[:-1], last), flags=flags))

    def _inside(self, x: float, y: float) -> tuple[float, float]:
        height, width = self.result.size
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise InvalidInputError(
                f"({x:g}, {y:g}) is outside the radiograph, {width} wide and {height} high"
            )
        return float(x), float(y)


def number_of(given: int | str, names: Sequence[str], kind: str) -> int:
    """A 0-based number, or the number of a name.

    Raises:
        UnknownNameError: no such name.
        InvalidInputError: a number out of range.
    """
    if isinstance(given, str):
        if given not in names:
            raise UnknownNameError(kind, given, names)
        return list(names).index(given)
    if not 0 <= int(given) < len(names):
        raise InvalidInputError(
            f"{kind} {given} is outside 0..{len(names) - 1}; or type a name such as {names[0]!r}"
        )
    return int(given)
