"""What an executed notebook keeps and what it loses."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from workbench.runs.tidy import WIDGET_VIEW, main, tidied


def executed() -> nbformat.NotebookNode:
    shown = new_output("display_data", {WIDGET_VIEW: {"model_id": "abc"}, "text/plain": "Stepper(step 0)"})
    printed = new_output("stream", name="stdout", text="1\n")
    cell = new_code_cell(
        "stepper",
        outputs=[shown, printed],
        execution_count=3,
        metadata={"tags": ["nbval-ignore-output"], "papermill": {"duration": 1.0}, "execution": {"t": "now"}},
    )
    extra = {
        "widgets": {"state": {}},
        "papermill": {"duration": 2.0},
        "kernelspec": {"name": "python3", "display_name": "P"},
    }
    return new_notebook(cells=[cell], metadata=extra)


def test_views_state_and_times_go_and_the_rest_stays() -> None:
    notebook = executed()
    found = tidied(notebook)
    (cell,) = found.cells
    assert set(found.metadata) == {"kernelspec"}
    assert set(notebook.metadata) == {"kernelspec", "widgets", "papermill"}  # the one given is not changed
    assert cell.metadata == {"tags": ["nbval-ignore-output"]}
    assert cell.execution_count == 3
    assert cell.outputs[0].data == {"text/plain": "Stepper(step 0)"}
    assert cell.outputs[1].text == "1\n"


def test_files_are_tidied_in_place_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "executed.ipynb"
    nbformat.write(executed(), path)
    main([str(path)])
    first = path.read_text(encoding="utf-8")
    assert "model_id" not in first
    main([str(path)])
    assert path.read_text(encoding="utf-8") == first
    nbformat.validate(nbformat.read(path, as_version=4))
