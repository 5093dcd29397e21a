"""Vertebral landmarks in other programs' files: ``.pts`` lists, LabelMe and COCO keypoints.

All of them keep coordinates as they stand, so that what is written and read again is the same. A vertebra that is
not seen (NaN) is absent from LabelMe files, has visibility 0 in COCO files, and is ``nan`` in ``.pts`` files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from workbench.data._coco import read_coco, write_coco
from workbench.data._labels import KEYPOINTS, ROUND, LabelledImage, checked, fields, read_json, read_text
from workbench.data.vertebrae import CORNERS, LEVELS, Corners, check_corners, reorder, visible
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.files import write_json, write_text

__all__ = [
    "KEYPOINTS",
    "LabelledImage",
    "read_coco",
    "read_labelme",
    "read_pts",
    "write_coco",
    "write_labelme",
    "write_pts",
]


def read_pts(path: str | Path) -> Corners:
    """Read 68 lines ``x y``, vertebra after vertebra, corners TL, TR, BL, BR.

    RouterNet's files hold pixels of a frame 704 high and 384 wide into which the image was scaled with its
    proportions and centred; the points come back in that frame. Source: specification, section 1.4.

    Raises:
        MissingDataError: no such file.
        InvalidInputError: not 68 lines of two numbers, or a vertebra of which a part is ``nan``.

    Example:
        >>> read_pts("01-July-2019-1_corner.pts").shape
        (17, 4, 2)
    """
    path = Path(path)
    rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if len(rows) != len(KEYPOINTS):
        raise InvalidInputError(
            f"{path} has {len(rows)} lines of points; expected 68, four for each vertebra"
        )
    points = []
    for number, row in enumerate(rows):
        try:
            x, y = (float(value) for value in row)
        except ValueError as error:
            raise InvalidInputError(f"{path}, point {number}: {' '.join(row)!r} is not 'x y'") from error
        points.append((x, y))
    return checked(np.array(points), str(path))


def write_pts(path: str | Path, corners: Corners) -> Path:
    """Write corners as 68 lines ``x y``, exactly."""
    points = check_corners(corners).reshape(-1, 2)
    return write_text(path, "".join(f"{float(x)!r} {float(y)!r}\n" for x, y in points))


def read_labelme(path: str | Path) -> LabelledImage:
    """Read a LabelMe file: points labelled ``T1-TL`` … ``L5-BR``, polygons labelled ``T1`` … ``L5``, or both.

    A polygon has four points, drawn from any corner in any direction: which is which is read off their place
    (see `vertebrae.reorder`). Points keep the corner that their label says, be it right or wrong.

    Raises:
        MissingDataError: no such file.
        InvalidInputError: not a LabelMe file, a vertebra labelled twice or only in part, a polygon without four
            points.
        UnknownNameError: a label that is no vertebra.

    Example:
        >>> read_labelme("spine.json").name
        'spine.jpg'
    """
    path = Path(path)
    content = read_json(path)
    with fields(path, "a LabelMe file"):
        size = (int(content["imageHeight"]), int(content["imageWidth"]))
        name, shapes = str(content["imagePath"]), list(content["shapes"])
        found = [(str(shape["label"]), np.array(shape["points"], dtype=np.float64)) for shape in shapes]
    corners = np.full((len(LEVELS), len(CORNERS), 2), np.nan)
    for label, points in found:
        level, corner = _place(label, path)
        _put(corners, level, corner, points, f"{path}, label {label!r}")
    return LabelledImage(name, checked(corners, str(path)), size)


def write_labelme(
    path: str | Path, image: LabelledImage, *, style: Literal["points", "polygons"] = "points"
) -> Path:
    """Write a LabelMe file with 68 points, or with a polygon TL, TR, BR, BL for each vertebra.

    Polygons do not tell corners apart: swapped sides or end plates are lost with them.
    """
    if style not in ("points", "polygons"):
        raise UnknownNameError("style of LabelMe files", style, ("points", "polygons"))
    corners = check_corners(image.corners)
    shapes: list[dict[str, Any]] = []
    for k in np.flatnonzero(visible(corners)):
        if style == "polygons":
            shapes.append(_shape(LEVELS[k], corners[k, ROUND], "polygon"))
        else:
            shapes += [
                _shape(f"{LEVELS[k]}-{corner}", corners[k, [i]], "point") for i, corner in enumerate(CORNERS)
            ]
    content: dict[str, Any] = {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image.name,
        "imageData": None,
        "imageHeight": image.size[0],
        "imageWidth": image.size[1],
    }
    return write_json(path, content)


def _place(label: str, path: Path) -> tuple[int, int | None]:
    """Level and corner of "T1-TL", or level and None of "T1"."""
    if label in LEVELS:
        return LEVELS.index(label), None
    if label in KEYPOINTS:
        return divmod(KEYPOINTS.index(label), len(CORNERS))
    hint = f"Read in {path}; points are labelled T1-TL, polygons T1"
    raise UnknownNameError("vertebra label", label, (*LEVELS, *KEYPOINTS), hint)


def _put(corners: np.ndarray, level: int, corner: int | None, points: np.ndarray, where: str) -> None:
    expected = 1 if corner is not None else len(CORNERS)
    if points.shape != (expected, 2):
        what = "one point" if corner is not None else "four points (x, y)"
        raise InvalidInputError(f"{where} has points of shape {points.shape}; expected {what}")
    target = (level, slice(None)) if corner is None else (level, slice(corner, corner + 1))
    if not np.isnan(corners[target]).all():
        raise InvalidInputError(f"{where} is labelled twice; remove one of the two")
    corners[target] = points if corner is not None else _by_place(points)


def _by_place(points: np.ndarray) -> np.ndarray:
    """Four points of a polygon as TL, TR, BL, BR."""
    return reorder(np.tile(points, (len(LEVELS), 1, 1)))[0]


def _shape(label: str, points: np.ndarray, kind: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": label, "points": points.tolist(), "group_id": None}
    return {**shape, "shape_type": kind, "flags": {}}
