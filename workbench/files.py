"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A temporary path beside `target`, renamed onto it when the block ends without an error.

    The parent folder is made if needed. On any error the temporary file is removed and an existing target
    is untouched. A full disk or a folder without write permission raises `WorkbenchError` naming the target.

    Example:
        >>> with atomic_path("out/report.json") as path:
        ...     path.write_text("{}")
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise _explain(error, target) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes files private; results are meant to be shared
        temporary.replace(target)
    except WorkbenchError:  # some are OSErrors too, and say what is wrong already
        raise
    except OSError as error:
        raise _explain(error, target) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: str | Path, text: str) -> Path:
    """Write `text` (UTF-8) to `target` atomically and return the path."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")
    return Path(target)


def write_json(target: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON (no NaN: null where undefined) to `target` atomically."""
    return write_text(target, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits, read in bounded memory."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _explain(error: OSError, target: Path) -> WorkbenchError:
    if error.errno == errno.ENOSPC:
        return WorkbenchError(f"no space left on the disk while writing {target}; free some and run again")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return WorkbenchError(f"cannot write {target}: {error.strerror}; choose a folder you may write to")
    return WorkbenchError(f"cannot write {target}: {error.strerror or error}")
