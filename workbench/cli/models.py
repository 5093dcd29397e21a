"""``workbench models``: what `load_model` knows."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from workbench.cli._app import out
from workbench.errors import InvalidInputError


def models(
    pattern: Annotated[
        str | None,
        typer.Option("--all", metavar="PATTERN", help="List timm's vision transformers too."),
    ] = None,
) -> None:
    """Show the models that can be loaded by name."""
    from workbench.models import list_models

    more = _timm_names(pattern) if pattern is not None else []
    table = Table("Name", "Description", box=None, pad_edge=False)
    for card in list_models():
        table.add_row(card.name, card.description)
    out.print(table)
    for name in more:
        typer.echo(name)


def _timm_names(pattern: str) -> list[str]:
    import timm

    found: list[str] = timm.list_models(pattern, module="vision_transformer", pretrained=True)
    if not found:
        raise InvalidInputError(f"no vision transformer of timm matches {pattern!r}; try 'vit_*' to see all")
    return found
