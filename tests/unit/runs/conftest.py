"""Tiny notebooks, made for the tests that run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workbench.runs import parameters as parameters_module
from workbench.runs.parameters import NotebookParameters


class TinyParameters(NotebookParameters):
    """Parameters of every notebook made here."""

    text: str = "plain"
    count: int = 2


TINY_CELLS = [
    ("markdown", "# A tiny notebook"),
    ("parameters", 'text: str = "plain"\ncount: int = 2'),
    ("code", "print(repr(text), count)"),
]


@pytest.fixture
def make_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a notebook of the tiny cells and more (kind, source) cells; returns its folder."""

    def make(name: str, *more: tuple[str, str]) -> Path:
        folder = tmp_path / "notebooks"
        folder.mkdir(exist_ok=True)
        notebook = new_notebook(cells=[_cell(kind, source) for kind, source in (*TINY_CELLS, *more)])
        nbformat.write(notebook, folder / f"{name}.ipynb")
        monkeypatch.setitem(parameters_module.PARAMETERS, name, TinyParameters)
        return folder

    return make


def _cell(kind: str, source: str) -> nbformat.NotebookNode:
    if kind == "markdown":
        return new_markdown_cell(source)
    tags = [] if kind == "code" else [kind]
    return new_code_cell(source, metadata={"tags": tags})
