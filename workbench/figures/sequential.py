"""Figures of many edits in one model, and of masks by density."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._editors import looks_of
from workbench.figures._sheet import Axes, Panel, Sheet
from workbench.figures._theme import BLUE, GREY, RED, TEXT

if TYPE_CHECKING:
    import pandas as pd

#: How many edits come together: name, dash and mark.
_WAYS = {
    "sequence": ("in a row", "solid", ""),
    "sum": ("separately, added up", "dash", "diamond"),
    "batch": ("in one request", "dot", "square"),
}
_QUANTITIES = (
    ("earlier", "earlier edits that still hold"),
    ("gr", "GR: other failures of these groups"),
    ("lr", "LR: protected predictions unchanged"),
)


def sequential_curves(
    cells: pd.DataFrame, titles: Mapping[str, str] | None = None, title: str = ""
) -> go.Figure:
    """What becomes of earlier edits, of generalization and of locality as more edits are in a model.

    Args:
        cells: One row a number of edits, a way and an editor: ``way`` (``"sequence"``, ``"sum"`` or ``"batch"``),
            ``editor``, ``count``, ``earlier``, ``gr``, ``lr`` and of each the ``_min`` and ``_max`` over orders.
        titles: Names for the legend, by editor.
        title: Default: "Many edits of one model".

    Raises:
        InvalidInputError: no rows, or a column is missing.
    """
    needed = ["way", "editor", "count", *(name for name, _ in _QUANTITIES)]
    missing = [name for name in needed if name not in cells.columns]
    if missing or cells.empty:
        raise InvalidInputError(
            f"a table of many edits has the columns {', '.join(needed)}; this one has {len(cells)} rows and lacks "
            f"{', '.join(missing) or 'nothing'}"
        )
    looks = looks_of(list(dict.fromkeys(cells["editor"])))
    sheet = Sheet(440, title or "Many edits of one model", t=112)
    for k, (name, heading) in enumerate(_QUANTITIES):
        left = 0.345 * k
        axes = Axes(
            {
                "title": {"text": "edits"},
                "showgrid": False,
                "type": "log",
                "tickvals": [1, 2, 5, 10, 20, 50, 100],
            },
            {"range": [-0.02, 1.02], "tickvals": [0, 0.25, 0.5, 0.75, 1]},
        )
        panel = sheet.panel((left, left + 0.31), title=heading, axes=axes)
        for (way, editor), part in cells.groupby(["way", "editor"], sort=False):
            shown = (titles or {}).get(str(editor), str(editor))
            _draw_course(panel, part, name, shown, str(way), looks[str(editor)].colour, legend=k == 0)
    return sheet.build(**sheet.legend_above(28))


def _draw_course(
    panel: Panel, part: pd.DataFrame, quantity: str, editor: str, way: str, colour: str, *, legend: bool
) -> None:
    kept = part[part[quantity].notna()].sort_values("count")
    how, dash, mark = _WAYS.get(way, (way, "dashdot", ""))
    spread = [
        kept.get(f"{quantity}_{end}", kept[quantity]).to_numpy(dtype=float).round(3) for end in ("min", "max")
    ]
    panel.draw(
        go.Scatter(
            x=kept["count"],
            y=kept[quantity].astype(float).round(4),
            mode="lines+markers" if mark else "lines",
            name=f"{editor}, {how}",
            legendgroup=f"{editor} {way}",
            showlegend=legend,
            line={"color": colour, "width": 2, "dash": dash},
            marker={"size": 6, "symbol": mark or "circle"},
            customdata=np.column_stack(spread),
            hovertemplate=f"{editor}, {how}<br>%{{x}} edits: %{{y:.3f}} "
            "(orders: %{customdata[0]} to %{customdata[1]})<extra></extra>",
        )
    )


def density_curves(differences: pd.DataFrame, title: str = "") -> go.Figure:
    """What the learned mask gains over a random one of the same size, by the share of units that may change.

    Args:
        differences: One row a sparsity: ``sparsity`` and ``gr``, ``lr`` (learned minus random, paired by edit), each
            with ``_low`` and ``_high``.
        title: Default: "Learned minus random mask".

    Raises:
        InvalidInputError: no rows, or a column is missing.
    """
    needed = ["sparsity", *(f"{q}{end}" for q in ("gr", "lr") for end in ("", "_low", "_high"))]
    missing = [name for name in needed if name not in differences.columns]
    if missing or differences.empty:
        raise InvalidInputError(
            f"differences by density have the columns {', '.join(needed)}; this table has {len(differences)} rows "
            f"and lacks {', '.join(missing) or 'nothing'}"
        )
    table = differences.sort_values("sparsity", ascending=False)
    density = (1 - table["sparsity"].astype(float)).round(6)
    note = "above 0: the learned mask is better; 95 % intervals"
    sheet = Sheet(330, title or "Learned minus random mask", note, t=60)
    for k, (name, colour) in enumerate((("gr", BLUE), ("lr", RED))):
        axes = Axes(
            {"title": {"text": "density"}, "type": "log", "tickvals": density.tolist(), "showgrid": False},
            {"title": {"text": f"{name.upper()} gained"}},
        )
        panel = sheet.panel((0.54 * k, 0.54 * k + 0.46), axes=axes)
        panel.line_across(0, color=GREY, width=1.5)
        middle = table[name].to_numpy(dtype=float)
        low, high = (table[f"{name}_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
        panel.draw(
            go.Scatter(
                x=density,
                y=middle.round(4),
                mode="lines+markers",
                showlegend=False,
                line={"color": colour, "width": 2},
                marker={"size": 9},
                error_y={
                    "symmetric": False,
                    "array": (high - middle).round(4),
                    "arrayminus": (middle - low).round(4),
                    "thickness": 1.5,
                    "width": 5,
                    "color": TEXT,
                },
                hovertemplate=f"density %{{x}}<br>{name.upper()} %{{y:+.3f}}<extra></extra>",
            )
        )
    return sheet.build()
