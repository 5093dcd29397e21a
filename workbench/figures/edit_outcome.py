"""Figures of what an edit did, whatever editor made it: which weights it changed, which images it fixed or broke."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
    """Thumbnails of the edited image and those around it, with what each is taken for now.

    The edited image comes first, then neighbours that were wrong before; a row each for neighbours that were right
    before and for protected images, those that changed first.
    """
    rows = [_edited_row(report)]
    if report.neighbours is not None:
        rows += _right_before(report.neighbours, report.result.class_names)
    if report.protected is not None and len(report.protected.own):
        rows.append(_protected_row(report.protected, report.result.class_names))
    height = sum(row.height for row in rows)
    sheet = Sheet(height + 84, title or "The edited image and those around it", t=76, b=4, l=8)
    top = 0
    for row in rows:
        row.draw(sheet, top)
        top += row.height
    return sheet.build()


def _edited_row(report: EditReport) -> NeighbourRow:
    """The edited image and, after it, the neighbours that were wrong before."""
    result, found = report.result, report.neighbours
    own = _thumbnail(result.images[0], f"<b>edited</b><br>{wrapped(result.predicted_name(), 11)}")
    if found is None or not len(found.wrong):
        return _row("the edited image", [own], [result.reliability == 1])
    heading = f"neighbours that were wrong: <b>{len(found.fixed)} of {len(found.wrong)} right now</b>"
    shown = found.wrong[: _SHOWN - 1]
    others = _thumbnails(found, shown, result.class_names)
    well = [result.reliability == 1, *(i in found.fixed for i in shown)]
    return _row(heading + _counted(shown, found.wrong), [own, *others], well)


def _right_before(found: Neighbours, names: Sequence[str]) -> list[NeighbourRow]:
    chosen = np.setdiff1d(np.arange(len(found.own)), found.wrong)
    if not len(chosen):
        return []
    kept, shown = np.setdiff1d(chosen, found.lost), chosen[:_SHOWN]
    heading = f"neighbours that were right: <b>{len(kept)} of {len(chosen)} still right</b>"
    return [
        _row(heading + _counted(shown, chosen), _thumbnails(found, shown, names), [i in kept for i in shown])
    ]


def _protected_row(found: Protected, names: Sequence[str]) -> NeighbourRow:
    kept = np.setdiff1d(np.arange(len(found.own)), found.changed)
    chosen = np.concatenate([found.changed, kept])
    shown = chosen[:_SHOWN]
    heading = f"protected images: <b>{len(found.changed)} of {len(chosen)} changed</b>"
    return _row(
        heading + _counted(shown, chosen), _thumbnails(found, shown, names), [i in kept for i in shown]
    )


def _row(heading: str, thumbnails: Sequence[tuple[str, str]], well: Sequence[bool]) -> NeighbourRow:
    return NeighbourRow(heading, [uri for uri, _ in thumbnails], [caption for _, caption in thumbnails], well)


def _thumbnails(
    found: Neighbours | Protected, shown: np.ndarray, names: Sequence[str]
) -> list[tuple[str, str]]:
    return [_thumbnail(found.own.images[i], wrapped(names[int(found.after[i])], 11)) for i in shown]


def _thumbnail(image: Any, caption: str) -> tuple[str, str]:
    return png_uri(image, 72, 32), caption


def _counted(shown: np.ndarray, chosen: np.ndarray) -> str:
    return f", {len(shown)} shown" if len(chosen) > len(shown) else ""
