"""Everything about one spine on one figure: what the explorer shows."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from workbench.data.vertebrae import CORNERS, LEVELS, Corners, centres_of
from workbench.figures._radiograph import Display, draw_radiograph, film_size, radiograph_axes
from workbench.figures._sheet import Panel, Sheet
from workbench.figures._spine_cobb import draw_curve, draw_decision, draw_official
from workbench.figures._spine_layers import WHITE, draw_layers
from workbench.figures._spine_panels import (
    draw_level_errors,
    draw_severity,
    draw_stage_errors,
    draw_tilts,
    level_axes,
    severity_axes,
    stage_axes,
    stage_errors,
    tilt_axes,
)
from workbench.figures._spine_shapes import Errors, angles_of, corners_of, measured, xy
from workbench.figures._spine_traces import Trace, scatter
from workbench.figures.spine_angles import (
    clinical_text,
    comparison_text,
    decision_text,
    draw_pairs,
    write,
)
from workbench.figures.spine_stages import check_stage, draw_trails
from workbench.spine.clinical import clinical_angles

if TYPE_CHECKING:
    from workbench.spine.results import SpinePrediction

Family = Literal["official", "clinical", "none"]

#: Name of the trace that is clicked where no landmark is, and how finely it divides a pixel.
SURFACE, _FINE = "surface", 4
#: Position of the centre after the four corners, for what is picked.
CENTRE = len(CORNERS)
_HEIGHT = 800

#: Layers that are shown at first.
VIEWED = ("trails", "truth", "outlines", "corners", "levels", "flags")


@dataclass(frozen=True)
class View:
    """What is shown of a spine.

    Args:
        stage: 0 is the start, −1 the last.
        layers: Names of the layers over the film.
        family: Which angles are constructed on the film and explained beside it.
        level: Selected vertebra, 0-based, or None.
        corner: Picked landmark of it: 0…3 for a corner, 4 for the centre, or None.
    """

    stage: int = -1
    layers: tuple[str, ...] = VIEWED
    family: Family = "official"
    level: int | None = None
    corner: int | None = None


def spine_view(
    image: Any,
    prediction: SpinePrediction,
    truth: Any = None,
    view: View | None = None,
    display: Display | None = None,
    title: str = "",
) -> go.Figure:
    """Film with layers and constructed angles; beside it the tilts or curves, the stages, and the errors.

    Args:
        image: Grey, (H, W).
        prediction: With its stages.
        truth: True corners or a phantom.
        view: What is shown; by default the last stage with its official angles.
        display: Window, gamma, inversion.
        title: Default: the stage's name.

    Raises:
        InvalidInputError: an image that is not grey, or a stage that does not exist.
        UnknownNameError: a layer that does not exist.
    """
    view = view or View()
    stage, size = check_stage(prediction, view.stage), film_size(image)
    last = stage == len(prediction.stages) - 1
    shown = prediction.stages[stage].corners
    true = None if truth is None else corners_of(truth)
    errors = None if true is None else Errors.between(shown, true)
    sheet = Sheet(_HEIGHT, title or prediction.stages[stage].name, _note(view, errors), t=64, l=8, b=56)
    film = sheet.panel((0, 0.40), (0, sheet.inner + 48), axes=radiograph_axes(size))
    draw_radiograph(film, image, display)
    film.draw(_surface(size))  # first: a click counts for the last trace that it is as near to
    draw_trails(film, prediction, stage, visible="trails" in view.layers)
    flags = prediction.flags if last else ()
    draw_layers(film, shown, true, errors, flags, view.layers, others=True)
    _draw_selection(film, shown, view)
    if view.family == "clinical":
        _draw_clinical(sheet, film, shown, true, size)
    else:
        _draw_official(sheet, film, shown, true, size, constructed=view.family == "official")
    _draw_below(sheet, prediction, stage, true, errors)
    if view.corner is not None:
        _leave_clicks_to_the_surface(film)
    return sheet.build(showlegend=False, hoverdistance=8)


def _leave_clicks_to_the_surface(film: Panel) -> None:
    """While a landmark is picked, the next click says where it belongs, also beside other landmarks."""
    for trace in film.sheet.traces:
        if trace["type"] == "scatter" and trace["xaxis"] == film.x:
            trace["hoverinfo"] = "skip"
            trace.pop("hovertemplate", None)  # it would count more


def _note(view: View, errors: Errors | None) -> str:
    if view.level is not None and view.corner is not None:
        what = "centre" if view.corner == CENTRE else CORNERS[view.corner]
        return f"{what} of {LEVELS[view.level]} picked: click where it belongs"
    if errors is None:
        return "click a landmark to pick it"
    return f"corners off by {np.nanmean(errors.corners):.1f} px; click a landmark to pick it"


def _surface(size: tuple[int, int]) -> Trace:
    """An unseen picture, finer than the film's pixels, that takes the clicks beside landmarks."""
    fine = max(1, min(_FINE, 4096 // max(size)))
    step = 1 / fine
    first = -0.5 + step / 2
    source = _blank(size[0] * fine, size[1] * fine)
    return {"type": "image", "source": source, "x0": first, "y0": first, "dx": step, "dy": step, "name": SURFACE,
            "hoverinfo": "none"}  # fmt: skip


@lru_cache(maxsize=8)
def _blank(height: int, width: int) -> str:
    """A transparent picture; a few hundred bytes whatever its size."""
    buffer = io.BytesIO()
    picture = Image.new("P", (width, height), 0)
    picture.putpalette([0, 0, 0])
    picture.save(buffer, "PNG", transparency=0, bits=1, optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _draw_selection(panel: Panel, corners: Corners, view: View) -> None:
    """A frame of marks around the selected vertebra, and a target on the picked landmark."""
    places = np.empty((0, 2)) if view.level is None else corners[view.level]
    marker = {"symbol": "square-open", "size": 13, "color": WHITE, "line": {"width": 1.5}}
    panel.draw(_silent(places, marker))
    picked = np.empty((0, 2))
    if view.level is not None and view.corner is not None:
        picked = np.vstack([corners[view.level], centres_of(corners)[view.level]])[[view.corner]]
    target = {"symbol": "circle-cross-open", "size": 22, "color": "#F0E442", "line": {"width": 2}}
    panel.draw(_silent(picked, target))


def _silent(points: np.ndarray, marker: dict[str, Any]) -> Trace:
    return scatter(**xy(points), mode="markers", marker=marker, showlegend=False, hoverinfo="skip")


def _draw_official(
    sheet: Sheet,
    film: Panel,
    corners: Corners,
    true: Corners | None,
    size: tuple[int, int],
    *,
    constructed: bool,
) -> None:
    corners = measured(corners, size, true)
    angles = angles_of(corners, size[0])
    if constructed:
        draw_decision(film, corners, angles, size)
        draw_official(film, corners, angles, size)
    beside = sheet.panel((0.46, 0.67), (0, 380), "mid-line tilt, °", tilt_axes(corners, true))
    sheet.layout[f"xaxis{beside.number}"]["title"] = {"text": ""}
    draw_tilts(beside, corners, true)
    if not constructed:
        return
    draw_pairs(beside, corners, angles)
    text = comparison_text(angles, None if true is None else angles_of(true, size[0]))
    write(sheet, 0.70, 1, text + "<br><br>" + decision_text(angles, corners, size[0]))


def _draw_clinical(
    sheet: Sheet, film: Panel, corners: Corners, true: Corners | None, size: tuple[int, int]
) -> None:
    corners = measured(corners, size, true)
    found = clinical_angles(corners)
    expected = None if true is None else clinical_angles(true)
    for curve in found.curves:
        draw_curve(film, corners, curve, size)
    panel = sheet.panel((0.53, 1), (10, 190), axes=severity_axes(found, expected))
    draw_severity(panel, found, expected)
    write(sheet, 0.46, 1 - 245 / sheet.inner, clinical_text(found, true is not None))


def _draw_below(
    sheet: Sheet, prediction: SpinePrediction, stage: int, true: Corners | None, errors: Errors | None
) -> None:
    """The stages, and the error of every level where there is a truth."""
    rows = (455, sheet.inner)
    what = stage_errors(prediction, true)[1]
    right = 1.0 if errors is None else 0.70
    panel = sheet.panel((0.46, right), rows, what + " by stage", stage_axes(prediction, narrow=True))
    draw_stage_errors(panel, prediction, stage, true)
    if errors is not None:
        axes = level_axes("", rangemode="tozero")
        draw_level_errors(sheet.panel((0.78, 1), rows, "corner error, px", axes), errors)
