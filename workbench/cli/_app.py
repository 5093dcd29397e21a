"""The root command: one clean message for expected errors, and what all commands print with."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

import workbench
from workbench.errors import WorkbenchError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class WorkbenchGroup(TyperGroup):
    """Turns a `WorkbenchError` of any command into one message on stderr and exit code 1.

    Other exceptions are defects and keep their traceback; an interrupt exits with 130, as typer does it.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except WorkbenchError as error:
            if ctx.params.get("debug"):
                raise
            err.print(Text("error: ", style="bold red") + Text(str(error), style="red"), soft_wrap=True)
            raise typer.Exit(1) from error


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"workbench {workbench.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="workbench",
    cls=WorkbenchGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look inside vision transformers and edit them."""
