"""``workbench models``: what `load_model` knows."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from workbench.cli._app import out
from workbench.errors import UnknownNameError


def models(
    pattern: Annotated[
        str | None,
        typer.Option("--all", metavar="PATTERN", help="List timm's models too, such as 'vit_small*'."),
    ] = None,
) -> None:
    """Show the models that can be loaded by name."""
    from workbench.models import list_models

    table = Table("Name", "Description", box=None, pad_edge=False)
    for card in list_models():
        table.add_row(card.name, card.description)
    out.print(table)
    if pattern is not None:
        out.print()
        for name in _timm_names(pattern):
            typer.echo(name)


def _timm_names(pattern: str) -> list[str]:
    import timm

    found: list[str] = timm.list_models(pattern, pretrained=True)
    if not found:
        raise UnknownNameError("timm model pattern", pattern, timm.list_models("vit_*", pretrained=True))
    return found
