"""Loaders for the published method's evaluation data, in the layout in which each is published.

All of them are sorted lists of image files with 0-based ImageNet-1k classes. Item ``i`` is the preprocessed
image, a float tensor (3, crop, crop) in [0, 1]; `targets[i]` is its class. None of the data comes with the
workbench: ``workbench data fetch NAME`` says how to get it, and without a `root` the cache is looked in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor

from workbench._compat import ensure_torchvision_imports
from workbench.data.fetch import locate
from workbench.data.preprocess import REPO, Preprocess
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError

#: The class of an image whose class is not known.
NO_CLASS = -1

_CLASSES = 1000
_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_WNID = re.compile(r"n\d{8}")
_GROUP = re.compile(r"(\d+)_(.+)")


class ImageList(Sequence[Tensor]):
    """Image files with their classes; an image is read when its item is asked for.

    Attributes:
        paths: the files, in the order of the items.
        targets: 0-based ImageNet-1k class of each, or `NO_CLASS`.
        preprocess: what turns a file into a tensor.
    """

    def __init__(self, paths: Sequence[Path], targets: Sequence[int], preprocess: Preprocess = REPO) -> None:
        if len(paths) != len(targets):
            raise InvalidInputError(f"{len(paths)} paths need as many targets, not {len(targets)}")
        self.paths = tuple(paths)
        self.targets = tuple(targets)
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> ImageList: ...
    def __getitem__(self, index: int | slice) -> Tensor | ImageList:
        if isinstance(index, slice):
            return ImageList(self.paths[index], self.targets[index], self.preprocess)
        return self.preprocess(self.paths[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, preprocess={self.preprocess.name!r})"

    def subset(self, indices: Sequence[int]) -> ImageList:
        """The images at `indices`, in that order."""
        return ImageList(
            [self.paths[i] for i in indices], [self.targets[i] for i in indices], self.preprocess
        )

    def batches(self, size: int) -> Iterator[Float[Tensor, "batch 3 crop crop"]]:
        """All images in order, `size` at a time; the last batch may be smaller."""
        if size < 1:
            raise InvalidInputError(f"the batch size must be at least 1, not {size}")
        for start in range(0, len(self), size):
            yield torch.stack([self.preprocess(path) for path in self.paths[start : start + size]])


class ImageNetVal(ImageList):
    """ImageNet-1k validation images in class folders: ``root/n01440764/*.JPEG``."""

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        super().__init__(*_class_folders(_root("imagenet-1k-val", root), "val"), preprocess)


class ImageNetR(ImageList):
    """ImageNet-R, renditions of 200 classes: ``root/n01443537/*.jpg``, or in ``root/imagenet-r/``."""

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        super().__init__(*_class_folders(_root("imagenet-r", root), "imagenet-r"), preprocess)


class ImageNetSketch(ImageList):
    """ImageNet-Sketch, 50 sketches a class: ``root/n01440764/*.JPEG``, or in ``root/sketch/``."""

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        super().__init__(*_class_folders(_root("imagenet-sketch", root), "sketch"), preprocess)


class SensitiveImages(ImageList):
    """The locality set: one flat folder of images without classes that a ViT-B/16 nearly got wrong."""

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        folder = _root("sensitive-images", root)
        paths = image_files(folder)
        if not paths:
            raise InvalidInputError(f"{folder} holds no image files; it should hold them directly")
        super().__init__(paths, [NO_CLASS] * len(paths), preprocess)


@dataclass(frozen=True)
class NaturalGroup:
    """Images of one class that the published base model takes for one other class.

    `wrong` is None where the folder's name does not end in a class number.
    """

    name: str
    true: int
    wrong: int | None
    images: ImageList

    @property
    def files(self) -> tuple[Path, ...]:
        """The image files, sorted by name."""
        return self.images.paths


class NaturalSubset(Sequence[NaturalGroup]):
    """The natural images of the benchmark: group folders ``root/<true>_<wrong>/`` with image files.

    Both numbers are 0-based ImageNet-1k classes. Groups are sorted by (true, name).

    Raises:
        MissingDataError: the data is not there; the message says how to get it.
        InvalidInputError: a folder is not called so, holds no image, or names a class outside 0..999.

    Example:
        >>> group = NaturalSubset("Natural-Image-Subset").group("890_430")
        >>> group.true, group.wrong, len(group.images)
    """

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        folder = _root("natural-image-subset", root)
        groups = [_read_group(path, preprocess) for path in _folders(folder)]
        if not groups:
            raise InvalidInputError(f"{folder} holds no group folders <true>_<wrong>, such as 890_430")
        self._groups = tuple(sorted(groups, key=lambda group: (group.true, group.name)))

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> NaturalGroup: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[NaturalGroup, ...]: ...
    def __getitem__(self, index: int | slice) -> NaturalGroup | tuple[NaturalGroup, ...]:
        return self._groups[index]

    def group(self, name: str) -> NaturalGroup:
        """The group of that folder name; raises `UnknownNameError` with the nearest one."""
        named = {group.name: group for group in self._groups}
        if name not in named:
            raise UnknownNameError("group", name, named)
        return named[name]


@cache
def wnid_to_index() -> dict[str, int]:
    """WordNet id of each ImageNet-1k class (``"n01440764"``) to its 0-based index."""
    ensure_torchvision_imports()
    from timm.data import ImageNetInfo

    return {wnid: index for index, wnid in enumerate(ImageNetInfo("imagenet-1k").label_names())}


def image_files(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name; hidden files and other kinds are left out."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _root(entry: str, root: str | Path | None) -> Path:
    if root is None:
        return locate(entry)
    folder = Path(root)
    if not folder.is_dir():
        raise MissingDataError(
            f"there is no folder {folder}; to see how to get {entry}: workbench data fetch {entry}"
        )
    return folder


def _folders(folder: Path) -> list[Path]:
    """Subfolders sorted by name, without hidden ones and what archivers add (``__MACOSX``)."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")


def _class_folders(root: Path, inner: str) -> tuple[list[Path], list[int]]:
    """Files and classes of ``root/<wnid>/*``, or of ``root/inner/<wnid>/*`` if unpacked that way."""
    folder = root / inner if (root / inner).is_dir() else root
    paths: list[Path] = []
    targets: list[int] = []
    for class_folder in _folders(folder):
        files = image_files(class_folder)
        paths += files
        targets += [_class_of(class_folder)] * len(files)
    if not paths:
        raise InvalidInputError(f"{folder} holds no class folders with images, such as n01440764/*.JPEG")
    return paths, targets


def _class_of(folder: Path) -> int:
    classes = wnid_to_index()
    if folder.name not in classes:
        kind = (
            "not an ImageNet-1k class"
            if _WNID.fullmatch(folder.name)
            else "not a WordNet id (n and 8 digits)"
        )
        raise InvalidInputError(f"the folder {folder} is {kind}; is this the right data set?")
    return classes[folder.name]


def _read_group(folder: Path, preprocess: Preprocess) -> NaturalGroup:
    match = _GROUP.fullmatch(folder.name)
    if match is None:
        raise InvalidInputError(f"the folder {folder} is not called <true>_<wrong>, such as 890_430")
    true, wrong = int(match[1]), int(match[2]) if match[2].isdecimal() else None
    for number in (true, wrong):
        if number is not None and number >= _CLASSES:
            raise InvalidInputError(
                f"the folder {folder} names class {number}; ImageNet-1k classes are 0..999"
            )
    files = image_files(folder)
    if not files:
        raise InvalidInputError(f"the group folder {folder} holds no image files")
    return NaturalGroup(folder.name, true, wrong, ImageList(files, [true] * len(files), preprocess))
