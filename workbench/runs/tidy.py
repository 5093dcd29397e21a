"""Taking out of an executed notebook what readers cannot use: bookkeeping, widget state, views of dead widgets.

    python -m workbench.runs.tidy notebooks/*.ipynb

A view without its kernel shows as an error message in JupyterLab. Without the view the widget's text stays, and the
static snapshot that follows it says the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

from workbench.files import write_text

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy without papermill's metadata, execution times, widget state and widget views.

    Outputs, execution counts, tags and other metadata stay.
    """
    copy = nbformat.from_dict(notebook)
    copy.metadata.pop("widgets", None)
    copy.metadata.pop("papermill", None)
    for cell in copy.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
    return copy


def tidy_file(path: str | Path) -> nbformat.NotebookNode:
    """Tidy a notebook file in place, atomically, and return what it holds now."""
    notebook = tidied(nbformat.read(path, as_version=4))
    write_text(path, nbformat.writes(notebook) + "\n")
    return notebook


def main(paths: Sequence[str]) -> None:
    """Tidy every file named."""
    for path in paths:
        tidy_file(path)


if __name__ == "__main__":
    main(sys.argv[1:])
