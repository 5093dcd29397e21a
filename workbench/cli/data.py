"""``workbench data``: the external files, by their names in the manifest."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from workbench.cli._app import out
from workbench.errors import IntegrityError, InvalidInputError

app = typer.Typer(no_args_is_help=True, help="External data and weights: list, fetch, verify, locate.")

Names = Annotated[
    list[str] | None, typer.Argument(help="Entries of the manifest; see `workbench data list`.")
]

_STATUS_STYLES = {"present": "green", "broken": "red", "missing": "dim"}


@app.command("list")
def list_entries() -> None:
    """Show every entry: where it comes from, its size, its licence, and whether it is here."""
    from workbench.data.cache import cache_dir
    from workbench.data.fetch import status
    from workbench.data.manifest import load_manifest

    known = load_manifest().entries
    table = Table(box=None, pad_edge=False)
    table.add_column("Name", no_wrap=True, min_width=max(map(len, known)) + 2)
    for heading in ("Status", "MB", "Source", "Licence", "What"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "MB" else "left")
    for name, entry in known.items():
        state = status(name)
        table.add_row(
            f"{name}{' *' if entry.default else ''}",
            f"[{_STATUS_STYLES[state]}]{state}[/]",
            f"{entry.archive_size / 1e6:.1f}" if entry.archive_size else "–",
            entry.source.kind,
            entry.licence,
            entry.title,
        )
    out.print(table)
    out.print(f"\n* fetched by default. Cache: {cache_dir()}", soft_wrap=True)


@app.command()
def fetch(
    names: Names = None,
    default: Annotated[
        bool, typer.Option("--default", help="Fetch the entries that notebooks need.")
    ] = False,
) -> None:
    """Bring entries into the cache; what is there already is not fetched again."""
    from workbench.data.fetch import fetch as fetch_one
    from workbench.data.manifest import load_manifest

    manifest = load_manifest()
    if not names and not default:
        raise InvalidInputError("nothing to fetch: give names (see `workbench data list`) or --default")
    wanted = dict.fromkeys([*(names or ()), *(manifest.default_names if default else ())])
    entries = {name: manifest[name] for name in wanted}  # an unknown name stops before the first download
    for name in entries:
        folder = fetch_one(name, progress=sys.stderr.isatty())
        out.print(f"{name}  [dim]{folder}[/]", soft_wrap=True)


@app.command()
def verify(names: Names = None) -> None:
    """Compare every file with its hash; without names, the entries that are here."""
    from workbench.data.fetch import status
    from workbench.data.fetch import verify as verify_one
    from workbench.data.manifest import load_manifest

    known = load_manifest().entries
    wrong = 0
    for name in names or [name for name in known if status(name) != "missing"]:
        found = verify_one(name)
        wrong += bool(found)
        out.print(f"{name}  {'[red]broken[/]' if found else '[green]ok[/]'}")
        for problem in found:
            out.print(f"  {problem}", markup=False, soft_wrap=True)
    if wrong:
        raise IntegrityError(
            f"{wrong} entries are not as they should be; fetch them again: workbench data fetch NAME"
        )


@app.command()
def path(name: Annotated[str | None, typer.Argument(help="An entry of the manifest.")] = None) -> None:
    """Print the folder of an entry, or the cache folder without a name."""
    from workbench.data.cache import cache_dir
    from workbench.data.fetch import locate

    typer.echo(locate(name) if name else cache_dir())
