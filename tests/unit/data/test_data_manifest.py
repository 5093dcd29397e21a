"""The manifest: what it lists, and what it refuses."""

from __future__ import annotations

import copy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from workbench.data.manifest import Manifest, load_manifest
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError

STYLES = ("noto", "noto-v1", "twemoji", "emojione", "emojione-monotone", "openmoji", "fluent-emoji")
METHOD_DATA = ("natural-image-subset", "sensitive-images", "pug-imagenet", "imagenet-r", "imagenet-sketch")


@pytest.fixture
def written(tmp_path: Path, toy_entry: dict[str, Any]) -> Callable[..., Path]:
    """Writes the toy manifest after `change` had its way with the toy entry."""

    def write(change: Callable[[dict[str, Any]], object] = lambda entry: None) -> Path:
        entry = copy.deepcopy(toy_entry)
        change(entry)
        path = tmp_path / "manifest.yaml"
        path.write_text(yaml.safe_dump({"schema_version": 1, "entries": {"toy": entry}}), encoding="utf-8")
        return path

    return write


def test_default_manifest_lists_what_the_workbench_uses() -> None:
    manifest = load_manifest()
    assert {f"emoji-{style}" for style in STYLES} <= set(manifest.default_names)
    assert {"vit-s14-focus", "emojibase"} <= set(manifest.default_names)
    assert set(METHOD_DATA) <= set(manifest.entries) - set(manifest.default_names)


def test_default_entries_are_fully_hashed_and_need_no_hub() -> None:
    manifest = load_manifest()
    for name in manifest.default_names:
        entry = manifest[name]
        assert entry.source.kind in ("pypi", "npm"), name
        assert all(file.sha256 and file.size is not None for file in entry.files), name
        assert entry.needed_by, name


def test_backbone_is_not_called_plain_dinov2() -> None:
    assert "saliency-tuned" in load_manifest()["vit-s14-focus"].title


@pytest.mark.parametrize("name", ["augreg-vit-b16-224", "augreg-vit-s16-224", "dinov2-vit-s14"])
def test_hub_entries_name_the_repository_that_timm_uses(name: str) -> None:
    from workbench._compat import ensure_torchvision_imports

    ensure_torchvision_imports()
    import timm

    source = load_manifest()[name].source
    assert source.kind == "hub"
    assert timm.get_pretrained_cfg(source.timm_model).hf_hub_id == source.repo


def test_unknown_entry_names_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown data entry 'emoji-notto'; did you mean 'emoji-noto'\?"
    ):
        load_manifest()["emoji-notto"]


def test_a_manifest_of_ones_own(written: Callable[..., Path]) -> None:
    entry = load_manifest(written())["toy"]
    assert (entry.version, entry.size) == ("1.0.0", sum(file.size or 0 for file in entry.files))


def test_entries_are_frozen(toy: Manifest) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        toy["toy"].title = "another"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda entry: entry.update(licens="MIT"),
            r"entry 'toy': unknown key 'licens'; did you mean 'licence'\?",
        ),
        (
            lambda entry: entry["source"].update(packge="toy"),
            r"unknown key 'packge'; did you mean 'package'\? allowed: kind, package, version, archive_size",
        ),
        (
            lambda entry: entry["files"][0].update(sha265="0"),
            r"unknown key 'sha265'; did you mean 'sha256'\?",
        ),
        (
            lambda entry: entry.update(layout=[{"glob": "*", "what": "x", "atleast": 1}]),
            r"unknown key 'atleast'; did you mean 'at_least'\?",
        ),
        (
            lambda entry: entry["source"].update(kind="nmp"),
            r"entry 'toy': unknown kind 'nmp'; did you mean 'npm'\?",
        ),
        (lambda entry: entry.pop("citation"), r"entry 'toy': key 'citation': Field required"),
        (lambda entry: entry["files"][0].update(sha256=None), r"'icons.json' needs its sha256 and size"),
        (
            lambda entry: entry["files"][0].update(sha256="abc"),
            r"key 'files.0.sha256': String should match pattern",
        ),
        (lambda entry: entry["files"][0].pop("member"), r"'icons.json' of a npm source needs a member"),
        (lambda entry: entry["files"][0].update(path="../icons.json"), r"must be a relative path"),
        (lambda entry: entry["files"][0].update(path="info.json"), r"files are listed twice: info.json"),
        (lambda entry: entry.update(files=[]), r"must list the files it takes from the package"),
    ],
)
def test_mistakes_are_named(
    written: Callable[..., Path], change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = written(change)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_manifest(path)
    assert str(path) in str(caught.value)


def test_unknown_key_at_the_top(tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text("schema_version: 1\nentrys: {}\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"unknown key 'entrys'; did you mean 'entries'\?"):
        load_manifest(path)


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text("schema_version: 1\nentries: {}\nentries: {}\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="the key 'entries' is written twice"):
        load_manifest(path)


def test_broken_yaml_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    with pytest.raises(MissingDataError, match="there is no data manifest"):
        load_manifest(path)
    path.write_text("entries: [", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is not a YAML file that can be read"):
        load_manifest(path)


def test_only_hub_and_registration_may_lack_hashes(
    toy_entry: dict[str, Any], manifest_of: Callable[..., Manifest]
) -> None:
    source = {"kind": "hub", "repo": "some/weights", "version": "main"}
    files = [{"path": "model.safetensors", "sha256": None, "size": None}]
    assert manifest_of(toy={**toy_entry, "source": source, "files": files})["toy"].size == 0
    url = {"kind": "url", "version": "1", "downloads": [{"url": "https://example.org/a.bin", "sha256": None}]}
    with pytest.raises(ValidationError, match="sha256"):
        manifest_of(toy={**toy_entry, "source": url, "files": []})


@pytest.mark.slow
def test_the_manifest_travels_in_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling")
    root = Path(__file__).parents[3]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import workbench; assert workbench.__file__.startswith(sys.argv[1])\n"
        "from workbench.data import load_manifest; print(len(load_manifest().entries))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "site")]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert int(said) == len(load_manifest().entries)
