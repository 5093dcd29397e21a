"""The headless runner, on tiny notebooks with a real kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError, WorkbenchError
from workbench.runs import notebooks
from workbench.runs.notebooks import list_notebooks, run_notebook

MakeNotebook = Callable[..., Path]


def printed(path: Path) -> str:
    """Everything that an executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_runs_with_defaults_and_reads_the_headline(make_notebook: MakeNotebook, tmp_path: Path) -> None:
    headline = "import workbench as wb\nwb.runs.headline({'count': count, 'share': 0.25})"
    folder = make_notebook("tiny", ("code", headline))
    run = run_notebook("tiny", out_dir=tmp_path / "out", folder=folder, progress=False)
    assert run.path == tmp_path / "out" / "tiny.ipynb"
    assert run.parameters == {"text": "plain", "count": 2}
    assert run.headline == {"count": 2, "share": 0.25}
    assert printed(run.path) == "'plain' 2\n"


def test_executed_notebook_carries_no_bookkeeping(make_notebook: MakeNotebook, tmp_path: Path) -> None:
    run = run_notebook("tiny", out_dir=tmp_path / "out", folder=make_notebook("tiny"), progress=False)
    notebook = nbformat.read(run.path, as_version=4)
    assert "papermill" not in notebook.metadata
    assert not any("papermill" in cell.metadata for cell in notebook.cells)
    assert str(tmp_path) not in run.path.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "\"; open('stolen', 'w').close(); x = \"",
        "\\",
        '\\"',
        "line\nbreak'''\"\"\"",
        "{count} %s $HOME `ls`",
        "née 🦎 \u2028",
    ],
)
def test_text_parameters_arrive_as_text(make_notebook: MakeNotebook, tmp_path: Path, text: str) -> None:
    folder = make_notebook("tiny")
    run = run_notebook("tiny", {"text": text}, tmp_path / "out", folder=folder, progress=False)
    assert printed(run.path) == f"{text!r} 2\n"
    assert not list(tmp_path.rglob("stolen"))


def test_failing_cell_is_named_and_its_notebook_kept(make_notebook: MakeNotebook, tmp_path: Path) -> None:
    folder = make_notebook("bad", ("code", "\nraise ValueError('boom')"), ("code", "print('late')"))
    with pytest.raises(WorkbenchError) as caught:
        run_notebook("bad", out_dir=tmp_path / "out", folder=folder, progress=False)
    kept = tmp_path / "out" / "bad.ipynb"
    message = str(caught.value)
    assert "notebook bad failed at In [4] (`raise ValueError('boom')`): ValueError: boom" in message
    assert str(kept) in message
    assert printed(kept) == "'plain' 2\n"
    assert "papermill" not in nbformat.read(kept, as_version=4).metadata


def test_dead_kernel_is_reported(make_notebook: MakeNotebook, tmp_path: Path) -> None:
    folder = make_notebook("dies", ("code", "import os\nos._exit(9)"))
    with pytest.raises(WorkbenchError, match=r"notebook dies stopped: .*[Kk]ernel died.*what ran is in"):
        run_notebook("dies", out_dir=tmp_path / "out", folder=folder, progress=False)


def test_unknown_notebook_names_the_nearest(make_notebook: MakeNotebook, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown notebook 'tony'; did you mean 'tiny'\? Known: tiny"):
        run_notebook("tony", out_dir=tmp_path / "out", folder=make_notebook("tiny"))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"cuont": 3}, UnknownNameError, r"'cuont'; did you mean 'count'\? Known: text, count"),
        (
            {"count": "many"},
            InvalidInputError,
            r"count='many' of notebook tiny cannot be used: expected",
        ),
    ],
)
def test_bad_parameters_fail_before_anything_is_made(
    make_notebook: MakeNotebook,
    tmp_path: Path,
    values: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    folder = make_notebook("tiny")
    with pytest.raises(error, match=message):
        run_notebook("tiny", values, tmp_path / "out", folder=folder)
    assert not (tmp_path / "out").exists()


def test_an_executed_notebook_is_never_replaced(make_notebook: MakeNotebook, tmp_path: Path) -> None:
    folder = make_notebook("tiny")
    earlier = tmp_path / "out" / "tiny.ipynb"
    earlier.parent.mkdir()
    earlier.write_text("mine")
    with pytest.raises(InvalidInputError, match="exists already: choose another output folder"):
        run_notebook("tiny", out_dir=tmp_path / "out", folder=folder)
    assert earlier.read_text() == "mine"


def test_output_folder_may_have_braces(make_notebook: MakeNotebook, tmp_path: Path) -> None:
    run = run_notebook("tiny", out_dir=tmp_path / "{a} b", folder=make_notebook("tiny"), progress=False)
    assert run.path == tmp_path / "{a} b" / "tiny.ipynb"
    assert run.path.exists()


def test_output_folder_that_is_a_file_is_refused(make_notebook: MakeNotebook, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match="cannot make the output folder"):
        run_notebook("tiny", out_dir=tmp_path / "file" / "out", folder=make_notebook("tiny"))


def test_kernel_environment_is_set_and_put_back(
    make_notebook: MakeNotebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLOTLY_RENDERER", "browser")
    monkeypatch.delenv("PYDEVD_DISABLE_FILE_VALIDATION", raising=False)
    here = Path.cwd()
    show = "import os\nprint(os.environ['PLOTLY_RENDERER'], os.path.basename(os.getcwd()))"
    folder = make_notebook("tiny", ("code", show))
    run = run_notebook("tiny", out_dir=tmp_path / "out", folder=folder, progress=False)
    assert "plotly_mimetype notebooks" in printed(run.path)
    assert os.environ["PLOTLY_RENDERER"] == "browser"
    assert "PYDEVD_DISABLE_FILE_VALIDATION" not in os.environ
    assert Path.cwd() == here


def test_lists_names_and_titles(make_notebook: MakeNotebook) -> None:
    make_notebook("tiny")
    folder = make_notebook("another")
    assert [(info.name, info.title) for info in list_notebooks(folder)] == [
        ("another", "A tiny notebook"),
        ("tiny", "A tiny notebook"),
    ]


def test_without_a_checkout_says_where_notebooks_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks.workbench, "__file__", str(tmp_path / "workbench" / "__init__.py"))
    with pytest.raises(MissingDataError, match=r"no notebooks in .*clone the project and type `make setup`"):
        list_notebooks()
