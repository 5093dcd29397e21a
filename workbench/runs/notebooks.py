"""Finding the notebooks and running them without a browser, through papermill."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

import workbench
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError, WorkbenchError
from workbench.runs.headline import Scalar
from workbench.runs.outputs import headline_of, title_of
from workbench.runs.parameters import check_parameters
from workbench.runs.tidy import tidy_file

# Figures stay JSON in the executed notebook (kilobytes each); exports add the drawing code once.
_KERNEL_ENVIRONMENT = {"PLOTLY_RENDERER": "plotly_mimetype", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


@dataclass(frozen=True)
class NotebookInfo:
    """A notebook that can be run: its name (the file's stem), its title and its file."""

    name: str
    title: str
    path: Path


@dataclass(frozen=True)
class NotebookRun:
    """One executed notebook.

    Attributes:
        name: the notebook's name.
        path: the executed notebook.
        parameters: every parameter it ran with, defaults included.
        headline: the numbers its `headline` cells showed, by label.
        seconds: wall-clock time, kernel start included.
    """

    name: str
    path: Path
    parameters: Mapping[str, Any]
    headline: Mapping[str, Scalar] = field(default_factory=dict)
    seconds: float = 0.0


def notebooks_folder() -> Path:
    """The checkout's ``notebooks`` folder.

    Raises:
        MissingDataError: the package is installed without its checkout.
    """
    folder = Path(workbench.__file__).resolve().parent.parent / "notebooks"
    if not any(folder.glob("*.ipynb")):
        raise MissingDataError(
            f"no notebooks in {folder}: they live in the project's checkout, not in the installed package; "
            "clone the project and type `make setup` there"
        )
    return folder


def list_notebooks(folder: str | Path | None = None) -> list[NotebookInfo]:
    """The notebooks of `folder` (the checkout's by default), sorted by name.

    Example:
        >>> [notebook.name for notebook in list_notebooks()]
        ['00_tour', '01_where_to_edit', '02_edit_stepper']
    """
    paths = sorted(Path(folder or notebooks_folder()).glob("*.ipynb"))
    return [NotebookInfo(path.stem, title_of(nbformat.read(path, as_version=4)), path) for path in paths]


def run_notebook(
    name: str,
    parameters: Mapping[str, Any] | None = None,
    out_dir: str | Path = "runs",
    *,
    folder: str | Path | None = None,
    progress: bool = True,
) -> NotebookRun:
    """Execute a notebook in its own kernel and keep the result in `out_dir`.

    Parameters are checked before the kernel starts. The kernel works in the notebook's own folder. When a
    cell fails, the part that ran stays in ``out_dir/NAME.ipynb``, with the error in its place.

    Args:
        name: a notebook's name, such as ``"00_tour"``.
        parameters: values in place of the notebook's defaults; see `workbench.runs.parameters`.
        out_dir: made if needed; an executed notebook of this name must not be in it yet.
        folder: where the notebook is; the checkout's ``notebooks`` by default.
        progress: show a bar over the cells (on a terminal only).

    Raises:
        UnknownNameError: no such notebook or parameter; the message gives the nearest.
        InvalidInputError: a parameter outside its range, or `out_dir` already holds this notebook.
        WorkbenchError: a cell failed or the kernel died; the message says which cell, and why.

    Example:
        >>> run = run_notebook("00_tour", {"sparsity": 0.95}, "runs/sparser")
        >>> run.path
        PosixPath('runs/sparser/00_tour.ipynb')
    """
    known = {notebook.name: notebook.path for notebook in list_notebooks(folder)}
    if name not in known:
        raise UnknownNameError("notebook", name, known)
    checked = check_parameters(name, parameters or {}).model_dump()
    target = _free_target(Path(out_dir), name)
    started = time.monotonic()
    _execute(known[name], target, checked, progress=progress)
    notebook = tidy_file(target)
    return NotebookRun(name, target, checked, headline_of(notebook), time.monotonic() - started)


def _free_target(out_dir: Path, name: str) -> Path:
    target = out_dir / f"{name}.ipynb"
    if target.exists():
        raise InvalidInputError(f"{target} exists already: choose another output folder, or remove it first")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(f"cannot make the output folder {out_dir}: {error.strerror}") from error
    return target


def _execute(source: Path, target: Path, parameters: Mapping[str, Any], *, progress: bool) -> None:
    import papermill  # 1.4 s, and only needed here
    from papermill.exceptions import PapermillExecutionError

    bar = {"desc": source.stem, "disable": None, "leave": False} if progress else False
    try:
        with _environment(_KERNEL_ENVIRONMENT):
            papermill.execute_notebook(
                source,
                _literal(target),
                parameters=dict(parameters),
                kernel_name="python3",
                language="python",
                cwd=source.parent,
                progress_bar=bar,
                store_widget_state=False,
                extra_arguments=["--log-level=CRITICAL"],  # the kernel's own log, not what cells print
            )
    except PapermillExecutionError as error:
        tidy_file(target)
        raise WorkbenchError(_cell_failure(source.stem, target, error)) from error
    except RuntimeError as error:  # nbclient's kernel death, startup and time-out errors are all of this kind
        where = f"; what ran is in {target}" if target.exists() else ""
        raise WorkbenchError(f"notebook {source.stem} stopped: {_first_line(str(error))}{where}") from error


def _literal(path: Path) -> str:
    """The path as papermill wants it: it fills in ``{parameter}``, so braces are doubled."""
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the kernels started inside the block; then put the old ones back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _cell_failure(name: str, target: Path, error: Any) -> str:
    line = _first_line(error.source)
    return (
        f"notebook {name} failed at In [{error.exec_count}] (`{line}`): {error.ename}: {error.evalue}\n"
        f"What ran, with the traceback, is in {target}"
    )


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
