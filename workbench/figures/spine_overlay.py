"""A radiograph with landmarks over it, alone or several side by side."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from workbench.data.vertebrae import Corners
from workbench.figures._radiograph import Display, draw_radiograph, film_size, radiograph_axes
from workbench.figures._sheet import Sheet
from workbench.figures._spine_layers import SHOWN, draw_layers
from workbench.figures._spine_panels import draw_level_errors, draw_tilts, level_axes, tilt_axes
from workbench.figures._spine_shapes import Errors, corners_of

if TYPE_CHECKING:
    from workbench.spine.results import SpinePrediction

_HEIGHT = 760


def spine_overlay(
    image: Any,
    prediction: SpinePrediction | Corners,
    truth: Any = None,
    layers: Collection[str] = SHOWN,
    display: Display | None = None,
    title: str = "",
    *,
    others: bool = True,
) -> go.Figure:
    """Landmarks over a radiograph, in layers that the legend hides and shows; beside it the tilt of every vertebra.

    A predicted landmark is a filled dot, a true one a ring; their colours are the corners' roles.

    Args:
        image: Grey, (H, W) in [0, 1] or bytes, or a radiograph or phantom that holds one.
        prediction: What a detector found, or corners (17, 4, 2) in image pixels, NaN where not visible.
        truth: True corners, or a phantom; with them errors are drawn, and listed for each vertebra.
        layers: Names of `LAYERS` to show at first.
        display: Window, gamma, inversion.
        title: Default: the detector's name.
        others: Keep the other layers in the legend; without them the figure is smaller.

    Raises:
        InvalidInputError: an image that is not grey, corners of another shape, or nothing to compare.
        UnknownNameError: a layer that does not exist.

    Example:
        >>> spine_overlay(phantom.image, cascade.predict(phantom.image), truth=phantom)
    """
    corners = corners_of(prediction)
    true = None if truth is None else corners_of(truth)
    errors = None if truth is None else Errors.between(prediction, true)
    heading = title or getattr(prediction, "model", "") or "Landmarks"
    sheet = Sheet(_HEIGHT, heading, _note(prediction, errors), t=64, b=44, l=8)
    panel = sheet.panel((0, 0.37), (0, sheet.inner + 36), axes=radiograph_axes(film_size(image)))
    draw_radiograph(panel, image, display)
    draw_layers(panel, corners, true, errors, _flags(prediction), layers, others=others)
    if errors is None:
        draw_tilts(sheet.panel((0.57, 0.98), title="tilt", axes=tilt_axes(corners)), corners)
    else:
        beside = sheet.panel((0.57, 0.76), title="tilt (ring: truth)", axes=tilt_axes(corners, true))
        draw_tilts(beside, corners, true)
        axes = level_axes("px", rangemode="tozero")
        draw_level_errors(sheet.panel((0.82, 1), title="corner error, mean and worst", axes=axes), errors)
    return sheet.build(legend=side_legend(0.385))


def side_legend(x: float) -> dict[str, Any]:
    """A vertical legend whose left edge is a fraction of the width."""
    look = {
        "bgcolor": "#2b2f36",
        "font": {"size": 12, "color": "#e6e8eb"},
    }  # as dark as a film: some layers are white
    return {"orientation": "v", "x": x, "y": 1, "yanchor": "top", "tracegroupgap": 0, **look}


def _note(prediction: Any, errors: Errors | None) -> str:
    if errors is None:
        flags = _flags(prediction)
        return f"{len(flags)} quality flag{'s' * (len(flags) != 1)}" if flags else ""
    return f"corners off by {np.nanmean(errors.corners):.1f} px on average, {np.nanmax(errors.corners):.0f} at worst"


def _flags(prediction: Any) -> tuple[Any, ...]:
    """The quality flags of a prediction; bare corners have none."""
    return () if isinstance(prediction, np.ndarray) else tuple(getattr(prediction, "flags", ()))
