"""The notebooks through papermill, with small parameters, into one gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from workbench.runs import NotebookRun, run_notebook, write_gallery
from workbench.runs.outputs import figures_of

# Other values than the committed ones, and little to compute.
SMALL: dict[str, dict[str, Any]] = {
    "00_tour": {"sparsity": 0.75, "index": 1, "seed": 1},
    "01_where_to_edit": {"sparsity": 0.75, "index": 2, "other_index": 0, "style": "emojione-monotone"},
    "02_edit_stepper": {"sparsity": 0.5, "index": 1, "max_steps": 5, "locality_images": 16},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def runs() -> list[NotebookRun]:
    """The runs of this module's tests, in order."""
    return []


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_runs_with_small_parameters(name: str, folder: Path, runs: list[NotebookRun]) -> None:
    run = run_notebook(name, SMALL[name], folder, progress=False)
    assert run.parameters.items() >= SMALL[name].items()
    assert run.headline, "the notebook shows no headline numbers"
    assert figures_of(nbformat.read(run.path, as_version=4)), "the notebook shows no figure"
    runs.append(run)


@pytest.mark.slow
def test_gallery_of_all_three(folder: Path, runs: list[NotebookRun]) -> None:
    if len(runs) < len(SMALL):
        pytest.skip("a notebook did not run")
    text = write_gallery(runs, folder).read_text(encoding="utf-8")
    assert text.count('<div class="figure">') >= len(SMALL)
    assert all(label in text for run in runs for label in run.headline)
