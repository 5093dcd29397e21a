"""The notebooks through papermill, with small parameters, each into a gallery."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import nbformat
import own_model
import pytest

from workbench.runs import run_notebook, write_gallery
from workbench.runs.outputs import figures_of

# Other values than the committed ones, and little to compute.
SMALL: dict[str, dict[str, Any]] = {
    "00_tour": {"sparsity": 0.75, "index": 1, "seed": 1},
    "01_where_to_edit": {"sparsity": 0.75, "index": 2, "other_index": 0, "style": "emojione-monotone"},
    "02_edit_stepper": {"sparsity": 0.5, "index": 1, "max_steps": 5, "locality_images": 16},
    "05_spine_landmarks": {"source": "hard", "index": 3, "films": 2, "variant": "yi", "mode": 1},
    "07_edit_your_model": {"editor": "ft-linf"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_runs_with_small_parameters(name: str, tmp_path: Path) -> None:
    run = run_notebook(name, SMALL[name], tmp_path, progress=False)
    assert run.parameters.items() >= SMALL[name].items()
    assert run.headline, "the notebook shows no headline numbers"
    figures = figures_of(nbformat.read(run.path, as_version=4))
    assert figures, "the notebook shows no figure"
    page = write_gallery([run], tmp_path).read_text(encoding="utf-8")
    assert page.count('<div class="figure">') == len(figures)
    assert all(escape(label) in page for label in run.headline)


@pytest.mark.slow
def test_edits_a_model_and_images_of_ones_own(tmp_path: Path) -> None:
    own_model.write(tmp_path)
    right, wrong = own_model.ranked(tmp_path)[1::-1]
    given = {
        "model": str(tmp_path / "model.safetensors"),
        "image": str(tmp_path / "wrong.png"),
        "target": right,
        "neighbours": str(tmp_path / "near"),
        "protect": str(tmp_path / "far"),
        "out": str(tmp_path / "written"),
    }
    run = run_notebook("07_edit_your_model", given, tmp_path / "run", progress=False)
    assert str(run.headline["image"]).startswith(f"wrong.png: taken for {wrong!r} (")
    assert run.headline["editor"] == "gradient-mask"
    assert run.headline["LR"] is not None
    names = {path.name for path in (tmp_path / "written").iterdir()}
    assert {"fix.safetensors", "fix.html", "fixed.safetensors", "base.safetensors"} <= names


@pytest.mark.slow
def test_one_wrong_image_alone_is_enough(tmp_path: Path) -> None:
    own_model.write(tmp_path)
    given = {
        "model": str(tmp_path / "model.safetensors"),
        "image": str(tmp_path / "wrong.png"),
        "target": own_model.ranked(tmp_path)[1],
    }
    run = run_notebook("07_edit_your_model", given, tmp_path / "run", progress=False)
    assert (run.headline["GR"], run.headline["LR"]) == (None, None)
