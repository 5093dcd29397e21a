"""Figures of what an edit did, whatever editor made it: which weights it changed, which images it fixed or broke."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._neighbour_rows import NeighbourRow
from workbench.figures._pictures import png_uri, wrapped
from workbench.figures._sheet import Axes, Sheet
from workbench.figures._theme import BLUE, TEXT

if TYPE_CHECKING:
    from workbench.editing import Edit
    from workbench.editing.report import EditReport, Neighbours, Protected

_SHOWN = 14  # thumbnails a row
_THUMBNAIL = 72


def change_lengths(edit: Edit, title: str = "") -> go.Figure:
    """How far each weight has moved: a bar an address, with the number of units that changed.

    Raises:
        InvalidInputError: an edit without changes.
    """
    from workbench.editing.report import change_table  # brings torch, which whoever has an edit has loaded

    table = change_table(edit)
    if table.empty:
        raise InvalidInputError("this edit changes nothing, so there is nothing to draw")
    note = f"{edit.parameters:,} scalars in {len(table)} weights"
    sheet = Sheet(98 + 26 * len(table), title or "What changed", note, l=130, b=40)
    axes = Axes(
        {"title": {"text": "length of the change"}, "rangemode": "tozero"},
        {"autorange": "reversed", "ticklabelstandoff": 6, "type": "category"},
    )
    bars = go.Bar(
        x=table["length"].round(5),
        y=[address.removeprefix("blocks.") for address in table["address"]],
        orientation="h",
        width=0.62,
        marker_color=BLUE,
        text=[f"{units:,} {change}" for units, change in zip(table["units"], table["change"], strict=True)],
        textposition="auto",
        insidetextfont={"color": "#ffffff"},
        outsidetextfont={"color": TEXT},
        hovertemplate="blocks.%{y}<br>%{text}<br>length %{x:.4f}<extra></extra>",
    )
    sheet.panel(axes=axes).draw(bars)
    return sheet.build(showlegend=False)


def judged_images(report: EditReport, title: str = "") -> go.Figure:
    """Thumbnails of the neighbours and protected images of a report, with what they are taken for now.

    Neighbours that were wrong come in one row, those that were right before in another; then protected images,
    those that changed first.

    Raises:
        InvalidInputError: the report was made without such images.
    """
    names = report.result.class_names
    rows = []
    if report.neighbours is not None:
        rows += _neighbour_rows(report.neighbours, names)
    if report.protected is not None and len(report.protected.own):
        rows.append(_protected_row(report.protected, names))
    if not rows:
        raise InvalidInputError(
            "the report has no neighbours and no protected images: give some when it is made"
        )
    sheet = Sheet(
        sum(row.height for row in rows) + 84, title or "Images around the edited one", t=76, b=4, l=8
    )
    top = 0
    for row in rows:
        row.draw(sheet, top)
        top += row.height
    return sheet.build()


def _neighbour_rows(found: Neighbours, names: Sequence[str]) -> list[NeighbourRow]:
    right_before = np.setdiff1d(np.arange(len(found.own)), found.wrong)
    rows = []
    if len(found.wrong):
        heading = f"neighbours that were wrong: <b>{len(found.fixed)} of {len(found.wrong)} right now</b>"
        rows.append(_row(heading, found, found.wrong, found.fixed, names))
    if len(right_before):
        kept = np.setdiff1d(right_before, found.lost)
        heading = f"neighbours that were right: <b>{len(kept)} of {len(right_before)} still right</b>"
        rows.append(_row(heading, found, right_before, kept, names))
    return rows


def _protected_row(found: Protected, names: Sequence[str]) -> NeighbourRow:
    kept = np.setdiff1d(np.arange(len(found.own)), found.changed)
    heading = f"protected images: <b>{len(found.changed)} of {len(found.own)} changed</b>"
    return _row(heading, found, np.concatenate([found.changed, kept]), kept, names)


def _row(
    heading: str, found: Neighbours | Protected, chosen: np.ndarray, well: np.ndarray, names: Sequence[str]
) -> NeighbourRow:
    shown = chosen[:_SHOWN]
    more = f", {len(shown)} shown" if len(chosen) > len(shown) else ""
    return NeighbourRow(
        heading + more,
        [png_uri(found.own.images[i], _THUMBNAIL, 32) for i in shown],
        [wrapped(names[int(found.after[i])], 11) for i in shown],
        [i in well for i in shown],
    )
