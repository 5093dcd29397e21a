"""``workbench data``: the external files, by their names in the manifest."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

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
    from workbench.data import cache_dir, load_manifest, status

    known = load_manifest().entries
    wide = max(map(len, known)) + 3
    for name, entry in known.items():
        state = status(name)
        size = f"{entry.archive_size / 1e6:6.1f} MB" if entry.archive_size else " " * 9
        line = Text.assemble(
            f"{name + (' *' if entry.default else ''):{wide}}",
            (f"{state:8}", _STATUS_STYLES[state]),
            f"{size}  {entry.source.kind:13}{entry.title} ",
            (f"({entry.licence})", "dim"),
        )
        # a terminal gets one line an entry; a pipe gets everything
        out.print(line, no_wrap=True, overflow="ellipsis" if out.is_terminal else "ignore", crop=False)
    out.print(f"\n* fetched by default. Cache: {cache_dir()}", soft_wrap=True)


@app.command()
def fetch(
    names: Names = None,
    default: Annotated[
        bool, typer.Option("--default", help="Fetch the entries that notebooks need.")
    ] = False,
) -> None:
    """Bring entries into the cache; what is there already is not fetched again."""
    from workbench.data import fetch as fetch_one
    from workbench.data import load_manifest

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
    from workbench.data import load_manifest, status
    from workbench.data import verify as verify_one

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
    from workbench.data import cache_dir, locate

    typer.echo(locate(name) if name else cache_dir())
