"""What the `workbench edit` commands are given and where they may write: settled before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.errors import InvalidInputError

#: Kinds of report by the file's suffix.
REPORTS = (".html", ".md")


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path], force: bool) -> None:
    """Raise `InvalidInputError` where a file would be overwritten: an input never, others with `force` only."""
    given = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in given:
            raise InvalidInputError(
                f"{path} is one of the inputs and would be replaced; choose another name with -o"
            )
        if path.exists() and not force:
            raise InvalidInputError(f"{path} exists; give another name with -o, or --force to overwrite it")


def report_path(out_file: Path, report: Path | None, wanted: bool) -> Path | None:
    """Where the report goes: beside the edit unless told otherwise; None where none is wanted."""
    if not wanted:
        return None
    path = out_file.with_suffix(".html") if report is None else report
    if path.suffix not in REPORTS:
        raise InvalidInputError(f"--report {path} must end in {' or '.join(REPORTS)}")
    return path


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """``["strength=0.01", "blocks=3,4"]`` as values: JSON, or numbers with commas, or else a text.

    Raises:
        InvalidInputError: no ``=``, no name before it, or a name given twice.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name.isidentifier():
            raise InvalidInputError(f"cannot read -s {assignment!r}: expected key=value, as in sparsity=0.95")
        if name in found:
            raise InvalidInputError(f"-s {name} is given twice")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    for candidate in (text, f"[{text}]"):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return text
