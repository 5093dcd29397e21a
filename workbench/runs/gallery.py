"""One page for a run: its headline numbers and its figures, in a file that opens from disk."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mistune
import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from workbench.errors import InvalidInputError
from workbench.files import write_text
from workbench.runs.headline import format_value
from workbench.runs.notebooks import NotebookRun
from workbench.runs.outputs import ShownFigure, figures_of, title_of
from workbench.runs.pages import PAGES, drawing_scripts, figure_html, page_part, write_notebook_page

_REPORTED_PACKAGES = ("vision-workbench", "torch", "timm", "plotly")


@dataclass(frozen=True)
class _Entry:
    """One notebook of the gallery, ready for the template; links are relative to the gallery's folder."""

    run: NotebookRun
    title: str
    numbers: Sequence[tuple[str, str]]
    figures: Sequence[ShownFigure]
    notebook: str
    page: str


def write_gallery(runs: Sequence[NotebookRun], folder: str | Path, title: str = "Workbench run") -> Path:
    """Write ``index.html`` into `folder`, and beside each executed notebook its HTML page.

    The gallery shows the headline numbers, then for each notebook its figures, interactive, each with the
    Markdown that precedes it. It needs neither a server nor a network.

    Args:
        runs: executed notebooks, in the order to show; at least one.
        folder: the run's folder.
        title: heading of the page.

    Returns:
        The path of the gallery.

    Raises:
        InvalidInputError: no runs.

    Example:
        >>> run = run_notebook("00_tour", out_dir="runs/first")
        >>> write_gallery([run], "runs/first")
        PosixPath('runs/first/index.html')
    """
    if not runs:
        raise InvalidInputError("a gallery needs at least one executed notebook, got none")
    folder = Path(folder)
    entries = [_entry(run, folder) for run in runs]
    has_figures = any(entry.figures for entry in entries)
    page = _environment().get_template("gallery.html.j2")
    text = page.render(
        title=title,
        made=f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}",
        versions=versions_line(),
        entries=entries,
        css=page_part("gallery.css"),
        has_figures=has_figures,
        **(drawing_scripts() if has_figures else {}),
    )
    return write_text(folder / "index.html", text)


def _entry(run: NotebookRun, folder: Path) -> _Entry:
    notebook = nbformat.read(run.path, as_version=4)
    page = write_notebook_page(run.path, run.path.with_suffix(".html"))
    return _Entry(
        run=run,
        title=title_of(notebook) or run.name,
        numbers=[(label, format_value(value)) for label, value in run.headline.items()],
        figures=figures_of(notebook),
        notebook=Path(os.path.relpath(run.path, folder)).as_posix(),
        page=Path(os.path.relpath(page, folder)).as_posix(),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(PAGES)), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
    environment.filters["markdown"] = _markdown
    environment.filters["drawn"] = figure_html
    return environment


def _markdown(text: str) -> Markup:
    render: Any = mistune.create_markdown(escape=True, plugins=["table", "strikethrough"])
    return Markup(render(text))


def versions_line() -> str:
    """What made a page: packages, Python, system and number of CPU cores, in one line."""
    parts = [f"{name} {found}" for name in _REPORTED_PACKAGES if (found := _version(name))]
    parts.append(f"Python {platform.python_version()}")
    return " · ".join([*parts, f"{platform.system()} {platform.machine()}", f"{os.cpu_count()} CPU cores"])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
