"""Writing a phase in the layout of AASCE: the whole of it, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from workbench.data._aasce_tables import (
    ANGLES,
    FILENAMES,
    LANDMARKS,
    VARIABLE,
    Angles,
    check_angles,
    row_of_points,
)
from workbench.data._schema import is_safe_relative
from workbench.data.vertebrae import Corners, check_corners
from workbench.errors import InvalidInputError, WorkbenchError
from workbench.files import write_json, write_text

#: Holds what else is known of each case, by name.
FACTS = "facts.json"

_SUFFIXES = (".jpg", ".jpeg", ".png")
_QUALITY = 95


@dataclass(frozen=True, eq=False)
class NewCase:
    """One image to write: uint8 grey (H, W), corners (17, 4, 2) in its pixels, the three angles in degrees.

    `name` ends in .jpg, or in .png where the pixels must stay as they are. `facts` (numbers, texts, lists) are
    kept beside the labels.
    """

    name: str
    image: UInt8[np.ndarray, "height width"]
    corners: Corners
    angles: Angles
    facts: Mapping[str, Any] | None = None


def write_aasce(root: str | Path, phase: str, cases: Iterable[NewCase]) -> Path:
    """Write images and labels of one phase below `root` as AASCE has them, and return `root`.

    That is ``data/<phase>/<name>``, ``labels/<phase>/<name>.mat`` and the three tables. Everything is written to a
    hidden folder first and moved into place at the end: an error or a kill leaves no half of a phase.

    Raises:
        InvalidInputError: the phase is there already, a name is not that of an image or comes twice, there are no
            cases, or corners, angles or pixels that AASCE cannot hold (a missing vertebra, another type).
        WorkbenchError: the disk is full or not writable.

    Example:
        >>> write_aasce("phantoms", "training", [NewCase("p0.jpg", image, corners, (30.0, 12.0, 18.0))])
    """
    root = Path(root)
    images, labels = root / "data" / phase, root / "labels" / phase
    if not is_safe_relative(phase) or "/" in phase:
        raise InvalidInputError(f"{phase!r} cannot be the name of a phase; use a plain word such as training")
    if present := [folder for folder in (images, labels) if folder.exists()]:
        raise InvalidInputError(f"{present[0]} is there already; remove it or choose another folder")
    with _staging(root) as staging:
        _write_all(staging, cases)
        images.parent.mkdir(exist_ok=True)
        labels.parent.mkdir(exist_ok=True)
        (staging / "data").rename(images)
        try:
            (staging / "labels").rename(labels)
        except OSError:
            shutil.rmtree(images, ignore_errors=True)
            raise
    return root


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    folder = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root, prefix=".writing-"))
        for part in ("data", "labels"):
            (folder / part).mkdir()
        yield folder
    except WorkbenchError:
        raise
    except OSError as error:
        raise WorkbenchError(f"cannot write {root}: {error.strerror or error}; nothing was kept") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _write_all(folder: Path, cases: Iterable[NewCase]) -> None:
    names: dict[str, Mapping[str, Any]] = {}
    rows, angles = [], []
    for case in cases:
        _check_case(case, names)
        names[case.name] = case.facts or {}
        points = check_corners(case.corners, missing=False).reshape(-1, 2)
        rows.append(row_of_points(points, (case.image.shape[0], case.image.shape[1])))
        angles.append(check_angles(case.angles, case.name))
        _write_case(folder, case, points)
    if not names:
        raise InvalidInputError("there are no cases to write")
    write_text(folder / "labels" / FILENAMES, "".join(f"{name}\n" for name in names))
    write_text(folder / "labels" / LANDMARKS, _table(rows))
    write_text(folder / "labels" / ANGLES, _table(angles))
    if any(names.values()):
        write_json(folder / "labels" / FACTS, names)


def _check_case(case: NewCase, names: Mapping[str, object]) -> None:
    plain = is_safe_relative(case.name) and not set('/,"\n') & set(case.name)
    if not plain or not case.name.lower().endswith(_SUFFIXES):
        raise InvalidInputError(
            f"{case.name!r} is not the name of an image; expected one of {', '.join(_SUFFIXES)}"
        )
    if case.name in names:
        raise InvalidInputError(f"there are two cases {case.name!r}; give each its own name")
    if case.image.dtype != np.uint8 or case.image.ndim != 2:
        raise InvalidInputError(
            f"{case.name}: the image is {case.image.dtype} of shape {case.image.shape}; expected uint8 (H, W)"
        )


def _write_case(folder: Path, case: NewCase, points: np.ndarray) -> None:
    from scipy.io import savemat

    Image.fromarray(case.image).save(folder / "data" / case.name, quality=_QUALITY)
    savemat(folder / "labels" / f"{case.name}.mat", {VARIABLE: points})


def _table(rows: Iterable[Iterable[float]]) -> str:
    return "".join(",".join(repr(float(value)) for value in row) + "\n" for row in rows)
