"""Figures of editors' trade-offs: GR against LR over their sweeps, and the areas under the fronts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._editors import Look, looks_of
from workbench.figures._sheet import Axes, Panel, Sheet
from workbench.figures._theme import GREY, TEXT

if TYPE_CHECKING:
    import pandas as pd

_CELL = ("editor", "setting", "gr", "lr", "gr_low", "gr_high", "lr_low", "lr_high")
_AREA = ("editor", "area", "area_low", "area_high")


def pareto_fronts(
    cells: pd.DataFrame,
    titles: Mapping[str, str] | None = None,
    title: str = "",
    emphasis: str | None = "learned-mask",
) -> go.Figure:
    """GR against LR, one line an editor through the settings of its sweep; the upper right corner is best.

    The dotted line is what costs no editor: leaving the model alone, answering the wanted class to everything, or
    one of the two by lot. Intervals show on hovering.

    Args:
        cells: One row a setting, as `workbench.editing.sweep_means` gives them. With a column ``style`` there is a
            panel for each.
        titles: Names for the legend, by editor.
        title: Default: "Generalization against locality".
        emphasis: The editor with the thicker line; None for none.

    Raises:
        InvalidInputError: no rows, or a column is missing.

    Example:
        >>> pareto_fronts(sweep_means(measure_sweeps(model, ["learned-mask", "ft"], groups, judge)))
    """
    _check(cells, _CELL, "sweep")
    panels = list(cells.groupby("style", sort=False)) if "style" in cells else [("", cells)]
    editors = list(dict.fromkeys(cells["editor"]))
    looks, lines = looks_of(editors), -(-len(editors) // 9)
    rows, wide, axes = -(-len(panels) // 2), len(panels) > 1, _axes(cells)
    high = 270 if wide else 420
    sheet = Sheet(
        76 + 20 * lines + (high + 70) * rows, title or "Generalization against locality", t=50 + 29 * lines
    )
    for k, (name, part) in enumerate(panels):
        left, top = (0.53 * (k % 2), (high + 70) * (k // 2) + 24) if wide else (0, 0)
        panel = sheet.panel(
            (left, left + 0.47 if wide else 1), (top, top + high), _named(str(name), part), axes
        )
        _draw_free(panel)
        for editor in editors:
            own = part[part["editor"] == editor]
            if len(own):
                shown = (titles or {}).get(editor, editor)
                _draw_front(panel, own, shown, looks[editor], thick=editor == emphasis, legend=k == 0)
    return sheet.build(**sheet.legend_above(0 if wide else 8))


def _named(name: str, part: pd.DataFrame) -> str:
    if not name:
        return ""
    count = int(part["edits"].max()) if "edits" in part else 0
    edits = f"   {count} edit{'s' if count > 1 else ''} a setting" if count else ""
    return f"<b>{name}</b>{edits}"


def _axes(cells: pd.DataFrame) -> Axes:
    """The same for all panels: up to 1, and down to the tick below the lowest mean."""
    x, y = (
        {"range": [_below(cells[q]), 1.03], "dtick": 0.1, "title": {"text": q.upper()}} for q in ("gr", "lr")
    )
    return Axes(x, y)


def _below(values: pd.Series) -> float:
    return float(np.floor(10 * values.astype(float).min()) / 10) - 0.02


def _draw_free(panel: Panel) -> None:
    line = {"color": GREY, "width": 1, "dash": "dot"}
    panel.draw(go.Scatter(x=[0, 1], y=[1, 0], mode="lines", line=line, showlegend=False, hoverinfo="skip"))


def _draw_front(panel: Panel, own: pd.DataFrame, name: str, look: Look, *, thick: bool, legend: bool) -> None:
    bounds = own[["gr_low", "gr_high", "lr_low", "lr_high"]].to_numpy(dtype=float).round(3)
    panel.draw(
        go.Scatter(
            x=own["gr"].astype(float).round(4),
            y=own["lr"].astype(float).round(4),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            showlegend=legend,
            line={"color": look.colour, "width": 3.5 if thick else 1.5, "dash": look.dash},
            marker={
                "size": 9 if thick else 8,
                "symbol": look.mark,
                "line": {"width": 1.5, "color": look.colour},
            },
            text=list(own["setting"]),
            customdata=bounds,
            hovertemplate=f"{name}<br>%{{text}}<br>GR %{{x:.3f}} (%{{customdata[0]}} to %{{customdata[1]}})<br>"
            "LR %{y:.3f} (%{customdata[2]} to %{customdata[3]})<extra></extra>",
        )
    )


def pareto_areas(
    areas: pd.DataFrame,
    titles: Mapping[str, str] | None = None,
    reference: str = "learned-mask",
    title: str = "",
) -> go.Figure:
    """Area under each editor's front, and how far the reference is ahead, both with 95 % intervals.

    An interval of a difference that leaves out zero is drawn full, one that holds it hollow: the two editors cannot
    be told apart.

    Args:
        areas: One row an editor, as `workbench.editing.front_areas` gives them.
        titles: Names, by editor.
        reference: What the differences are to.
        title: Default: "Area under the front".

    Raises:
        InvalidInputError: no rows, or a column is missing.
    """
    _check(areas, _AREA, "table of areas")
    ordered = areas.sort_values("area", ascending=False, kind="stable")
    names = [(titles or {}).get(editor, editor) for editor in ordered["editor"]]
    compared = "difference" in ordered and bool(ordered["difference"].notna().any())
    sheet = Sheet(
        116 + 28 * len(ordered), title or "Area under the front", "95 % intervals over groups", t=76, l=160
    )
    order = {"autorange": "reversed", "ticklabelstandoff": 6, "type": "category"}
    left = sheet.panel(
        (0, 0.47 if compared else 1), title="area", axes=Axes(_span(ordered, "area", "0.5 is free"), order)
    )
    looks = looks_of(list(ordered["editor"]))
    colours = [looks[editor].colour for editor in ordered["editor"]]
    _draw_intervals(left, ordered, "area", names, colours, np.ones(len(ordered), dtype=bool))
    if compared:
        shown = (titles or {}).get(reference, reference)
        axes = Axes(
            _span(ordered, "difference", f"above 0: {shown} is ahead"), {**order, "showticklabels": False}
        )
        right = sheet.panel((0.53, 1), title=f"{shown} minus the other", axes=axes)
        _draw_differences(right, ordered, names, colours, reference)
    return sheet.build(showlegend=False)


def _span(table: pd.DataFrame, column: str, title: str) -> dict[str, Any]:
    """A horizontal axis that holds all intervals."""
    ends = table[[f"{column}_low", f"{column}_high"]].to_numpy(dtype=float)
    room = 0.06 * float(ends.max() - ends.min()) + 0.002
    return {"range": [float(ends.min()) - room, float(ends.max()) + room], "title": {"text": title}}


def _draw_differences(
    panel: Panel, ordered: pd.DataFrame, names: list[str], colours: list[str], reference: str
) -> None:
    panel.line_down(0, color=TEXT, width=1.5)
    # An empty row for the reference, so that both panels have the same rows.
    panel.draw(go.Scatter(x=[None] * len(names), y=names, mode="markers", hoverinfo="skip"))
    kept = np.flatnonzero((ordered["editor"] != reference).to_numpy())
    rest = ordered.iloc[kept]
    clear = ((rest["difference_low"] > 0) | (rest["difference_high"] < 0)).to_numpy()
    _draw_intervals(panel, rest, "difference", [names[i] for i in kept], [colours[i] for i in kept], clear)


def _draw_intervals(
    panel: Panel, table: pd.DataFrame, column: str, names: list[str], colours: list[str], full: np.ndarray
) -> None:
    middle, low, high = (table[c].to_numpy(dtype=float) for c in (column, f"{column}_low", f"{column}_high"))
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        panel.draw(
            go.Scatter(
                x=[round(float(low[i]), 4), round(float(high[i]), 4)],
                y=[name, name],
                mode="lines",
                line={"color": colour, "width": 2},
                hoverinfo="skip",
            )
        )
    panel.draw(
        go.Scatter(
            x=middle.round(4),
            y=names,
            mode="markers",
            marker={
                "size": 11,
                "symbol": ["circle" if f else "circle-open" for f in full],
                "color": colours,
                "line": {"width": 2, "color": colours},
            },
            customdata=np.column_stack([low, high]).round(3),
            hovertemplate="%{y}<br>%{x:.3f} (%{customdata[0]} to %{customdata[1]})<extra></extra>",
        )
    )


def _check(table: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        raise InvalidInputError(
            f"a {what} has the columns {', '.join(columns)}; this one has {len(table)} rows and lacks "
            f"{', '.join(missing) or 'nothing'}"
        )
