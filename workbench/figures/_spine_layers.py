"""The layers over a radiograph, each a trace or two that the legend can hide."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data.vertebrae import CORNERS, LEVELS, VERTEBRAE, Corners, centres_of
from workbench.errors import UnknownNameError
from workbench.figures._sheet import Panel
from workbench.figures._spine_shapes import (
    Errors,
    arrows,
    centre_texts,
    corner_texts,
    endplates,
    mid_lines,
    outlines,
    widths,
    xy,
)
from workbench.figures._spine_traces import Trace, scatter
from workbench.figures._theme import GREEN, ORANGE, PINK, RED, SKY

if TYPE_CHECKING:
    from workbench.spine.quality import QualityFlag

#: What can be laid over a radiograph, from the back to the front; trails only where stages are shown.
LAYERS = (
    "trails", "error heat", "truth", "outlines", "endplates", "mid-lines", "centres", "errors", "corners", "levels",
    "flags",
)  # fmt: skip
SHOWN = ("truth", "outlines", "centres", "corners", "levels", "flags")

#: Colours on a dark film; a true landmark is a ring, a predicted one filled.
ROLES = (SKY, ORANGE, GREEN, PINK)
FOUND, TRUE, WHITE = SKY, "#F0E442", "#ffffff"
HEAT = [[0, "#00204D"], [0.35, "#7C7B78"], [0.7, "#D9B93B"], [1, "#FFE945"]]
#: Mean error of a vertebra, in body widths, that the heat's last colour stands for.
HOTTEST = 0.5

#: Text that can be read on black, grey and white.
ON_FILM = {"color": WHITE, "size": 11, "shadow": "0 0 3px #000, 0 0 3px #000"}


def check_layers(layers: Collection[str]) -> tuple[str, ...]:
    """The layers in drawing order; raises `UnknownNameError` for one that does not exist."""
    for name in layers:
        if name not in LAYERS:
            raise UnknownNameError("layer", name, LAYERS)
    return tuple(name for name in LAYERS if name in layers)


def draw_layers(
    panel: Panel,
    corners: Corners,
    truth: Corners | None = None,
    errors: Errors | None = None,
    flags: Sequence[QualityFlag] = (),
    layers: Collection[str] = SHOWN,
    *,
    others: bool = False,
) -> None:
    """Draw the layers; with `others` those not in `layers` wait in the legend."""
    shown = check_layers(layers)
    for name, trace in _traces(corners, truth, errors, flags):
        if others or name in shown:
            trace.update(legendgroup=name, visible=True if name in shown else "legendonly")
            panel.draw(trace)


def _traces(
    corners: Corners, truth: Corners | None, errors: Errors | None, flags: Sequence[QualityFlag]
) -> Iterator[tuple[str, Trace]]:
    if errors is not None:
        yield "error heat", _heat(corners, errors)
    if truth is not None:
        yield "truth", _line(outlines(truth), "truth", TRUE, dash="dot")
        yield "truth", _rings(truth)
    yield "outlines", _line(outlines(corners), "outlines", FOUND, 1.5)
    yield "endplates", _line(endplates(corners), "endplates", WHITE, 1)
    yield "mid-lines", _line(mid_lines(corners, 0.1), "mid-lines", GREEN, 1.5)
    yield "centres", _centres(corners, errors)
    if truth is not None:
        yield "errors", _line(arrows(corners, truth), "errors", RED, 2)
    yield from (("corners", _dots(corners, role, errors)) for role in range(4))
    yield "levels", _level_names(corners)
    yield "flags", _flagged(corners, flags)


def _line(points: np.ndarray, name: str, colour: str, width: float = 1.5, **line: Any) -> Trace:
    style = {"color": colour, "width": width, **line}
    return scatter(**xy(points), mode="lines", name=name, line=style, hoverinfo="skip")


def _dots(corners: Corners, role: int, errors: Errors | None) -> Trace:
    """One corner of all vertebrae, filled."""
    return scatter(
        **xy(corners[:, role]),
        mode="markers",
        name=CORNERS[role],
        marker={"size": 6, "color": ROLES[role], "line": {"width": 0.5, "color": "#000000"}},
        text=corner_texts(errors, role),
        hovertemplate="%{text}<br>x %{x:.1f}, y %{y:.1f}<extra></extra>",
    )


def _rings(truth: Corners) -> Trace:
    """All true corners, T1's first."""
    return scatter(
        **xy(truth),
        mode="markers",
        name="true corners",
        showlegend=False,
        marker={
            "symbol": "circle-open",
            "size": 10,
            "color": np.tile(np.arange(4, dtype=np.uint8), VERTEBRAE),
            "colorscale": [[i / 3, colour] for i, colour in enumerate(ROLES)],
            "line": {"width": 1.5},
        },
        hovertemplate="true corner<br>x %{x:.1f}, y %{y:.1f}<extra></extra>",
    )


def _centres(corners: Corners, errors: Errors | None) -> Trace:
    """Centres joined by a smooth line."""
    return scatter(
        **xy(centres_of(corners)),
        mode="lines+markers",
        name="centres",
        line={"color": WHITE, "width": 1.5, "shape": "spline"},
        marker={"symbol": "cross-thin", "size": 7, "line": {"width": 1.5, "color": WHITE}},
        text=centre_texts(corners, errors),
        hovertemplate="%{text}<br>x %{x:.1f}, y %{y:.1f}<extra></extra>",
    )


def _heat(corners: Corners, errors: Errors) -> Trace:
    """A disc on each vertebra, the brighter the further its corners are off."""
    relative = errors.levels / errors.widths
    return scatter(
        **xy(centres_of(corners)),
        mode="markers",
        name="error heat",
        hoverinfo="skip",
        marker={
            "size": 24,
            "opacity": 0.75,
            "color": np.nan_to_num(relative, nan=0.0).round(3),
            "colorscale": HEAT,
            "cmin": 0,
            "cmax": HOTTEST,
        },
    )


def _level_names(corners: Corners) -> Trace:
    """T1…L5 to the right of each vertebra."""
    right = np.maximum(corners[:, 1], corners[:, 3])
    place = np.stack([right[:, 0] + 0.35 * widths(corners), centres_of(corners)[:, 1]], axis=1)
    return scatter(
        **xy(place),
        mode="text",
        name="levels",
        text=LEVELS,
        textfont=ON_FILM,
        textposition="middle right",
        hoverinfo="skip",
    )


def _flagged(corners: Corners, flags: Sequence[QualityFlag]) -> Trace:
    """A cross on every vertebra that a quality flag names."""
    found = [(level, flag.text) for flag in flags for level in flag.levels]
    places = centres_of(corners)[[level for level, _ in found]] if found else np.empty((0, 2))
    return scatter(
        **xy(places),
        mode="markers",
        name="flags",
        showlegend=bool(flags),
        marker={"symbol": "x-open", "size": 16, "color": RED, "line": {"width": 2.5}},
        text=[f"{LEVELS[level]}: {text}" for level, text in found],
        hovertemplate="%{text}<extra></extra>",
    )
