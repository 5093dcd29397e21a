"""Reading an executed notebook: its title, its headline numbers and its figures with their captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from workbench.runs.headline import HEADLINE_MIME, Scalar

PLOTLY_MIME = "application/vnd.plotly.v1+json"

GALLERY_TAG = "gallery"
"""Tag of the cells whose figures stand for the notebook; without such cells, all figures do."""


@dataclass(frozen=True)
class ShownFigure:
    """A figure of an executed notebook.

    Attributes:
        caption: the Markdown right before the figure's cell; may be empty.
        figure: plotly JSON with ``data``, ``layout`` and, for animations, ``frames``.
    """

    caption: str
    figure: dict[str, Any]


def title_of(notebook: NotebookNode) -> str:
    """The notebook's first Markdown heading, or an empty text.

    Example:
        >>> title_of(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A tour")]))
        'A tour'
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("#"):
                    return line.lstrip("#").strip()
    return ""


def headline_of(notebook: NotebookNode) -> dict[str, Scalar]:
    """The numbers that the notebook's `workbench.runs.headline` cells showed, by label, in order."""
    values: dict[str, Scalar] = {}
    for cell in notebook.cells:
        for data in _mime_bundles(cell):
            values.update(data.get(HEADLINE_MIME, {}))
    return values


def figures_of(notebook: NotebookNode) -> list[ShownFigure]:
    """The notebook's figures in order: those of cells tagged ``gallery``, or all where no cell is tagged."""
    tagged = any(GALLERY_TAG in cell.metadata.get("tags", []) for cell in notebook.cells)
    shown, caption = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            caption = cell.source
            continue
        figures = [data[PLOTLY_MIME] for data in _mime_bundles(cell) if PLOTLY_MIME in data]
        if not tagged or GALLERY_TAG in cell.metadata.get("tags", []):
            shown += [ShownFigure(caption if i == 0 else "", figure) for i, figure in enumerate(figures)]
        if figures:
            caption = ""  # a caption belongs to the first figure after it
    return shown


def _mime_bundles(cell: NotebookNode) -> Iterator[dict[str, Any]]:
    for output in cell.get("outputs", []):
        if output.output_type in ("display_data", "execute_result"):
            yield output.data
