"""The rows of a long measurement on disk, so that a run that was cut short goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError


class RowLog:
    """Rows by key, one JSON object a line, appended as they are measured.

    A line that is not whole, as a killed process leaves it, counts as not measured. Rows of other keys may share the
    file. Of two rows of one key the first counts.

    Args:
        path: The file; it need not exist.

    Example:
        >>> log = RowLog("out-edits.jsonl")
        >>> key = row_key({"model": base, "image": "a.jpg"})
        >>> row = log[key] if key in log else log.append(key, measured())
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: dict[str, dict[str, Any]] = {}
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        self._whole = not text or text.endswith("\n")
        for line in text.splitlines():
            row = _parsed(line)
            if row is not None:
                self._rows.setdefault(row.pop("key"), row)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._rows[key]

    def append(self, key: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Add a row of plain, finite values, in the file before the call returns, and return it as a file gives it.

        Raises:
            WorkbenchError: the file cannot be written to.
        """
        line = json.dumps({"key": key, **row}, allow_nan=False, ensure_ascii=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n" if self._whole else f"\n{line}\n")
        except OSError as error:
            raise WorkbenchError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._whole = True
        kept: dict[str, Any] = json.loads(line)
        del kept["key"]
        return self._rows.setdefault(key, kept)


def row_key(identity: Mapping[str, Any]) -> str:
    """A short name for what a row is of: 24 hexadecimal digits, the same for equal plain values in any order."""
    text = json.dumps(identity, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("key"), str) else None
