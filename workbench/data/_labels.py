"""What the formats of landmark files have in common: names, one labelled image, and errors that name the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data.vertebrae import CORNERS, LEVELS, Corners, check_corners
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError

#: The 68 landmarks in the order of label files: "T1-TL", "T1-TR", "T1-BL", "T1-BR", "T2-TL" … "L5-BR".
KEYPOINTS = tuple(f"{level}-{corner}" for level in LEVELS for corner in CORNERS)

#: A polygon goes round: TL, TR, BR, BL.
ROUND = (0, 1, 3, 2)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """The landmarks of one image file: its name, corners (17, 4, 2) in its pixels, and size (height, width)."""

    name: str
    corners: Corners
    size: tuple[int, int]


def checked(points: np.ndarray, where: str) -> Corners:
    """The points as corners (17, 4, 2); errors begin with `where`."""
    try:
        return check_corners(points)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        MissingDataError: no such file.
        InvalidInputError: it is not text.
    """
    if not path.is_file():
        raise MissingDataError(
            f"there is no label file {path}; check the path (working folder: {Path.cwd()})"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not a text file: {error}") from error


def read_json(path: Path) -> Any:
    """The file's JSON value; errors as in `read_text`, and where it is not JSON."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not a JSON file, or was cut short: {error}") from error


@contextmanager
def fields(path: Path, kind: str) -> Iterator[None]:
    """Says which file lacks a field, or holds another kind of value in it, when the block trips over one."""
    try:
        yield
    except (InvalidInputError, UnknownNameError):
        raise
    except KeyError as error:
        raise InvalidInputError(f"{path} is not {kind}: it lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(f"{path} is not {kind}: {error}") from error
