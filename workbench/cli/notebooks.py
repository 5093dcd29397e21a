"""``workbench notebooks`` and ``workbench demo``: notebooks without a browser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from workbench.cli._app import out

if TYPE_CHECKING:
    from workbench.runs import NotebookRun

app = typer.Typer(no_args_is_help=True, help="Notebooks without a browser: list, run.")

DEMO = ("00_tour", "01_where_to_edit", "02_edit_stepper")

OutFolder = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for the results; runs/<time>-… by default.")
]


@app.command("list")
def list_all() -> None:
    """Show the notebooks and their parameters."""
    from workbench.runs import list_notebooks
    from workbench.runs.parameters import describe_range, parameters_of

    for notebook in list_notebooks():
        model = parameters_of(notebook.name)
        table = Table("Parameter", "Default", "Accepts", "Meaning", box=None, pad_edge=False)
        for name, field in model.model_fields.items():
            table.add_row(name, str(field.default), describe_range(name, model), field.description)
        out.print(f"[bold]{notebook.name}[/]  {notebook.title}")
        out.print(table)
        out.print()


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A notebook; see `workbench notebooks list`.")],
    parameters: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    folder: OutFolder = None,
) -> None:
    """Run one notebook and write it, with a gallery of its figures, to a new folder."""
    from workbench.runs import run_notebook, write_gallery
    from workbench.runs.parameters import parse_assignments

    folder = folder or _run_folder(name)
    done = run_notebook(name, parse_assignments(parameters or ()), folder)
    _report([done], write_gallery([done], folder, title=f"Workbench: {name}"))


def demo(folder: OutFolder = None) -> None:
    """Fetch the default data, run the notebooks and write a gallery."""
    from workbench.data import fetch_default
    from workbench.runs import run_notebook, write_gallery

    folder = folder or _run_folder("demo")
    fetch_default(progress=sys.stderr.isatty())
    runs = []
    for name in DEMO:
        runs.append(run_notebook(name, out_dir=folder))
        out.print(f"{name}  ran in {runs[-1].seconds:.0f} s")
    _report(runs, write_gallery(runs, folder, title="Workbench demo"))


def _run_folder(label: str) -> Path:
    return Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{label}"


def _report(runs: Sequence[NotebookRun], gallery: Path) -> None:
    """The headline numbers as a table, and where the gallery is."""
    from workbench.runs.headline import format_value

    table = Table("Notebook", "Number", "Value", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for done in runs:
        for i, (label, value) in enumerate(done.headline.items()):
            table.add_row("" if i else done.name, label, format_value(value))
    if table.row_count:
        out.print()
        out.print(table)
    out.print(f"\nGallery: {gallery.resolve()}", soft_wrap=True)
