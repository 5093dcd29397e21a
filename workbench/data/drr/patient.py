"""The patient: attenuation on planes parallel to the film, and the corners of the vertebrae in space.

The CT is read once a process: table and contrast agent are taken out, Hounsfield numbers become attenuation, slices
2.5 mm apart become rows 0.7 mm apart. Source: specification, section 7.5.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from workbench.data.drr.bodies import Body, axes_of, body_of, corners_of
from workbench.data.drr.nifti import Volume, in_film_order, read_nifti
from workbench.data.fetch import locate
from workbench.data.vertebrae import LEVELS
from workbench.errors import IntegrityError

#: The manifest's entry.
ENTRY = "chest-ct"

#: Levels whose bodies lie whole in the CT.
WHOLE_LEVELS = LEVELS[:14]

_ROW = 0.7  # mm between rows after resampling
_HALF_WIDTH = 130.0  # mm to either side of the spine that are kept
_WATER = 0.02  # attenuation, 1/mm
_BONE_FROM, _BONE_FULL, _BONE_GAIN = 100.0, 400.0, 0.4  # HU, HU, extra attenuation of dense bone
_METAL = 2500.0  # HU, above it numbers are artefacts
_BLOOD = 60.0  # HU, what vessels hold without contrast agent
_MOST_LABELS = 1000

#: Groups of structures.
_VESSELS, _BONES = ("cardiac",), ("vertebrae", "skeleton", "ribs")

Hounsfield = Float[np.ndarray, "depth row column"]


@dataclass(frozen=True)
class Patient:
    """What the beam passes.

    Attributes:
        planes: Attenuation in 1/mm, float32 (depth, row, column), from the front of the body to its back.
        first: Where ``planes[0, 0, 0]`` lies, (x, y, z) in mm from the middle of the spine.
        step: Distances of neighbours along x, y and z, mm.
        corners: (17, 4, 3) corners TL, TR, BL, BR in mm, NaN for vertebrae that are not whole in the CT.
    """

    planes: Float[np.ndarray, "depth row column"]
    first: tuple[float, float, float]
    step: tuple[float, float, float]
    corners: Float[np.ndarray, "17 4 3"]


@cache
def load_patient() -> Patient:
    """The patient of the manifest's entry ``chest-ct``, kept for the rest of the process (about 130 MB).

    Raises:
        MissingDataError: the entry has not been fetched; the message says what to type.
        IntegrityError: a file is damaged.
    """
    folder = locate(ENTRY)
    volume = in_film_order(read_nifti(folder / "cxr.nii.gz"))
    labels = in_film_order(read_nifti(folder / "mask.nii.gz"))
    return build_patient(volume, labels, read_structures(folder / "structures.csv"))


def read_structures(path: Path) -> dict[str, dict[str, int]]:
    """Label numbers by name, by group, from a table with columns ``group``, ``structure`` and ``id``.

    Raises:
        IntegrityError: a column is missing or an id is not a whole number.
    """
    groups: dict[str, dict[str, int]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                groups.setdefault(row["group"], {})[row["structure"]] = int(row["id"])
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path} is not a table of group, structure and id: {error!r}") from error
    return groups


def build_patient(volume: Volume, labels: Volume, groups: Mapping[str, Mapping[str, int]]) -> Patient:
    """A patient from a CT and its labels, both as from `in_film_order`.

    Args:
        volume: The CT; Hounsfield numbers are ``slope * array + intercept``.
        labels: Whole numbers on the same grid.
        groups: Label numbers by name by group; ``vertebrae_T1`` to ``vertebrae_L2`` and ``spinal_cord`` must be there.

    Raises:
        IntegrityError: the grids differ, the labels are no whole numbers, or a vertebra is missing.
    """
    _check_grids(volume, labels)
    corners = _corners(labels, {name: n for group in groups.values() for name, n in group.items()})
    middle = np.nanmean(corners, (0, 1))
    depth, row, column = volume.spacing
    kept = _columns(middle[0], column)
    hounsfield = _without_contrast(_hounsfield(volume, kept), labels.array[:, :, kept], groups)
    planes, start = _thinned(_attenuation(hounsfield), _body(hounsfield))
    x, y, z = np.array([kept.start * column, 0.0, (start + 0.5) * depth]) - middle
    first = (float(x), float(y), float(z))
    return Patient(_rows(planes, row), first, (column, _ROW, 2 * depth), corners - middle)


def _check_grids(volume: Volume, labels: Volume) -> None:
    shapes = f"CT {volume.array.shape} and labels {labels.array.shape}"
    if volume.array.shape != labels.array.shape or not np.allclose(volume.affine, labels.affine, atol=1e-3):
        raise IntegrityError(f"{shapes} do not lie on the same grid; fetch them again")
    if (
        labels.array.dtype.kind not in "iu"
        or not 0 <= labels.array.min() <= labels.array.max() <= _MOST_LABELS
    ):
        raise IntegrityError(f"the labels are not whole numbers from 0 to {_MOST_LABELS}; fetch them again")


def _columns(middle: float, spacing: float) -> slice:
    """The columns within reach of the spine, whose middle lies `middle` mm from the first."""
    return slice(max(int((middle - _HALF_WIDTH) / spacing), 0), int((middle + _HALF_WIDTH) / spacing) + 1)


def _corners(labels: Volume, numbers: Mapping[str, int]) -> Float[np.ndarray, "17 4 3"]:
    """Corners in mm from the first voxel; neighbours outside T1–L2, where they are, only steady the axes."""
    names = ("C7", *WHOLE_LEVELS, "L3")
    boxes = ndimage.find_objects(labels.array)
    bodies = {name: _body_at(labels, boxes, numbers, f"vertebrae_{name}") for name in names}
    missing = [name for name in WHOLE_LEVELS if bodies[name] is None]
    if missing:
        raise IntegrityError(f"the CT has no {', '.join(missing)}; fetch it again")
    found = {name: body for name, body in bodies.items() if body is not None}
    centres = np.stack([body.centre for body in found.values()])
    corners = np.full((len(LEVELS), 4, 3), np.nan)
    for place, (name, body) in enumerate(found.items()):
        if name in WHOLE_LEVELS:
            corners[LEVELS.index(name)] = corners_of(body, axes_of(centres, place))
    return corners


def _body_at(
    labels: Volume, boxes: list[tuple[slice, ...] | None], numbers: Mapping[str, int], name: str
) -> Body | None:
    number = numbers.get(name, 0)
    box = boxes[number - 1] if 0 < number <= len(boxes) else None
    if box is None:
        return None
    part = labels.array[box]
    start = (box[0].start, box[1].start, box[2].start)
    return body_of(part == number, part == numbers.get("spinal_cord", 0), labels.spacing, start)


def _hounsfield(volume: Volume, kept: slice) -> Hounsfield:
    values = volume.array[:, :, kept].astype(np.float32)
    values *= np.float32(volume.slope)
    values += np.float32(volume.intercept)
    return values.clip(-1000, _METAL, out=values)


def _without_contrast(
    hounsfield: Hounsfield,
    labels: Integer[np.ndarray, "depth row column"],
    groups: Mapping[str, Mapping[str, int]],
) -> Hounsfield:
    """Heart and vessels, and a rim of 2 voxels about them, without what makes them brighter than blood."""
    vessels, bones = _among(labels, groups, _VESSELS), _among(labels, groups, _BONES)
    inside = ndimage.binary_dilation(vessels, iterations=2) & ~bones
    hounsfield[inside] = np.minimum(hounsfield[inside], _BLOOD)
    return hounsfield


def _among(
    labels: np.ndarray, groups: Mapping[str, Mapping[str, int]], names: tuple[str, ...]
) -> Bool[np.ndarray, "depth row column"]:
    """Which voxels belong to a structure of one of the groups named."""
    wanted = [number for name in names for number in groups.get(name, {}).values()]
    table = np.zeros(_MOST_LABELS + 1, dtype=bool)
    table[[number for number in wanted if 0 < number <= _MOST_LABELS]] = True
    return np.asarray(table[labels])


def _body(hounsfield: Hounsfield) -> Bool[np.ndarray, "depth row column"]:
    """What lies between the body's front and back: the table and the air about it are left out."""
    coarse = ndimage.binary_opening(hounsfield[::2, :, ::2] > -350, np.ones((3, 1, 3)))
    pieces, _ = ndimage.label(coarse)
    body = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    after_front = np.logical_or.accumulate(body, 0)
    before_back = np.logical_or.accumulate(body[::-1], 0)[::-1]
    hull = (after_front & before_back).repeat(2, 0).repeat(2, 2)
    return hull[: hounsfield.shape[0], :, : hounsfield.shape[2]]


def _attenuation(hounsfield: Hounsfield) -> Hounsfield:
    """Linear in the Hounsfield number, raised for bone, whose calcium stops more of a film's softer beam."""
    bone = np.clip((hounsfield - _BONE_FROM) / (_BONE_FULL - _BONE_FROM), 0, 1)
    return _WATER * (hounsfield + 1000) / 1000 * (1 + _BONE_GAIN * bone)


def _thinned(attenuation: Hounsfield, body: Bool[np.ndarray, "depth row column"]) -> tuple[Hounsfield, int]:
    """Pairs of planes become one, from the first that touches the body on; its index comes second."""
    attenuation *= body
    touched = np.flatnonzero(body.any((1, 2)))
    start, stop = int(touched[0]), int(touched[-1]) + 1
    stop -= (stop - start) % 2
    return (attenuation[start:stop:2] + attenuation[start + 1 : stop : 2]) / 2, start


def _rows(planes: Hounsfield, spacing: float) -> Hounsfield:
    """The planes with rows 0.7 mm apart, by cubic splines along the body."""
    old = np.arange(planes.shape[1]) * spacing
    new = np.arange(0, old[-1], _ROW)
    weights = make_interp_spline(old, np.eye(len(old)), k=3)(new).astype(np.float32)
    return np.maximum(np.matmul(weights, planes), 0)
