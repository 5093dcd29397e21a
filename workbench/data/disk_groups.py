"""Failure groups from images on disk: what a model gets wrong of them, as the published benchmark groups it.

Three layouts: the benchmark's own folders of one right and one wrong class, PUG by light and character, and class
folders (ImageNet, -R, -Sketch, your own), whose failures are grouped by what the model takes them for.
Source: where-to-edit specification, section 5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn
from tqdm.auto import tqdm

from workbench.data.imagenet import INNER_FOLDERS, ClassFolders, ImageList, NaturalSubset, folder_classes
from workbench.data.preprocess import REPO, Preprocess
from workbench.data.pug import PugImageNet
from workbench.data.scan import scan
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.models.loading import fingerprint
from workbench.models.preprocessing import class_count

Layout = Literal["natural", "pug", "folders"]

LAYOUTS: tuple[Layout, ...] = ("natural", "pug", "folders")

#: Right classes of an image: one, or for some of PUG's characters several.
Accepted = tuple[int, ...]


@dataclass(frozen=True)
class DiskGroup:
    """Failures that belong together.

    Args:
        name: ``"890_430"``, or of PUG ``"<light>/<character>"``.
        images: Those that the model gets wrong; may be none.
        accepted: Right classes of each; an edit asks for the first.
        candidates: How many images the failures were found among.
    """

    name: str
    images: ImageList
    accepted: tuple[Accepted, ...]
    candidates: int

    def __len__(self) -> int:
        return len(self.images)


def disk_groups(
    model: nn.Module,
    layout: Layout,
    root: str | Path,
    preprocess: Preprocess = REPO,
    names: Sequence[str] = (),
    progress: bool = False,
) -> list[DiskGroup]:
    """The failures of a model among images on disk, group by group; groups without failures are among them.

    Args:
        model: The model that will be edited.
        layout: ``"natural"`` (``root/<true>_<wrong>/*``), ``"pug"`` (one group for each ``scene_light`` and
            character) or ``"folders"`` (``root/<class>/*``, see `folder_classes`; only groups with failures).
        root: Where the images are.
        preprocess: Decides which images are wrong.
        names: Groups to read; none for all.
        progress: Show a bar.

    Raises:
        UnknownNameError: no such layout or group.
        InvalidInputError: folders that are not as the layout says, a class that the model does not have, or an image
            that cannot be read, which the message names.
        MissingDataError: no such folder.

    Example:
        >>> [(group.name, len(group)) for group in disk_groups(model, "natural", "Natural-Image-Subset")]
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    if layout == "folders":
        classes = ClassFolders(root, preprocess, folder_classes(model), INNER_FOLDERS).by_class()
        found = _by_prediction(_failures(model, [_one_class(images) for images in classes], progress))
        return _named(found, names)
    whole = _natural(root, preprocess) if layout == "natural" else _pug(root, preprocess)
    return [group for group, _ in _failures(model, _named(whole, names), progress)]


def _natural(root: str | Path, preprocess: Preprocess) -> list[DiskGroup]:
    groups = NaturalSubset(root, preprocess)
    return [
        DiskGroup(group.name, group.images, ((group.true,),) * len(group.images), len(group.images))
        for group in groups
    ]


def _pug(root: str | Path, preprocess: Preprocess) -> list[DiskGroup]:
    renders = PugImageNet(root, preprocess)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, (light, character) in enumerate(
        zip(renders.factors["scene_light"], renders.factors["character_label"], strict=True)
    ):
        rows[f"{light}/{character}"].append(row)
    return [
        DiskGroup(name, renders.subset(own), tuple(renders.accepted[row] for row in own), len(own))
        for name, own in sorted(rows.items())
    ]


def _one_class(images: ImageList) -> DiskGroup:
    true = images.targets[0]
    return DiskGroup(str(true), images, ((true,),) * len(images), len(images))


def _failures(
    model: nn.Module, groups: Iterable[DiskGroup], progress: bool
) -> list[tuple[DiskGroup, list[int]]]:
    """What remains of each group, and what the model takes these images for."""
    base, classes, found = fingerprint(model), class_count(model), []
    for group in tqdm(list(groups), desc="looking for failures", disable=not progress):
        outside = [c for accepted in group.accepted for c in accepted if not 0 <= c < classes]
        if outside:
            raise InvalidInputError(
                f"the group {group.name} is of class {outside[0]}, but the model has {classes} classes"
            )
        said = scan(model, group.images, base).predicted.tolist()
        wrong = [
            i for i, (c, accepted) in enumerate(zip(said, group.accepted, strict=True)) if c not in accepted
        ]
        failures = DiskGroup(
            group.name,
            group.images.subset(wrong),
            tuple(group.accepted[i] for i in wrong),
            group.candidates,
        )
        found.append((failures, [said[i] for i in wrong]))
    return found


def _by_prediction(found: Iterable[tuple[DiskGroup, list[int]]]) -> list[DiskGroup]:
    """Failures by (right class, wrong class), named as the benchmark names its groups."""
    groups = []
    for failures, said in found:
        rows: dict[int, list[int]] = defaultdict(list)
        for row, wrong in enumerate(said):
            rows[wrong].append(row)
        for wrong, own in sorted(rows.items()):
            accepted = tuple(failures.accepted[row] for row in own)
            name = f"{accepted[0][0]}_{wrong}"
            groups.append(DiskGroup(name, failures.images.subset(own), accepted, failures.candidates))
    return sorted(groups, key=lambda group: (group.accepted[0], group.name))


def _named(groups: list[DiskGroup], names: Sequence[str]) -> list[DiskGroup]:
    known = {group.name: group for group in groups}
    for name in names:
        if name not in known:
            raise UnknownNameError("group", name, known)
    return [known[name] for name in names] if names else groups
