"""A CSV of a training run: one row an iteration, continued without gaps or doubles after a kill."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from workbench.errors import InvalidInputError
from workbench.files import write_text


class TrainingLog:
    """Append rows of numbers to a CSV file.

    Args:
        path: The file; None keeps nothing.
        keep: Rows of an existing file to keep: those that the resumed state has seen. The rest were written
            after the state was saved and will be written again. With 0, an existing file is renamed to
            ``<name>.previous``.

    Example:
        >>> log = TrainingLog(Path("training.csv"), keep=0)
        >>> log.append({"iteration": 0, "loss": 1.25})
    """

    def __init__(self, path: Path | None, keep: int = 0) -> None:
        self.path = path
        if path is None or not path.exists():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if keep == 0:
            path.replace(path.with_suffix(path.suffix + ".previous"))
        elif len(lines) < keep + 1:
            raise InvalidInputError(
                f"{path} has {max(0, len(lines) - 1)} rows but the state has seen {keep}; delete both"
            )
        else:
            write_text(path, "".join(lines[: keep + 1]))

    def append(self, row: Mapping[str, float]) -> None:
        """Write one row; the first one also writes the header."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(row)
            writer.writerow(f"{value:.6g}" for value in row.values())
