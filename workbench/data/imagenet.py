"""Loaders for the published method's evaluation data, in the layout in which each is published.

All of them are sorted lists of image files with 0-based ImageNet-1k classes. Item ``i`` is the preprocessed
image, a float tensor (3, crop, crop) in [0, 1]; `targets[i]` is its class. None of the data comes with the
workbench: ``workbench data fetch NAME`` says how to get it, and without a `root` the cache is looked in.
`ClassFolders` reads folders of other classes too.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench._compat import ensure_torchvision_imports
from workbench.data.fetch import locate
from workbench.data.preprocess import REPO, Preprocess
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError
from workbench.files import sha256_of
from workbench.models.preprocessing import class_names

#: The class of an image whose class is not known.
NO_CLASS = -1

#: The folder of the locality set, where it lies beside the group folders.
SENSITIVE_FOLDER = "Sensitive-Images"

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

    def followed_by(self, others: Iterable[ImageList]) -> ImageList:
        """These images and those of other lists, all preprocessed as these are."""
        lists = [self, *others]
        return ImageList(
            [path for images in lists for path in images.paths],
            [target for images in lists for target in images.targets],
            self.preprocess,
        )

    def stacked(self) -> Float[Tensor, "n 3 crop crop"]:
        """All images at once; for none, an empty tensor."""
        side = self.preprocess.crop
        return torch.stack(list(self)) if len(self) else torch.empty(0, 3, side, side)

    def digest(self) -> str:
        """SHA-256 over the files' content, the classes and the preprocessing: what a result depends on.

        Raises:
            MissingDataError: a file has gone.
        """
        found = hashlib.sha256(repr((self.targets, self.preprocess)).encode())
        for path in self.paths:
            try:
                found.update(sha256_of(path).encode())
            except FileNotFoundError:
                raise MissingDataError(f"{path} has gone since its folder was read; run again") from None
        return found.hexdigest()

    def batches(self, size: int) -> Iterator[Float[Tensor, "batch 3 crop crop"]]:
        """All images in order, `size` at a time; the last batch may be smaller."""
        if size < 1:
            raise InvalidInputError(f"the batch size must be at least 1, not {size}")
        for start in range(0, len(self), size):
            yield torch.stack([self.preprocess(path) for path in self.paths[start : start + size]])


class ClassFolders(ImageList):
    """Images in class folders: ``root/<class>/*``.

    Args:
        root: Holds the class folders, or a folder called as one of `inner` that does.
        preprocess: What turns a file into a tensor.
        classes: Class of each name that a folder may have; None for the WordNet ids of ImageNet-1k.
        inner: What the folder is called in the archive that the images come in.

    Raises:
        InvalidInputError: a folder with another name, or no class folders with images.

    Example:
        >>> ClassFolders("photos", classes=folder_classes(model)).targets
    """

    def __init__(
        self,
        root: str | Path,
        preprocess: Preprocess = REPO,
        classes: Mapping[str, int] | None = None,
        inner: Sequence[str] = (),
    ) -> None:
        super().__init__(*_class_folders(Path(root), inner, classes), preprocess)

    def by_class(self) -> list[ImageList]:
        """The images of each class, by class."""
        rows: dict[int, list[int]] = defaultdict(list)
        for row, target in enumerate(self.targets):
            rows[target].append(row)
        return [self.subset(own) for _, own in sorted(rows.items())]


class ImageNetVal(ClassFolders):
    """ImageNet-1k validation images in class folders: ``root/n01440764/*.JPEG``."""

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        super().__init__(_root("imagenet-1k-val", root), preprocess, inner=("val",))


class ImageNetR(ClassFolders):
    """ImageNet-R, renditions of 200 classes: ``root/n01443537/*.jpg``, or in ``root/imagenet-r/``."""

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        super().__init__(_root("imagenet-r", root), preprocess, inner=("imagenet-r",))


class ImageNetSketch(ClassFolders):
    """ImageNet-Sketch, 50 sketches a class: ``root/n01440764/*.JPEG``, or in ``root/sketch/``."""

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        super().__init__(_root("imagenet-sketch", root), preprocess, inner=("sketch",))


#: What the folder of class folders is called in the archives of ImageNet, ImageNet-R and ImageNet-Sketch.
INNER_FOLDERS = ("val", "imagenet-r", "sketch")


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

    Both numbers are 0-based ImageNet-1k classes. Groups are sorted by (true, name). The locality set may lie beside
    them, in ``root/Sensitive-Images``.

    Raises:
        MissingDataError: the data is not there; the message says how to get it.
        InvalidInputError: a folder is not called so, holds no image, or names a class outside 0..999.

    Example:
        >>> group = NaturalSubset("Natural-Image-Subset").group("890_430")
        >>> group.true, group.wrong, len(group.images)
    """

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        folder = _root("natural-image-subset", root)
        groups = [_read_group(path, preprocess) for path in _folders(folder) if path.name != SENSITIVE_FOLDER]
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


def folder_classes(model: nn.Module) -> dict[str, int]:
    """Names that a folder of a model's class may have: its index, its name, and of 1000 classes the WordNet id."""
    names = class_names(model)
    known = {str(index): index for index in range(len(names))}
    known |= {name: index for index, name in enumerate(names)}
    return known | (wnid_to_index() if len(names) == _CLASSES else {})


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


def _class_folders(
    root: Path, inner: Sequence[str], classes: Mapping[str, int] | None
) -> tuple[list[Path], list[int]]:
    """Files and classes of ``root/<class>/*``, or of ``root/inner/<class>/*`` if unpacked that way."""
    folder = next((root / name for name in inner if (root / name).is_dir()), root)
    if not folder.is_dir():
        raise MissingDataError(f"there is no folder {folder}; it should hold class folders with images")
    paths: list[Path] = []
    targets: list[int] = []
    for class_folder in _folders(folder):
        files = image_files(class_folder)
        paths += files
        targets += [_class_of(class_folder, classes)] * len(files)
    if not paths:
        raise InvalidInputError(f"{folder} holds no class folders with images, such as n01440764/*.JPEG")
    return paths, targets


def _class_of(folder: Path, classes: Mapping[str, int] | None) -> int:
    known = wnid_to_index() if classes is None else classes
    if folder.name in known:
        return known[folder.name]
    if classes is not None:
        shown = ", ".join(list(classes)[-3:])
        kind = f"called after none of the model's classes (such as {shown})"
    elif _WNID.fullmatch(folder.name):
        kind = "not an ImageNet-1k class"
    else:
        kind = "not a WordNet id (n and 8 digits)"
    raise InvalidInputError(f"the folder {folder} is {kind}; is this the right data set?")


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
