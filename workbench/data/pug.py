"""PUG: ImageNet, photorealistic renders in which one factor changes at a time.

The published layout is one table, ``labels_pug_imagenet.csv``, whose column ``filename`` names the images
beside it. A character may stand for several ImageNet classes ("Wolf" for four), which
``class_to_imagenet_idx.json`` lists.
"""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path

import pandas as pd

from workbench.data._schema import is_safe_relative
from workbench.data.fetch import locate
from workbench.data.imagenet import ImageList
from workbench.data.preprocess import REPO, Preprocess
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError

TABLE = "labels_pug_imagenet.csv"
CLASSES = "class_to_imagenet_idx.json"

_NEEDED = ("filename", "world_name", "character_name", "character_label", "scene_light")


class PugImageNet(ImageList):
    """The renders with their factors; `select` narrows them to one light, background or texture.

    Attributes:
        factors: one row an image, all columns of the published table as text.
        accepted: for each image the ImageNet-1k classes that count as right; `targets` holds the first.

    Raises:
        MissingDataError: the data is not there; the message says how to get it.
        InvalidInputError: the table lacks a column, a label has no class, or a file lies outside the folder.

    Example:
        >>> renders = PugImageNet("PUG_ImageNet")
        >>> renders.values("scene_light")
        >>> stage = renders.select(scene_light=renders.values("scene_light")[0])
    """

    def __init__(self, root: str | Path | None = None, preprocess: Preprocess = REPO) -> None:
        folder = locate("pug-imagenet") if root is None else Path(root)
        factors = _read_table(_existing(folder / TABLE))
        self._fill(folder, factors, _read_classes(_existing(folder / CLASSES), factors), preprocess)

    def values(self, factor: str) -> tuple[str, ...]:
        """The values that a factor takes, sorted."""
        if factor not in self.factors:
            raise UnknownNameError("factor", factor, self.factors.columns)
        return tuple(sorted(self.factors[factor].unique()))

    def select(self, **factors: str) -> PugImageNet:
        """The renders whose factors have exactly these values, in the same order.

        Raises:
            UnknownNameError: a factor or value that the table does not have.
        """
        keep = pd.Series(True, index=self.factors.index)
        for factor, value in factors.items():
            if value not in (known := self.values(factor)):
                raise UnknownNameError(factor, value, known)
            keep &= self.factors[factor] == value
        chosen = copy(self)
        chosen._fill(self._folder, self.factors[keep].reset_index(drop=True), self._classes, self.preprocess)
        return chosen

    def _fill(
        self, folder: Path, factors: pd.DataFrame, classes: dict[str, tuple[int, ...]], preprocess: Preprocess
    ) -> None:
        self._folder, self._classes = folder, classes
        self.factors = factors
        self.accepted = tuple(classes[label] for label in factors["character_label"])
        paths = [folder / name for name in factors["filename"]]
        super().__init__(paths, [accepted[0] for accepted in self.accepted], preprocess)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingDataError(f"there is no {path}; to see how to get it: workbench data fetch pug-imagenet")
    return path


def _read_table(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [column for column in _NEEDED if column not in table]
    if missing:
        raise InvalidInputError(
            f"{path} has no column {', '.join(missing)}; is it the table of PUG: ImageNet?"
        )
    unsafe = [name for name in table["filename"] if not is_safe_relative(name)]
    if unsafe:
        raise InvalidInputError(f"{path} names {unsafe[0]!r}, which is not inside its folder")
    return table.sort_values("filename", kind="stable", ignore_index=True)


def _read_classes(path: Path, factors: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        classes = {label: tuple(int(index) for index in indices) for label, indices in listed.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"{path} is not a mapping of labels to class numbers: {error}") from error
    unknown = sorted(set(factors["character_label"]) - {label for label, found in classes.items() if found})
    if unknown:
        raise InvalidInputError(
            f"{path} gives no class for {', '.join(unknown[:5])}; is it the file of PUG: ImageNet?"
        )
    return classes
