"""A map of every hidden unit: one grid a matrix, blocks side by side, fc1 above fc2.

Unit 0 is at the upper left and units run along the rows; the same unit sits at the same place in both matrices of a
block, and zooming into one zooms into the other. Hovering gives the address and the unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures._sheet import Axes, Panel, Sheet

if TYPE_CHECKING:
    from workbench.editing import EditSpace

_PER_LINE = 4  # blocks side by side
HEADING, _GAP = 22, 14  # pixels above each map and between lines


def fold(units: int) -> tuple[int, int]:
    """Rows and columns of the grid that a matrix's units are laid out on, a little wider than high.

    Example:
        >>> fold(1536), fold(3072)
        ((32, 48), (48, 64))
    """
    rows = next(r for r in range(max(1, math.isqrt(units * 3 // 4)), 0, -1) if units % r == 0)
    return rows, units // rows


def what_a_bit_owns(address: str) -> str:
    """``"row"`` for fc1, ``"column"`` for fc2."""
    return "row" if address.endswith("fc1") else "column"


def map_height(space: EditSpace) -> int:
    """Pixels that the maps of a space need, headings included."""
    lines = 2 * math.ceil(len(space.blocks) / _PER_LINE)
    return lines * (_cell_height(space) + HEADING + _GAP) - _GAP


def add_unit_maps(
    sheet: Sheet,
    values: np.ndarray,
    space: EditSpace,
    notes: Sequence[str],
    hover: str,
    left: float = 0.0,
    **style: Any,
) -> list[Panel]:
    """Draw one map a matrix.

    Args:
        values: What is drawn, (matrices, units); small integer types keep the figure small.
        space: The matrices.
        notes: Behind each address in the headings.
        hover: What hovering says below the address and the unit, ``"%{z}"`` for the value.
        left: Fraction of the width to leave free on the left.
        style: Passed to each heat map. All share the layout's `coloraxis`.
    """
    panels = []
    rows, columns = fold(space.units)
    units = np.arange(space.units, dtype=np.uint16 if space.units < 2**16 else np.uint32).reshape(
        rows, columns
    )
    for k, address in enumerate(space.addresses):
        panel = _map_panel(sheet, space, k, f"{address}<i>  {notes[k]}</i>", left)
        trace = go.Heatmap(
            z=values[k].reshape(rows, columns),
            customdata=units,
            hovertemplate=f"{address} {what_a_bit_owns(address)} %{{customdata}}<br>{hover}<extra></extra>",
            coloraxis="coloraxis",
            **style,
        )
        panel.draw(trace)
        panels.append(panel)
    return panels


def add_legend(panel: Panel, entries: Sequence[tuple[str, str]]) -> None:
    """Squares with names for the colours of a map: (name, colour) each."""
    for name, colour in entries:
        marker = {"symbol": "square", "size": 12, "color": colour}
        panel.draw(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, showlegend=True))


def discrete(values: Sequence[float], colours: Sequence[str]) -> dict[str, Any]:
    """A colour axis that shows each of a few increasing values in a colour of its own."""
    middles = [(low + high) / 2 for low, high in pairwise(values)]
    edges = [values[0] - 0.5, *middles, values[-1] + 0.5]
    places = [round((edge - edges[0]) / (edges[-1] - edges[0]), 5) for edge in edges]
    scale = [[place, colour] for i, colour in enumerate(colours) for place in places[i : i + 2]]
    return {"colorscale": scale, "cmin": edges[0], "cmax": edges[-1], "showscale": False}


def _map_panel(sheet: Sheet, space: EditSpace, k: int, title: str, left: float) -> Panel:
    across = min(len(space.blocks), _PER_LINE)
    column, line = (k // 2) % _PER_LINE, 2 * (k // 2 // _PER_LINE) + k % 2
    gap = 0.02
    width = (1 - left - gap * (across - 1)) / across
    x0 = left + column * (width + gap)
    top = line * (_cell_height(space) + HEADING + _GAP) + HEADING
    # fc2 moves with fc1: the panel before this one.
    linked = {} if k % 2 == 0 else {"x": Panel(sheet, sheet.count).x, "y": Panel(sheet, sheet.count).y}
    return sheet.panel(
        (x0, min(1.0, x0 + width)),
        (top, top + _cell_height(space)),
        title,
        Axes(
            {"visible": False, "matches": linked.get("x")},
            {"visible": False, "autorange": "reversed", "matches": linked.get("y")},
        ),
    )


def _cell_height(space: EditSpace) -> int:
    """Pixels of one map: every unit gets six, in at most 330."""
    return min(330, max(90, 6 * fold(space.units)[0]))
