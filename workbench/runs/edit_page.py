"""The report of one edit as a page that opens from disk, with its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workbench.files import write_text
from workbench.runs.gallery import versions_line
from workbench.runs.pages import PAGES, drawing_scripts, figure_html, page_part

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.editing.report import EditReport, Neighbours, Protected


def write_edit_page(report: EditReport, path: str | Path) -> Path:
    """Write a report as one HTML file that needs neither a server nor a network.

    It shows the image, the likeliest classes before and after, the course of the edit, which weights changed, the
    neighbours and protected images where there were some, and every setting.

    Example:
        >>> write_edit_page(report, "fix.html")
        PosixPath('fix.html')
    """
    from workbench import figures
    from workbench.editing.report import change_table

    result = report.result
    shown = {
        "course": figures.edit_course(result, title="Course of the edit"),
        "changes": figures.change_lengths(result.edit),
        "units": _unit_map(report),
        "images": _images(report),
    }
    page = _environment().get_template("edit.html.j2")
    text = page.render(
        report=report,
        outcome=result.outcome(),
        image=figures.png_uri(result.images[0], colours=256),
        drawn={name: _drawn(figure) for name, figure in shown.items() if figure is not None},
        likeliest=_rows(report.likeliest()),
        changes=_rows(change_table(result.edit)),
        tables=_image_tables(report),
        versions=versions_line(),
        css=page_part("gallery.css"),
        **drawing_scripts(),
    )
    return write_text(path, text)


def _unit_map(report: EditReport) -> go.Figure | None:
    """The map of changed units, for edits that a mask guided and that kept how far each unit moved."""
    from workbench import figures
    from workbench.editing import EditTrajectory

    result = report.result
    if isinstance(result, EditTrajectory) and result.row_change is not None:
        return figures.weight_change(result, title="Which units changed")
    return None


def _images(report: EditReport) -> go.Figure | None:
    from workbench import figures

    judged = [part for part in (report.neighbours, report.protected) if part is not None and len(part.own)]
    return figures.judged_images(report) if judged else None


def _image_tables(report: EditReport) -> list[tuple[str, list[list[Any]]]]:
    """Every neighbour, and the protected images that changed, by heading."""
    found = []
    if report.neighbours is not None:
        found.append(("All neighbours", _all(report, report.neighbours)))
    if report.protected is not None:
        changed = report.image_table(report.protected, report.protected.changed)
        found.append(("Protected images that changed", _rows(changed)))
    return found


def _all(report: EditReport, judged: Neighbours | Protected) -> list[list[Any]]:
    return _rows(report.image_table(judged, range(len(judged.own))))


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Cells as text."""
    from workbench.editing.report import cell

    return [[cell(value) for value in row] for row in frame.itertuples(index=False)]


def _drawn(figure: go.Figure) -> str:
    return figure_html(json.loads(figure.to_json()))


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(str(PAGES)), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
