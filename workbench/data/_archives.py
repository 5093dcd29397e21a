"""Reading files out of zip and tar archives without trusting them.

Only regular files are ever written, under names that stay below the target folder. This is stricter than
tar's own "data" filter, which lets some links through and rewrites some names, and it is the same for zip.
"""

from __future__ import annotations

import hashlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import IO, Literal

from workbench.data._schema import ManifestFile, is_safe_relative
from workbench.errors import IntegrityError

_CHUNK = 1 << 20

#: Called with the number of bytes just handled, for a progress bar.
OnBytes = Callable[[int], object]


@dataclass(frozen=True)
class _Member:
    name: str
    kind: Literal["file", "folder", "other"]
    open: Callable[[], IO[bytes] | None]


def extract_members(archive: Path, files: Iterable[ManifestFile], target: Path, on_bytes: OnBytes) -> None:
    """Write the wanted members of `archive` below `target`, checking size and SHA-256 while writing.

    In a Python source archive ``name-1.0.tar.gz`` the folder ``name-1.0`` around everything is not part of the
    members' names, so that an entry fits the wheel and the source archive of its package.

    Raises:
        IntegrityError: the archive is damaged, lacks a member, or a member is a link or has another content.
    """
    wanted = {file.member: file for file in files}
    around = f"{archive.name.removesuffix('.tar.gz')}/"
    with _open_archive(archive) as members:
        for member in members:
            if file := wanted.pop(member.name.removeprefix(around), None):
                _refuse_unsafe(member, archive)
                _write(member, target / file.path, file, archive.name, on_bytes)
    if wanted:
        raise IntegrityError(f"{archive.name} has no member {next(iter(wanted))!r}; nothing was kept")


def unpack_all(archive: Path, target: Path, on_bytes: OnBytes) -> None:
    """Write every member of `archive` below `target`.

    Raises:
        IntegrityError: the archive is damaged, or a member is a link, a device, or would land elsewhere.
    """
    with _open_archive(archive) as members:
        for member in members:
            _refuse_unsafe(member, archive)
            if member.kind == "folder":
                (target / member.name).mkdir(parents=True, exist_ok=True)
            else:
                _write(member, target / member.name, None, archive.name, on_bytes)


def check_content(file: ManifestFile, sha256: str, size: int, where: str) -> None:
    """Raise `IntegrityError`, naming file, expected and found, unless size and hash are as listed."""
    if file.size is not None and size != file.size:
        raise IntegrityError(
            f"{file.path} from {where} has {size} bytes, expected {file.size}; nothing was kept"
        )
    if file.sha256 is not None and sha256 != file.sha256:
        raise IntegrityError(
            f"{file.path} from {where} has another content than the manifest says; nothing was kept.\n"
            f"  expected sha256 {file.sha256}\n  found    sha256 {sha256}"
        )


@contextmanager
def _open_archive(archive: Path) -> Iterator[Iterator[_Member]]:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                yield (_of_zip(file, info) for info in file.infolist())
        else:
            with tarfile.open(archive) as tar:
                yield (_of_tar(tar, info) for info in tar)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, LZMAError) as error:
        raise IntegrityError(
            f"{archive.name} is damaged or was cut short ({error}); nothing was kept, run again"
        ) from error


def _of_zip(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir():
        return _Member(info.filename, "folder", lambda: None)
    return _Member(info.filename, "file" if mode in (0, stat.S_IFREG) else "other", lambda: file.open(info))


def _of_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    kind: Literal["file", "folder", "other"]
    kind = "file" if info.isfile() else "folder" if info.isdir() else "other"
    return _Member(info.name, kind, lambda: tar.extractfile(info))


def _refuse_unsafe(member: _Member, archive: Path) -> None:
    if not is_safe_relative(member.name):
        raise IntegrityError(
            f"{archive.name} holds {member.name!r}, which would land outside its folder; nothing was kept"
        )
    if member.kind == "other":
        raise IntegrityError(
            f"{archive.name} holds {member.name!r}, which is a link or a device, not a file; nothing was kept"
        )


def _write(
    member: _Member, destination: Path, file: ManifestFile | None, where: str, on_bytes: OnBytes
) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.exists():
        raise IntegrityError(f"{where} holds {member.name!r} twice; nothing was kept")
    stream = member.open()
    if stream is None:
        raise IntegrityError(f"{member.name!r} of {where} cannot be read; nothing was kept")
    digest, size = hashlib.sha256(), 0
    with stream, destination.open("xb") as output:
        while chunk := stream.read(_CHUNK):
            output.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            on_bytes(len(chunk))
            if file and file.size is not None and size > file.size:
                break  # never unpack more than was announced
    if file:
        check_content(file, digest.hexdigest(), size, where)
