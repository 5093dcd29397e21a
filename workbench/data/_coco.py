"""COCO keypoint files: 68 keypoints an annotation, with their visibility."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data._labels import KEYPOINTS, ROUND, LabelledImage, checked, fields, read_json
from workbench.data.vertebrae import LEVELS, check_corners
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.files import write_json

# Visibility: not labelled; labelled.
_ABSENT, _SEEN = 0, 2


def read_coco(path: str | Path) -> tuple[LabelledImage, ...]:
    """Read the 68 keypoints of every annotation of a COCO file.

    Keypoints are found by the names that the category gives them (`KEYPOINTS`, in any order); without names they
    are taken in that order. Visibility 0 means that a point is not there.

    Raises:
        MissingDataError: no such file.
        InvalidInputError: not a COCO keypoint file, an annotation of an unknown image or category, not 68 keypoints,
            or a vertebra seen in part.
        UnknownNameError: a keypoint name that is none of ours.

    Example:
        >>> [image.name for image in read_coco("spines.json")]
        ['spine.jpg']
    """
    path = Path(path)
    content = read_json(path)
    with fields(path, "a COCO keypoint file"):
        images = {image["id"]: image for image in content["images"]}
        orders = {kind["id"]: _order(kind.get("keypoints"), path) for kind in content["categories"]}
        return tuple(_of_annotation(given, images, orders, path) for given in content["annotations"])


def write_coco(path: str | Path, images: Iterable[LabelledImage]) -> Path:
    """Write one COCO file with an annotation of 68 keypoints for each image."""
    images = list(images)
    category = {
        "id": 1,
        "name": "spine",
        "supercategory": "anatomy",
        "keypoints": list(KEYPOINTS),
        # COCO counts keypoints from 1 here.
        "skeleton": [
            [4 * k + a + 1, 4 * k + b + 1]
            for k in range(len(LEVELS))
            for a, b in zip(ROUND, (*ROUND[1:], 0), strict=True)
        ],
    }
    listed = [
        {"id": i, "file_name": image.name, "height": image.size[0], "width": image.size[1]}
        for i, image in enumerate(images, 1)
    ]
    annotations = [_annotation(i, image) for i, image in enumerate(images, 1)]
    return write_json(path, {"images": listed, "annotations": annotations, "categories": [category]})


def _annotation(number: int, image: LabelledImage) -> dict[str, Any]:
    corners = check_corners(image.corners)
    points = corners.reshape(-1, 2)
    seen = ~np.isnan(points).any(1)
    keypoints = [
        value
        for (x, y), there in zip(points.tolist(), seen, strict=True)
        for value in ((x, y, _SEEN) if there else (0, 0, _ABSENT))
    ]
    low, high = (points[seen].min(0), points[seen].max(0)) if seen.any() else (np.zeros(2), np.zeros(2))
    box = [*low.tolist(), *(high - low).tolist()]
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "keypoints": keypoints,
        "num_keypoints": int(seen.sum()),
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
    }


def _of_annotation(
    given: Mapping[str, Any],
    images: Mapping[Any, Mapping[str, Any]],
    orders: Mapping[Any, Sequence[int]],
    path: Path,
) -> LabelledImage:
    where = f"{path}, annotation {given['id']}"
    if given["image_id"] not in images or given["category_id"] not in orders:
        raise InvalidInputError(f"{where} belongs to an image or a category that the file does not list")
    image, order = images[given["image_id"]], orders[given["category_id"]]
    values = np.array(given["keypoints"], dtype=np.float64)
    if values.shape != (3 * len(KEYPOINTS),):
        raise InvalidInputError(f"{where} has {values.size / 3:g} keypoints (x, y, visibility); expected 68")
    points = np.empty((len(KEYPOINTS), 3))
    points[list(order)] = values.reshape(-1, 3)
    points[points[:, 2] == _ABSENT] = np.nan
    size = (int(image["height"]), int(image["width"]))
    return LabelledImage(str(image["file_name"]), checked(points[:, :2], where), size)


def _order(names: Sequence[str] | None, path: Path) -> tuple[int, ...]:
    """Where each of a category's keypoints goes among ours."""
    if not names:
        return tuple(range(len(KEYPOINTS)))
    if unknown := [name for name in names if name not in KEYPOINTS]:
        raise UnknownNameError("keypoint", unknown[0], KEYPOINTS, f"Read in {path}")
    if len(set(names)) != len(KEYPOINTS) or len(names) != len(KEYPOINTS):
        raise InvalidInputError(
            f"{path} has a category of {len(names)} keypoints, {len(set(names))} of them different; expected 68"
        )
    return tuple(KEYPOINTS.index(name) for name in names)
