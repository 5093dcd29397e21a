"""Whether the files of an entry are there and are what they should be."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from workbench.data._schema import Entry, LayoutRule, ManifestFile
from workbench.errors import IntegrityError
from workbench.files import sha256_of, write_json

#: Names size and hash of the fetched files that the manifest does not list, as they were when they arrived.
RECORD = ".record.json"


def problems(entry: Entry, folder: Path, *, content: bool) -> list[str]:
    """What is wrong with `folder`, in words; empty when nothing is.

    Names and sizes are compared always, hashes (which takes reading every byte) with `content`.
    """
    if not folder.is_dir():
        return [f"there is no folder {folder}"]
    try:
        files = (*entry.expected_files, *_recorded(folder))
    except IntegrityError as error:
        return [str(error)]
    found = [_file_problem(file, folder, content) for file in files]
    found += [_layout_problem(rule, folder) for rule in entry.layout]
    return [problem for problem in found if problem]


def write_record(entry: Entry, folder: Path) -> None:
    """Note size and hash of the files in `folder` whose hash the manifest does not know, if there are any."""
    known = {file.path for file in entry.expected_files if file.sha256}
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    record = {
        name: {"sha256": sha256_of(path), "size": path.stat().st_size}
        for name, path in sorted(paths.items())
        if name not in known
    }
    if record:
        write_json(folder / RECORD, record)


def _recorded(folder: Path) -> list[ManifestFile]:
    path = folder / RECORD
    if not path.is_file():
        return []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return [ManifestFile(path=name, **facts) for name, facts in record.items()]
    except (ValueError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{RECORD} is damaged: {error}") from error


def _file_problem(file: ManifestFile, folder: Path, content: bool) -> str | None:
    path = folder / file.path
    if not path.is_file():
        return f"{file.path} is missing"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{file.path} has {size} bytes, expected {file.size}"
    if content and file.sha256 and (found := sha256_of(path)) != file.sha256:
        return f"{file.path} has sha256 {found}, expected {file.sha256}"
    return None


def _layout_problem(rule: LayoutRule, folder: Path) -> str | None:
    found = sum(1 for _ in islice(folder.glob(rule.glob), rule.at_least))
    if found >= rule.at_least:
        return None
    return f"expected at least {rule.at_least} of: {rule.what} ({rule.glob}), found {found}"
