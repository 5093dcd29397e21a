"""The committed notebooks: their parameters cell, and what they may not carry."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from workbench.runs import list_notebooks
from workbench.runs.outputs import PLOTLY_MIME, title_of
from workbench.runs.parameters import PARAMETERS

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"

LARGEST = 300_000  # bytes

SIMPLE = {"int", "float", "str", "bool"}  # annotations that papermill reads


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def parameters_cell(name: str) -> dict[str, tuple[str, Any]]:
    """Annotation and default by name, from the one cell tagged ``parameters``."""
    (cell,) = [cell for cell in read(name).cells if "parameters" in cell.metadata.get("tags", [])]
    found = {}
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.AnnAssign), f"not `name: type = value`: {ast.unparse(statement)}"
        assert statement.value is not None
        found[ast.unparse(statement.target)] = (
            ast.unparse(statement.annotation),
            ast.literal_eval(statement.value),
        )
    return found


def test_every_notebook_has_parameters_and_every_parameter_model_a_notebook() -> None:
    assert [notebook.name for notebook in list_notebooks()] == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_cell_equals_the_model(name: str) -> None:
    fields = PARAMETERS[name].model_fields
    model = {key: (getattr(field.annotation, "__name__", ""), field.default) for key, field in fields.items()}
    assert parameters_cell(name) == model
    assert {annotation for annotation, _ in model.values()} <= SIMPLE


@pytest.mark.parametrize("name", PARAMETERS)
def test_starts_with_a_title_and_runs_from_top_to_bottom(name: str) -> None:
    notebook = read(name)
    assert notebook.cells[0].cell_type == "markdown"
    assert title_of(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("name", PARAMETERS)
def test_carries_outputs_but_no_errors_widget_state_or_bookkeeping(name: str) -> None:
    notebook = read(name)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any(PLOTLY_MIME in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    assert not {"widgets", "papermill"} & set(notebook.metadata)
    assert not [cell for cell in notebook.cells if {"papermill", "execution"} & set(cell.metadata)]
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", PARAMETERS)
def test_is_small_and_knows_nothing_of_the_machine_it_ran_on(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST
    text = json.dumps(read(name))
    folders = [f"/{name}/" for name in ("root", "home", "Users", "tmp")]
    assert not [place for place in (*folders, "site-packages") if place in text]
