"""AASCE, 609 radiographs of scoliotic spines with 68 landmarks each (SpineWeb data set 16), as released.

The folder holds ``data/<phase>/*.jpg`` and ``labels/<phase>/``, in which ``filenames.csv``, ``landmarks.csv`` and
``angles.csv`` have one row an image and no header, and ``<image name>.mat`` has the landmarks in pixels. Rows are
counted from 0. The labels are taken as they stand: `AascePhase.problems` says what is wrong with them. Source:
specification, sections 1.2 and 1.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from workbench.data._aasce_tables import (
    ANGLES,
    FILENAMES,
    LANDMARKS,
    POINTS,
    Angles,
    points_of_row,
    read_mat,
    read_names,
    read_numbers,
    read_submission,
    write_submission,
)
from workbench.data._aasce_write import FACTS, NewCase, write_aasce
from workbench.data._films import size_of
from workbench.data.fetch import locate
from workbench.data.landmark_checks import check_labels
from workbench.data.radiographs import Radiograph, read_radiograph
from workbench.data.vertebrae import Corners, check_corners
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError, WorkbenchError

__all__ = [
    "FACTS",
    "AasceCase",
    "AascePhase",
    "AasceProblem",
    "AasceSet",
    "NewCase",
    "known_noise",
    "read_submission",
    "write_aasce",
    "write_submission",
]

#: The archive unpacks to a folder of this name.
_FOLDER = "boostnet_labeldata"

#: csv and .mat say the same if no coordinate differs by more pixels: the released tables are rounded.
_AGREE = 0.5

# Rows of the release, and how its file names begin: its known faults say nothing about other data in its layout.
_RELEASED = {"training": 481, "test": 128}
_PREFIX = "sunhl-"

_ROLLED = "L5 stored first: the four points of L5 stand at the top of the list"
_SHIFTED = "end plates or vertebrae shifted, missing, doubled or swapped, or a point astray"
_SPECIAL = {("training", 394): "a landmark lies below the image", ("training", 480): "L5 is of no use"}

_ROWS = {
    _ROLLED: {
        "training": (10, 77, 103, 105, 107, 110, 122, 124, 144, 179, 180, 181, 182, 185, 221, 342, 368),
        "test": (5, 21, 44),
    },
    _SHIFTED: {
        "training": (
            *(3, 10, 14, 28, 31, 33, 40, 72, 84, 91, 143, 193, 218, 242, 261, 265, 268, 269, 313),
            *(394, 439, 445, 471, 474, 476, 480),
        ),
        "test": (3, 15, 45, 79, 85, 86, 88, 89, 92, 104),
    },
}


@dataclass(frozen=True, eq=False)
class AasceCase:
    """One image of AASCE.

    Attributes:
        name: file name of the image.
        row: its row in the tables, from 0.
        image_path: where the image lies; `read` reads it.
        corners: (17, 4, 2) in pixels, as labelled, right or wrong.
        angles: the three official angles of ``angles.csv`` in degrees; None where there is no such table.
        size: height and width of the image.
    """

    name: str
    row: int
    image_path: Path
    corners: Corners
    angles: Angles | None
    size: tuple[int, int]

    def read(self) -> Radiograph:
        """The image, in the orientation in which it was labelled; errors as in `read_radiograph`."""
        return read_radiograph(self.image_path, as_stored=True)


@dataclass(frozen=True)
class AasceProblem:
    """What is wrong with one row; `row` and `name` are those of the tables, `row` is None for a left-over file.

    `kind` is "unreadable", "disagreement" (csv and .mat), "angles", "left over", "known", or that of a
    `landmark_checks.LabelProblem`.
    """

    row: int | None
    name: str
    kind: str
    text: str


class AasceSet:
    """The data set in a folder.

    Args:
        root: The folder that holds ``data`` and ``labels``, or ``boostnet_labeldata`` with them; by default the one
            that `workbench data fetch aasce` names.

    Raises:
        MissingDataError: it is not there; the message says how to get it.

    Example:
        >>> training = AasceSet("boostnet_labeldata").phase("training")
        >>> training[0].corners.shape
        (17, 4, 2)
    """

    def __init__(self, root: str | Path | None = None) -> None:
        folder = locate("aasce") if root is None else Path(root)
        inner = folder / _FOLDER
        self.root = inner if inner.is_dir() else folder
        lacking = [name for name in ("data", "labels") if not (self.root / name).is_dir()]
        if lacking:
            raise MissingDataError(
                f"{folder} has no folder {' or '.join(lacking)}; expected data/training and labels/training as "
                "released. To see how to get them: workbench data fetch aasce"
            )

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that are there: "test" and "training" in the release."""
        return tuple(sorted(path.name for path in (self.root / "labels").iterdir() if path.is_dir()))

    def phase(self, name: str) -> AascePhase:
        """The images of one phase in the order of ``filenames.csv``; the tables are read now, the rest when used.

        Raises:
            UnknownNameError: no such phase.
            MissingDataError: it has no ``filenames.csv``.
            InvalidInputError: a table is damaged or has another number of rows than ``filenames.csv``.
        """
        if name not in self.phases:
            raise UnknownNameError("phase of AASCE", name, self.phases)
        return AascePhase(self.root, name)


class AascePhase(Sequence[AasceCase]):
    """The cases of a phase, each read from its files when it is asked for.

    Landmarks are those of the ``.mat`` file where there is one, since the table is rounded.

    Raises:
        InvalidInputError: (by indexing) the image or the ``.mat`` file of that row is damaged, or has no landmarks.
        MissingDataError: (by indexing) there is no such image, or nothing holds its landmarks.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self._images, self._labels = root / "data" / name, root / "labels" / name
        self.names = read_names(self._labels / FILENAMES)
        self._landmarks = read_numbers(self._labels / LANDMARKS, 2 * POINTS, len(self.names))
        self._angles = read_numbers(self._labels / ANGLES, 3, len(self.names))

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> AasceCase: ...
    @overload
    def __getitem__(self, index: slice) -> list[AasceCase]: ...
    def __getitem__(self, index: int | slice) -> AasceCase | list[AasceCase]:
        rows = range(len(self))[index]
        return self._case(rows) if isinstance(rows, int) else [self._case(row) for row in rows]

    def problems(self) -> tuple[AasceProblem, ...]:
        """Everything that is wrong with the phase, row by row; reads all labels and every image's header.

        Files that cannot be read are reported, not raised.

        Example:
            >>> [problem.row for problem in phase.problems() if problem.kind == "rolled"]
            [10, 77, 103]
        """
        known = known_noise(self.name) if self._is_release() else {}
        found = [AasceProblem(row, self.names[row], "known", text) for row, text in known.items()]
        found += [problem for row in range(len(self)) for problem in self._problems_of(row)]
        found.sort(key=lambda problem: problem.row or 0)
        unnamed = sorted(path.name for path in self._images.glob("*") if path.name not in set(self.names))
        text = f"an image that {FILENAMES} does not name"
        return (*found, *(AasceProblem(None, name, "left over", text) for name in unnamed))

    def _is_release(self) -> bool:
        of_its_size = len(self) == _RELEASED.get(self.name)
        return of_its_size and any(name.startswith(_PREFIX) for name in self.names)

    def _case(self, row: int) -> AasceCase:
        name = self.names[row]
        path = self._images / name
        with self._in_row(row):
            if not path.is_file():
                raise MissingDataError(f"there is no image {path}")
            size = size_of(path)
            points = self._mat(row)
            corners = check_corners(self._csv(row, size) if points is None else points)
        angles = None if self._angles is None else tuple(self._angles[row].tolist())
        return AasceCase(name, row, path, corners, angles, size)

    def _mat(self, row: int) -> np.ndarray | None:
        path = self._labels / f"{self.names[row]}.mat"
        return read_mat(path) if path.is_file() else None

    def _csv(self, row: int, size: tuple[int, int]) -> np.ndarray:
        if self._landmarks is None:
            raise MissingDataError(
                f"there is neither {self.names[row]}.mat nor {LANDMARKS} in {self._labels}"
            )
        return points_of_row(self._landmarks[row], size, f"{self._labels / LANDMARKS}, row {row} (from 0)")

    @contextmanager
    def _in_row(self, row: int) -> Iterator[None]:
        """Errors name the row and its image."""
        where = f"{self.name}, row {row} (from 0), {self.names[row]}"
        try:
            yield
        except (InvalidInputError, MissingDataError) as error:
            raise type(error)(f"{where}: {error}") from error

    def _problems_of(self, row: int) -> Iterator[AasceProblem]:
        name = self.names[row]
        try:
            case = self._case(row)
            differ = self._disagreement(row, case)
        except WorkbenchError as error:
            yield AasceProblem(row, name, "unreadable", str(error))
            return
        if differ:
            yield AasceProblem(row, name, "disagreement", differ)
        if case.angles and not (case.angles[0] == max(case.angles) and min(case.angles) >= 0):
            text = f"the first of the angles {case.angles} is not the largest, or one is negative"
            yield AasceProblem(row, name, "angles", text)
        for problem in check_labels(case.corners, case.size):
            yield AasceProblem(row, name, problem.kind, problem.text)

    def _disagreement(self, row: int, case: AasceCase) -> str | None:
        """How far the table and the .mat file are apart, in words, if both are there and differ."""
        if self._landmarks is None or self._mat(row) is None:
            return None
        apart = np.abs(self._csv(row, case.size) - case.corners.reshape(-1, 2)).max()
        if apart <= _AGREE:
            return None
        return f"{LANDMARKS} and the .mat file differ by up to {apart:.1f} pixels: rows in another order?"


def known_noise(phase: str) -> dict[int, str]:
    """Rows of the released tables whose labels are known to be wrong, and how. Source: specification, section 1.3.

    It holds for the release only; other phases have none.

    Example:
        >>> known_noise("test")[5]
        'L5 stored first: the four points of L5 stand at the top of the list'
    """
    found: dict[int, str] = {}
    for text, rows in _ROWS.items():
        for row in rows.get(phase, ()):
            found[row] = f"{found[row]}; {text}" if row in found else text
    for (where, row), text in _SPECIAL.items():
        if where == phase:
            found[row] = f"{found[row]}; {text}"
    return dict(sorted(found.items()))
