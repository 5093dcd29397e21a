"""Running notebooks (parameters, the headless runner, headline numbers, the gallery), results, the page of an edit.

Inside a notebook only `headline` is needed, so the runner and the exporter load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.runs.headline import headline

if TYPE_CHECKING:
    from workbench.runs.edit_page import write_edit_page
    from workbench.runs.gallery import write_gallery
    from workbench.runs.notebooks import NotebookRun, list_notebooks, run_notebook
    from workbench.runs.parameters import check_parameters
    from workbench.runs.results import Results, read_results

__all__ = [
    "NotebookRun",
    "Results",
    "check_parameters",
    "headline",
    "list_notebooks",
    "read_results",
    "run_notebook",
    "write_edit_page",
    "write_gallery",
]

_HOME_OF = {
    "NotebookRun": "notebooks",
    "Results": "results",
    "check_parameters": "parameters",
    "list_notebooks": "notebooks",
    "read_results": "results",
    "run_notebook": "notebooks",
    "write_edit_page": "edit_page",
    "write_gallery": "gallery",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'workbench.runs' has no attribute {name!r}")
    return getattr(import_module(f"workbench.runs.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
