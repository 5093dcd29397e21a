"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from workbench.errors import InvalidInputError, MissingDataError, WorkbenchError
from workbench.files import atomic_path, sha256_of, write_json, write_text


def leftovers(folder: Path, *known: str) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name not in known)


def test_a_file_appears_whole_in_a_new_folder(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "report.txt"
    assert write_text(target, "näher\n") == target
    assert target.read_bytes() == "näher\n".encode()
    assert leftovers(target.parent, "report.txt") == []
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_until_the_end_the_old_content_is_there(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")
    with atomic_path(target) as path:
        path.write_text("new")
        assert target.read_text() == "old"
        assert path.parent == target.parent  # a rename between file systems would not be atomic
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), MissingDataError("run: this")])
def test_after_an_error_the_old_content_is_there_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    target = write_text(tmp_path / "a.txt", "old")

    def write_half() -> None:
        with atomic_path(target) as path:
            path.write_text("half of the n")
            raise error

    with pytest.raises(type(error)) as caught:
        write_half()
    assert caught.value is error
    assert target.read_text() == "old"
    assert leftovers(tmp_path, "a.txt") == []


def test_an_error_leaves_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError), atomic_path(tmp_path / "a.txt"):
        raise InvalidInputError("wrong")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "no space left on the disk while writing {target}; free some and run again"),
        (errno.EACCES, "cannot write {target}: Permission denied; choose a folder you may write to"),
        (errno.EROFS, "cannot write {target}: Read-only file system; choose a folder you may write to"),
        (errno.EIO, "cannot write {target}: Input/output error"),
    ],
)
def test_the_systems_errors_name_the_file_and_the_cure(tmp_path: Path, number: int, text: str) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(WorkbenchError) as caught, atomic_path(target):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == text.format(target=target)
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    blocker = write_text(tmp_path / "file", "")
    with pytest.raises(WorkbenchError, match=r"cannot write .*a\.txt: (Not a directory|File exists)"):
        write_text(blocker / "a.txt", "")


def test_json_is_readable_and_has_no_nan(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"größe": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"größe": [1, None]}
    assert "größe" in path.read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"größe": [1, None]}


def test_sha256(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    path = tmp_path / "big.bin"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
