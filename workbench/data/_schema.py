"""The shape of the data manifest: entries, their sources and files, as frozen pydantic models."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from workbench.errors import UnknownNameError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
Bytes = Annotated[int, Field(ge=0)]
EntryName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


class _Strict(BaseModel):
    """Frozen, and without room for keys that are not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestFile(_Strict):
    """One file of an entry: where it lies in the cache folder, and in the archive it is taken from.

    `sha256` and `size` (bytes) may be null only where the file could not be seen when the entry was written.
    """

    path: Text
    member: Text | None = None
    sha256: Sha256 | None = None
    size: Bytes | None = None

    @field_validator("path")
    @classmethod
    def _path_stays_inside(cls, value: str) -> str:
        if not is_safe_relative(value):
            raise ValueError(f"{value!r} must be a relative path, with /, that stays inside")
        return value


class LayoutRule(_Strict):
    """At least `at_least` paths of the entry's folder match `glob`; `what` says in words what they are."""

    glob: Text
    what: Text
    at_least: Annotated[int, Field(ge=1)] = 1


class PypiSource(_Strict):
    """Files inside one wheel or source archive of a published PyPI package; `archive_size` in bytes."""

    kind: Literal["pypi"]
    package: Text
    version: Version
    archive_size: Bytes


class NpmSource(_Strict):
    """Files inside the archive of a published npm package; `archive_size` in bytes."""

    kind: Literal["npm"]
    package: Text
    version: Version
    archive_size: Bytes


class Download(_Strict):
    """One URL with its hash; `unpack` says that it is an archive whose whole content belongs to the entry."""

    url: Annotated[str, Field(pattern=r"^https?://.+[^/]$")]
    sha256: Sha256
    size: Bytes
    unpack: bool = False

    @property
    def filename(self) -> str:
        """The last part of the URL's path, the name of the file in the cache if it is not unpacked."""
        return PurePosixPath(self.url.partition("?")[0]).name


class UrlSource(_Strict):
    """Files behind URLs, each with a known hash."""

    kind: Literal["url"]
    version: Version
    downloads: Annotated[tuple[Download, ...], Field(min_length=1)]


class HubSource(_Strict):
    """Files of a repository on the model hub; `version` is its branch, tag or commit.

    `timm_model` is the name under which timm knows the weights, where it does.
    """

    kind: Literal["hub"]
    repo: Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]
    version: Version
    timm_model: Text | None = None


class RegistrationSource(_Strict):
    """Data that cannot be fetched by a program: `ask` says how to get it, `unpack` what to put where."""

    kind: Literal["registration"]
    version: Version
    ask: Text
    unpack: Text


Source = Annotated[
    PypiSource | NpmSource | UrlSource | HubSource | RegistrationSource, Field(discriminator="kind")
]


class Entry(_Strict):
    """One data set or weight file: what it is, where it comes from, who needs it, under which terms.

    `needed_by` names notebooks and commands; `default` entries are fetched by `workbench data fetch` without
    a name. `files` are checked by hash, `layout` by name.
    """

    title: Text
    source: Source
    files: tuple[ManifestFile, ...] = ()
    layout: tuple[LayoutRule, ...] = ()
    licence: Text
    citation: Text
    needed_by: tuple[Text, ...]
    default: bool = False
    note: str = ""

    @property
    def version(self) -> str:
        """The version of the source, which names the folder in the cache."""
        return self.source.version

    @property
    def expected_files(self) -> tuple[ManifestFile, ...]:
        """Every file known by name, including URLs that are kept as they come."""
        if not isinstance(self.source, UrlSource):
            return self.files
        kept = [item for item in self.source.downloads if not item.unpack]
        return self.files + tuple(
            ManifestFile(path=item.filename, sha256=item.sha256, size=item.size) for item in kept
        )

    @property
    def archive_size(self) -> int:
        """Bytes that travel over the network, as far as known."""
        if isinstance(self.source, PypiSource | NpmSource):
            return self.source.archive_size
        if isinstance(self.source, UrlSource):
            return sum(item.size for item in self.source.downloads)
        return self.size

    @property
    def size(self) -> int:
        """Bytes of the files known by name, as far as known."""
        return sum(file.size or 0 for file in self.expected_files)

    @model_validator(mode="after")
    def _is_checkable(self) -> Entry:
        kind = self.source.kind
        paths = [file.path for file in self.expected_files]
        if repeated := {path for path in paths if paths.count(path) > 1}:
            raise ValueError(f"files are listed twice: {', '.join(sorted(repeated))}")
        if kind in ("pypi", "npm") and not self.files:
            raise ValueError(f"a {kind} entry must list the files it takes from the package")
        if kind == "hub" and not self.files:
            raise ValueError("a hub entry must list the files it takes from the repository")
        if kind == "registration" and not (self.files or self.layout):
            raise ValueError("a registration entry must list files or a layout to check")
        for file in self.files:
            _check_file(file, kind)
        return self


class Manifest(_Strict):
    """All entries by name.

    Example:
        >>> load_manifest()["emoji-noto"].licence
        'Apache-2.0'
    """

    schema_version: Literal[1]
    entries: dict[EntryName, Entry]

    def __getitem__(self, name: str) -> Entry:
        if name not in self.entries:
            raise UnknownNameError("data entry", name, self.entries, "List them with: workbench data list")
        return self.entries[name]

    @property
    def default_names(self) -> tuple[str, ...]:
        """Names of the entries that are fetched unless something else is asked for."""
        return tuple(name for name, entry in self.entries.items() if entry.default)


def is_safe_relative(path: str) -> bool:
    """Whether `path` names something below a folder: not absolute, no drive, no `..`, no backslash.

    Example:
        >>> is_safe_relative("a/b.json"), is_safe_relative("../b.json"), is_safe_relative("C:/b.json")
        (True, False, False)
    """
    if not path or any(character in path for character in "\\:\0"):
        return False
    parts = PurePosixPath(path).parts
    return bool(parts) and ".." not in parts and not path.startswith("/")


def _check_file(file: ManifestFile, kind: str) -> None:
    """What is packed must say where, and whatever a program fetches without a hub must have a hash."""
    if (kind in ("pypi", "npm")) != (file.member is not None):
        need = "needs" if kind in ("pypi", "npm") else "cannot have"
        raise ValueError(f"file {file.path!r} of a {kind} source {need} a member")
    if kind not in ("hub", "registration") and (file.sha256 is None or file.size is None):
        raise ValueError(
            f"file {file.path!r} needs its sha256 and size (only hub and registration may lack them)"
        )
