"""The folder that external files are kept in, and how a new one gets there whole or not at all.

``<cache>/<entry>/<version>/`` holds the files of one entry of the manifest. They are written to a staging
folder beside it and renamed into place, under a lock, so that a reader sees all of them or none.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from workbench.errors import WorkbenchError

#: The environment variable that moves the cache.
CACHE_VARIABLE = "WORKBENCH_DATA"

_STAGING = ".staging-"


def cache_dir() -> Path:
    """The cache folder: ``$WORKBENCH_DATA`` if set, else the platform's own place for caches.

    The folder may not exist yet.

    Example:
        >>> cache_dir().name
        'vision-workbench'
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("vision-workbench", appauthor=False)


def entry_folder(name: str, version: str) -> Path:
    """Where the files of one entry lie once they are there."""
    return cache_dir() / name / version


@contextmanager
def entry_lock(folder: Path) -> Iterator[None]:
    """Hold an entry's lock, waiting for another process that fetches it; `folder` is its `entry_folder`.

    Staging folders found while holding the lock were left by a process that was killed: they are removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        for left in folder.parent.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """A fresh folder on the file system of `folder`, removed with all its content when the block ends."""
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder.parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(new: Path, folder: Path) -> None:
    """Rename the complete folder `new` to `folder`; call it under the entry's lock.

    What lay there (an entry that was found broken) goes into `new`'s staging folder and disappears with it.
    """
    if folder.exists() or folder.is_symlink():
        folder.rename(new.with_name("replaced"))
    new.rename(folder)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise `WorkbenchError` unless the disk that will hold `folder` has `needed` bytes free."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise WorkbenchError(
            f"no space left on the disk: {what} needs {needed:,} bytes ({needed / 1e6:.0f} MB) while it is "
            f"fetched, but only {free:,} bytes ({free / 1e6:.0f} MB) are free at {existing}; free some, or "
            f"move the cache: export {CACHE_VARIABLE}=/folder/on/another/disk"
        )


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the operating system's errors about writing below `folder` into ones that say what to do."""
    try:
        yield
    except WorkbenchError:
        raise
    except OSError as error:
        raise WorkbenchError(_say(error, folder)) from error


def _say(error: OSError, folder: Path) -> str:
    move = f"move the cache: export {CACHE_VARIABLE}=/another/folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk of {folder}; nothing was kept. Free some and run again, or {move}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write to {error.filename or folder}: {error.strerror}. Make it writable, or {move}"
    return f"cannot use the cache folder {folder}: {error.strerror or error}"
