"""Edits as text on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from workbench.cli._app import out

if TYPE_CHECKING:
    import pandas as pd

    from workbench.editing import Edit

#: What `describe` says in its own words; the rest of an edit's info is a setting.
_SAID = (
    "targets",
    "target_names",
    "predicted",
    "steps",
    "succeeded",
    "loss",
    "model",
    "image",
    "editor",
    "settings",
)


def print_frame(frame: pd.DataFrame) -> None:
    """A table with a column for each of the frame's; numbers to the right."""
    from pandas.api.types import is_numeric_dtype

    from workbench.editing.report import cell

    table = Table(box=None, pad_edge=False)
    for name, kind in frame.dtypes.items():
        table.add_column(str(name), justify="right" if is_numeric_dtype(kind) else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*map(cell, row))
    out.print(table)


def print_changes(edit: Edit) -> None:
    """Units and length of the change of each address."""
    from workbench.editing.report import change_table

    print_frame(change_table(edit))


def print_edit(path: Path, edit: Edit) -> None:
    """What an edit file holds: size, base, how it was made, and its changes."""
    size = path.stat().st_size / 1000
    made = edit.info.get("composed", [edit.info])
    kind = "an edit" if len(made) == 1 else f"{len(made)} edits composed"
    out.print(f"{path}: {kind}, {edit.parameters:,} scalars, {size:,.0f} kB", soft_wrap=True)
    out.print(f"base         {edit.base}", soft_wrap=True)
    for i, info in enumerate(made):
        if len(made) > 1:
            out.print(f"-- edit {i + 1}")
        for name, text in _described(info):
            out.print(f"{name:<12} {text}", soft_wrap=True)
    if edit.appends_units:
        out.print("appends hidden units: it runs beside the model and cannot become a plain state dict")
    print_changes(edit)


def _described(info: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    from workbench.editing.report import plain

    for name in ("model", "editor", "image"):
        if name in info:
            yield name, str(info[name])
    names = info.get("target_names", [f"class {target}" for target in info.get("targets", ())])
    if names:
        yield "target", _correction(info, names)
    rest = {key: value for key, value in info.items() if key not in _SAID} | dict(info.get("settings", {}))
    yield "settings", plain({key: value for key, value in rest.items() if key != "editor"})


def _correction(info: Mapping[str, Any], names: Sequence[str]) -> str:
    text = ", ".join(names)
    if "predicted" in info:
        text += f", was {info['predicted']}"
    if "steps" in info and "loss" in info:
        text += f" ({info['steps']} steps, loss {info['loss']:.3f})"
    return text
