"""Reading what the benchmarks last measured, for notebooks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """A results file: what a command measured, and where it comes from. Made by `read_results`.

    Args:
        name: Of the benchmark.
        record: The file's content.
    """

    name: str
    record: Mapping[str, Any]

    def __contains__(self, part: object) -> bool:
        return part in self.record["results"]

    def __getitem__(self, part: str) -> Any:
        """One part of the results.

        Raises:
            MissingDataError: it was not measured; the message says what to type.
        """
        if part not in self:
            raise MissingDataError(
                f"the part {part!r} of {self.name} was not measured; type: python -m benchmarks.{self.name} "
                f"--only {part}"
            )
        return self.record["results"][part]

    def table(self, part: str, *path: str) -> pd.DataFrame:
        """Rows that stand somewhere in a part, as a table.

        Raises:
            MissingDataError: the part was not measured.
            UnknownNameError: nothing stands there; the message gives the nearest.

        Example:
            >>> read_results("editing_benchmark").table("front", "overall", "areas")
        """
        import pandas as pd

        found = self[part]
        for name in path:
            if name not in found:
                raise UnknownNameError(f"entry of {part}", name, found)
            found = found[name]
        return pd.DataFrame(found)

    def source(self) -> str:
        """The command, seed, day and versions behind the numbers, in a line."""
        record = self.record
        return f"{record['command']}: seed {record['seed']}, {record['date']}, torch {record['versions']['torch']}"


def read_results(name: str, folder: str | Path | None = None) -> Results:
    """What a benchmark last measured.

    Args:
        name: Of the benchmark, ``"editing_benchmark"``.
        folder: Of the results; the checkout's ``results`` by default.

    Raises:
        MissingDataError: there are none; the message says what to type.
        InvalidInputError: the file is not a results file.
    """
    from workbench.runs.notebooks import notebooks_folder

    path = (Path(folder) if folder else notebooks_folder().parent / "results") / f"{name}.json"
    if not path.exists():
        raise MissingDataError(
            f"there is no {path.name} in {path.parent.name}/; type: python -m benchmarks.{name}"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not {"command", "date", "seed", "versions", "results"} <= set(record):
            raise ValueError("it does not say what was measured, and how")
    except (ValueError, TypeError) as error:
        raise InvalidInputError(
            f"{path.name} is no results file: {error}; type: python -m benchmarks.{name}"
        ) from error
    return Results(name, record)
