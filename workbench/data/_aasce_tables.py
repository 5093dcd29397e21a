"""The label files of AASCE: three csv tables without headers and one ``.mat`` file an image."""

from __future__ import annotations

import csv
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float

from workbench.data._schema import is_safe_relative
from workbench.data.vertebrae import VERTEBRAE
from workbench.errors import InvalidInputError, MissingDataError, WorkbenchError
from workbench.files import write_text

FILENAMES, LANDMARKS, ANGLES = "filenames.csv", "landmarks.csv", "angles.csv"

#: The variable of a ``.mat`` file that holds the landmarks.
VARIABLE = "p2"

POINTS = 4 * VERTEBRAE
_SUBMITTED = ["name", "an1", "an2", "an3"]

# Normalised landmarks reach a little over 1 where a label lies outside its image, never this far.
_NORMALISED = 2.0

# What scipy raises for files that are not what they claim to be.
_BROKEN = (
    *(ValueError, TypeError, OSError, EOFError, KeyError, IndexError, NotImplementedError, MemoryError),
    *(zlib.error, struct.error),
)

Points = Float[np.ndarray, "68 2"]
Angles = tuple[float, float, float]


def read_names(path: Path) -> tuple[str, ...]:
    """Image names, one a row.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: a row is empty or names no plain file, or a name stands there twice.
    """
    if not path.is_file():
        raise MissingDataError(f"there is no {path}; to see how to get it: workbench data fetch aasce")
    names: list[str] = []
    for number, row in enumerate(_rows(path)):
        name = ",".join(row).strip()
        if not is_safe_relative(name) or "/" in name:
            raise InvalidInputError(
                f"{path}, row {number} (from 0): {name!r} is not the name of an image file"
            )
        if name in names:
            raise InvalidInputError(
                f"{path}, row {number} (from 0): {name!r} stands in row {names.index(name)} already"
            )
        names.append(name)
    return tuple(names)


def read_numbers(path: Path, columns: int, rows: int) -> Float[np.ndarray, "rows columns"] | None:
    """A table of finite numbers with as many rows as there are images; None if there is no such file.

    Raises:
        InvalidInputError: other numbers of rows or columns, or something that is not a finite number.
    """
    if not path.is_file():
        return None
    found = [
        _numbers(row, columns, f"{path}, row {number} (from 0)") for number, row in enumerate(_rows(path))
    ]
    if len(found) != rows:
        raise InvalidInputError(
            f"{path} has {len(found)} rows and {FILENAMES} has {rows}; they must name the same images in the same "
            "order, so get both again"
        )
    return np.array(found, dtype=np.float64).reshape(rows, columns)


def points_of_row(row: Float[np.ndarray, " 136"], size: tuple[int, int], where: str) -> Points:
    """Pixels (68, 2) of a row of landmarks.csv: x1 … x68 by the width, then y1 … y68 by the height.

    Raises:
        InvalidInputError: the numbers are not normalised.
    """
    worst = float(np.abs(row).max())
    if worst > _NORMALISED:
        raise InvalidInputError(f"{where}: {worst:g} is no x/width or y/height; expected numbers from 0 to 1")
    return np.stack([row[:POINTS] * size[1], row[POINTS:] * size[0]], axis=1)


def row_of_points(points: Points, size: tuple[int, int]) -> Float[np.ndarray, " 136"]:
    """The inverse of `points_of_row`."""
    return np.concatenate([points[:, 0] / size[1], points[:, 1] / size[0]])


def read_mat(path: Path) -> Points:
    """The landmarks of one image in pixels.

    Raises:
        InvalidInputError: the file is damaged, lacks `p2`, or holds another kind of array there.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except (MatReadError, *_BROKEN) as error:
        raise InvalidInputError(f"{path} is not a MATLAB file, or was cut short: {error}") from error
    if VARIABLE not in content:
        names = ", ".join(name for name in content if not name.startswith("__")) or "none"
        raise InvalidInputError(f"{path} has no variable {VARIABLE!r}; variables in it: {names}")
    points = np.asarray(content[VARIABLE])
    if points.shape != (POINTS, 2) or points.dtype.kind not in "iuf":
        raise InvalidInputError(
            f"{path}: {VARIABLE} is {points.dtype} of shape {points.shape}; expected 68 points (x, y), (68, 2)"
        )
    return points.astype(np.float64)


def write_submission(path: str | Path, angles: dict[str, Angles]) -> Path:
    """Write angles by image name as the challenge takes them: ``name,an1,an2,an3`` with a header, degrees.

    Raises:
        InvalidInputError: angles that are not three finite numbers from 0 to 180.

    Example:
        >>> write_submission("ours.csv", {"01-July-2019-1": (40.2, 12.0, 20.1)})
    """
    lines = [",".join(_SUBMITTED)]
    for name, three in angles.items():
        if "," in name or '"' in name or "\n" in name:
            raise InvalidInputError(
                f"{name!r} cannot be a name in a submission: it holds a comma, quote or line end"
            )
        checked = check_angles(three, f"{name}")
        lines.append(",".join([name, *(repr(angle) for angle in checked)]))
    return write_text(path, "\n".join(lines) + "\n")


def read_submission(path: str | Path) -> dict[str, Angles]:
    """Read angles by image name from ``name,an1,an2,an3``.

    Raises:
        MissingDataError: there is no such file.
        InvalidInputError: another header, a row of other length, a name twice, or angles out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"there is no {path}; check the path (working folder: {Path.cwd()})")
    header, *rows = _rows(path) or [[]]
    if [column.strip() for column in header] != _SUBMITTED:
        raise InvalidInputError(f"{path} begins with {','.join(header)!r}; expected {','.join(_SUBMITTED)!r}")
    found: dict[str, Angles] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number} (header is 0)"
        if len(row) != len(_SUBMITTED) or row[0] in found:
            problem = (
                f"{len(row)} columns" if len(row) != len(_SUBMITTED) else f"{row[0]!r} for the second time"
            )
            raise InvalidInputError(f"{where}: {problem}; expected a new name and three angles")
        found[row[0]] = check_angles(_numbers(row[1:], 3, where), where)
    return found


def check_angles(angles: object, where: str) -> Angles:
    """The three angles as floats.

    Raises:
        InvalidInputError: they are not three finite numbers from 0 to 180.
    """
    array = np.asarray(angles, dtype=np.float64)
    if array.shape != (3,) or not ((array >= 0) & (array <= 180)).all():
        raise InvalidInputError(f"{where}: angles are {angles}; expected three numbers from 0 to 180 degrees")
    return float(array[0]), float(array[1]), float(array[2])


def _rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path} is not a csv file: {error}") from error
    except OSError as error:
        raise WorkbenchError(f"cannot read {path}: {error.strerror or error}") from error


def _numbers(row: list[str], columns: int, where: str) -> list[float]:
    if len(row) != columns:
        raise InvalidInputError(f"{where} has {len(row)} numbers; expected {columns}")
    values = []
    for column, text in enumerate(row):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidInputError(f"{where}, column {column}: {text!r} is not a finite number")
        values.append(value)
    return values
