"""Fetching into the cache: whole or not at all, once, and with errors that say what to do."""

from __future__ import annotations

import errno
import logging
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.data import cache_dir, fetch, fetch_default, locate, status, verify
from workbench.data._archives import extract_members
from workbench.data.manifest import Manifest
from workbench.errors import IntegrityError, MissingDataError, UnknownNameError, WorkbenchError

Usage = namedtuple("Usage", "total used free")


def names(folder: Path) -> list[str]:
    """Everything below `folder` but locks."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock")


def test_cache_folder_comes_from_the_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == cache
    monkeypatch.setenv("WORKBENCH_DATA", "~/somewhere")
    assert cache_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("WORKBENCH_DATA")
    assert cache_dir().name == "vision-workbench"


def test_fetch_puts_the_files_there_once(cache: Path, toy: Manifest, from_archive: list[str]) -> None:
    assert status("toy", manifest=toy) == "missing"
    folder = fetch("toy", progress=False, manifest=toy)
    assert folder == cache / "toy/1.0.0" == locate("toy", manifest=toy)
    assert names(cache) == ["toy", "toy/1.0.0", "toy/1.0.0/icons.json", "toy/1.0.0/info.json"]
    assert (status("toy", manifest=toy), verify("toy", manifest=toy)) == ("present", [])
    fetch("toy", progress=False, manifest=toy)
    assert from_archive == ["toy"]


def test_a_complete_entry_is_not_written_to(
    cache: Path, toy: Manifest, from_archive: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch("toy", progress=False, manifest=toy)
    shutil.copytree(cache / "toy/1.0.0", cache.parent / "copied/toy/1.0.0")
    monkeypatch.setenv("WORKBENCH_DATA", str(cache.parent / "copied"))
    fetch("toy", progress=False, manifest=toy)
    assert not (cache.parent / "copied/toy/.lock").exists()


def test_default_entries(
    cache: Path, toy_entry: dict[str, Any], manifest_of: Any, from_archive: list[str]
) -> None:
    manifest = manifest_of(one=toy_entry, two={**toy_entry, "default": False})
    assert fetch_default(progress=False, manifest=manifest) == {"one": cache / "one/1.0.0"}


def test_locate_says_what_to_type(cache: Path, toy: Manifest) -> None:
    message = r"toy \(A toy set\) is not in the cache; run: workbench data fetch toy"
    with pytest.raises(MissingDataError, match=message):
        locate("toy", manifest=toy)


@pytest.mark.parametrize("function", [fetch, locate, verify, status])
def test_unknown_names(function: Callable[..., Any], toy: Manifest) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown data entry 'toi'; did you mean 'toy'\?"):
        function("toi", manifest=toy)


def test_a_damaged_entry_is_found_and_fetched_again(
    cache: Path, toy: Manifest, from_archive: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = fetch("toy", progress=False, manifest=toy)
    good = (folder / "icons.json").read_bytes()
    (folder / "icons.json").write_bytes(good.replace(b"icons", b"ICONS"))
    assert status("toy", manifest=toy) == "present"  # sizes alone do not tell
    (problem,) = verify("toy", manifest=toy)
    assert problem.startswith("icons.json has sha256")
    (folder / "icons.json").unlink()
    assert status("toy", manifest=toy) == "broken"
    with pytest.raises(
        MissingDataError, match=r"is broken \(icons.json is missing\); run: workbench data fetch toy"
    ):
        locate("toy", manifest=toy)
    with caplog.at_level(logging.WARNING):
        fetch("toy", progress=False, manifest=toy)
    assert (folder / "icons.json").read_bytes() == good
    assert "is broken and is fetched again: icons.json is missing" in caplog.text
    assert names(cache) == ["toy", "toy/1.0.0", "toy/1.0.0/icons.json", "toy/1.0.0/info.json"]


def test_wrong_hash_leaves_nothing(
    cache: Path, toy_entry: dict[str, Any], manifest_of: Any, from_archive: list[str]
) -> None:
    toy_entry["files"][1]["sha256"] = "f" * 64
    with pytest.raises(IntegrityError, match=f"expected sha256 {'f' * 64}"):
        fetch("toy", progress=False, manifest=manifest_of(toy=toy_entry))
    assert names(cache) == ["toy"]


def test_truncated_archive_leaves_nothing(
    cache: Path, archive: Path, toy: Manifest, from_archive: list[str]
) -> None:
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(IntegrityError, match="is damaged or was cut short"):
        fetch("toy", progress=False, manifest=toy)
    assert names(cache) == ["toy"]


def test_an_interrupt_leaves_nothing(
    cache: Path, toy: Manifest, from_archive: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any) -> None:
        extract_members(*args)
        raise KeyboardInterrupt

    # The package's attribute `fetch` is the function; the module is found by its name.
    monkeypatch.setattr(sys.modules["workbench.data.fetch"], "extract_members", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("toy", progress=False, manifest=toy)
    assert names(cache) == ["toy"]


def test_what_a_killed_process_left_is_cleaned(cache: Path, toy: Manifest, from_archive: list[str]) -> None:
    left = cache / "toy" / ".staging-abc" / "files"
    left.mkdir(parents=True)
    (left / "icons.json").write_text("half")
    fetch("toy", progress=False, manifest=toy)
    assert names(cache) == ["toy", "toy/1.0.0", "toy/1.0.0/icons.json", "toy/1.0.0/info.json"]


def test_too_little_space_is_said_before_the_download(
    cache: Path, toy: Manifest, from_archive: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1000, 990, 10))
    needed = 2 * max(toy["toy"].size, toy["toy"].archive_size)
    with pytest.raises(
        WorkbenchError, match=rf"toy needs {needed} bytes .* but only 10 bytes .* WORKBENCH_DATA="
    ):
        fetch("toy", progress=False, manifest=toy)
    assert from_archive == []


def test_a_disk_that_fills_up_leaves_nothing(
    cache: Path, toy: Manifest, from_archive: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if "x" in mode:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return original(path, mode, *args, **options)

    original = Path.open
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(WorkbenchError, match=r"no space left on the disk of .*toy/1\.0\.0; nothing was kept"):
        fetch("toy", progress=False, manifest=toy)
    assert names(cache) == ["toy"]


def test_a_cache_that_cannot_be_made(toy: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(WorkbenchError, match="cannot use the cache folder"):
        fetch("toy", progress=False, manifest=toy)


@pytest.fixture
def registered(toy_entry: dict[str, Any], manifest_of: Callable[..., Manifest]) -> Manifest:
    source = {
        "kind": "registration",
        "version": "1",
        "ask": "Write to the authors.",
        "unpack": "Unpack it flat.",
    }
    layout = [{"glob": "*.png", "what": "drawings", "at_least": 2}]
    return manifest_of(asked={**toy_entry, "source": source, "files": [], "layout": layout})


def test_registered_data_says_how_to_get_it(cache: Path, registered: Manifest) -> None:
    with pytest.raises(MissingDataError) as caught:
        fetch("asked", manifest=registered)
    for part in ("Write to the authors.", "Unpack it flat.", str(cache / "asked/1"), "nothing there yet"):
        assert part in str(caught.value)
    assert not cache.exists()


def test_registered_data_is_checked_by_layout(cache: Path, registered: Manifest) -> None:
    folder = cache / "asked/1"
    folder.mkdir(parents=True)
    (folder / "one.png").touch()
    expected = "expected at least 2 of: drawings (*.png), found 1"
    assert verify("asked", manifest=registered) == [expected]
    assert status("asked", manifest=registered) == "broken"
    with pytest.raises(MissingDataError, match="found 1"):
        fetch("asked", manifest=registered)
    (folder / "two.png").touch()
    assert verify("asked", manifest=registered) == []
    assert fetch("asked", manifest=registered) == folder == locate("asked", manifest=registered)
