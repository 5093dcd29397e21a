"""The ``workbench`` command.

Each command group has its module. Modules import torch and its friends inside their commands only, so that
``workbench --help`` answers at once.
"""

from __future__ import annotations

from workbench.cli import benchmark, data, edit, models, notebooks, spine, train
from workbench.cli._app import app

app.add_typer(data.app, name="data")
app.add_typer(notebooks.app, name="notebooks")
app.add_typer(edit.app, name="edit")
app.add_typer(train.app, name="train")
app.add_typer(spine.app, name="spine")
app.add_typer(benchmark.app, name="benchmark")
app.command()(models.models)
app.command()(notebooks.demo)

__all__ = ["app"]
