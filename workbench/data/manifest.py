"""The list of every external file the workbench uses: where it comes from, its hash, its licence.

`data_manifest.yaml` is read once, checked strictly and turned into frozen values. A key that is not known is
an error that names the nearest known one, so that a typing mistake cannot switch a check off.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from workbench.data._schema import (
    Download,
    Entry,
    HubSource,
    LayoutRule,
    Manifest,
    ManifestFile,
    NpmSource,
    PypiSource,
    RegistrationSource,
    UrlSource,
)
from workbench.errors import InvalidInputError, MissingDataError, did_you_mean

__all__ = [
    "Download",
    "Entry",
    "HubSource",
    "LayoutRule",
    "Manifest",
    "ManifestFile",
    "NpmSource",
    "PypiSource",
    "RegistrationSource",
    "UrlSource",
    "load_manifest",
]


def load_manifest(path: Path | None = None) -> Manifest:
    """Read and check a manifest; without `path`, the one that comes with the workbench.

    Raises:
        MissingDataError: the file is not there.
        InvalidInputError: it is not YAML, repeats a key, has an unknown key, or a value that cannot be used.
            The message names the file, the entry, the key and, for an unknown key, the nearest allowed one.
    """
    return _default_manifest() if path is None else _read(Path(path))


@cache
def _default_manifest() -> Manifest:
    packaged = Path(__file__).with_name("data_manifest.yaml")  # put there when a wheel is built
    checkout = Path(__file__).parents[2] / "data_manifest.yaml"
    return _read(packaged if packaged.is_file() else checkout)


def _read(path: Path) -> Manifest:
    if not path.is_file():
        raise MissingDataError(f"there is no data manifest at {path}; install the workbench again")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is not a YAML file that can be read: {error}") from error
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(item)}" for item in error.errors())
        raise InvalidInputError(f"{path} cannot be used:\n{problems}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, except that the second of two equal keys is an error instead of the winner."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {repeated[0]!r} is written twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


#: The model that a part of an error's location stands for; anything else is a key of the model before it.
_MODELS: dict[str, type[BaseModel]] = {
    "files": ManifestFile,
    "layout": LayoutRule,
    "downloads": Download,
    "pypi": PypiSource,
    "npm": NpmSource,
    "url": UrlSource,
    "hub": HubSource,
    "registration": RegistrationSource,
}


def _explain(error: Any) -> str:
    """One validation error in the words of the manifest."""
    location = tuple(error["loc"])
    entry = f"entry {location[1]!r}: " if len(location) > 1 and location[0] == "entries" else ""
    if error["type"] == "extra_forbidden":
        allowed = list(_model_at(location[:-1]).model_fields)
        near = did_you_mean(str(location[-1]), allowed)
        return f"{entry}unknown key {location[-1]!r}{near} allowed: {', '.join(allowed)}"
    if error["type"] == "union_tag_invalid":
        kinds = [name for name in _MODELS if name not in ("files", "layout", "downloads")]
        given = error["ctx"]["tag"]
        return f"{entry}unknown kind {given!r}{did_you_mean(given, kinds)} allowed: {', '.join(kinds)}"
    key = ".".join(str(part) for part in location[2 if entry else 0 :])
    return f"{entry}{f'key {key!r}: ' if key else ''}{error['msg'].removeprefix('Value error, ')}"


def _model_at(location: tuple[Any, ...]) -> type[BaseModel]:
    if len(location) < 2:
        return Manifest
    named = [part for part in location[2:] if part in _MODELS]
    return _MODELS[named[-1]] if named else Entry
