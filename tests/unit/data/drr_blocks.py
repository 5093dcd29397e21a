"""A patient of blocks: fourteen boxes of bone in a slab of water, with known edges, and the NIfTI files of both."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from workbench.data.drr.nifti import Volume, in_film_order
from workbench.data.drr.patient import WHOLE_LEVELS, Patient, build_patient

#: Voxel sizes in mm: left, back, down, as the real CT's but coarser.
SPACING = (1.0, 1.0, 2.0)
SHAPE = (160, 80, 150)  # voxels to the left, back and down
HALF_WIDTH, HEIGHT, PITCH, TOP = 14, 8, 10, 5  # voxels
FRONT, BACK = 30, 50  # voxels of depth
GROUPS = {
    "vertebrae": {f"vertebrae_{level}": 1 + k for k, level in enumerate(WHOLE_LEVELS)},
    "muscles": {"spinal_cord": 20},
    "cardiac": {"aorta": 21},
}


def middle_of(level: int) -> int:
    """The column in the middle of a box: each stands one voxel further left than the one above."""
    return 70 + level


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield numbers and labels, axes (left, back, down)."""
    hounsfield = np.full(SHAPE, -1000, dtype=np.int16)
    hounsfield[4:-4, 10:70] = 0
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for k in range(len(WHOLE_LEVELS)):
        columns = slice(middle_of(k) - HALF_WIDTH, middle_of(k) + HALF_WIDTH)
        rows = slice(TOP + PITCH * k, TOP + PITCH * k + HEIGHT)
        hounsfield[columns, FRONT:BACK, rows] = 100
        labels[columns, FRONT:BACK, rows] = k + 1
        labels[middle_of(k) - 2 : middle_of(k) + 2, 52:60, rows] = k + 1  # an arch
        labels[middle_of(k) - 2 : middle_of(k) + 2, BACK + 1 : 54, rows] = 20
    return hounsfield, labels


def affine() -> np.ndarray:
    """Indices (right-to-left, front-to-back reversed, feet-to-head) to mm: the axes of the real CT."""
    matrix = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1.0])
    matrix[:3, 3] = (80, -40, -150)
    return matrix


def as_stored(array: np.ndarray) -> np.ndarray:
    """From axes (left, back, down) to (left, front, up)."""
    return array[:, ::-1, ::-1]


def patient() -> Patient:
    hounsfield, labels = (in_film_order(Volume(as_stored(array), affine())) for array in arrays())
    return build_patient(hounsfield, labels, GROUPS)


def edges() -> np.ndarray:
    """(14, 4, 2) corners TL, TR, BL, BR of the boxes in mm from the first voxel's centre."""
    boxes = []
    for k in range(len(WHOLE_LEVELS)):
        left, right = middle_of(k) - HALF_WIDTH - 0.5, middle_of(k) + HALF_WIDTH - 0.5
        top = 2 * (TOP + PITCH * k - 0.5)
        bottom = top + 2 * HEIGHT
        boxes.append([(left, top), (right, top), (left, bottom), (right, bottom)])
    return np.array(boxes)


def write_nifti(
    path: Path,
    array: np.ndarray,
    *,
    code: int = 4,
    order: str = "<",
    slope: float = 1,
    packed: bool = True,
    **fields: object,
) -> Path:
    """A NIfTI-1 file; `fields` are bytes to put at an offset: ``at_40=b"…"``."""
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, array.ndim, *array.shape, *[1] * (7 - array.ndim))
    struct.pack_into(f"{order}2h", header, 70, code, 8 * array.itemsize)
    struct.pack_into(f"{order}8f", header, 76, -1, *SPACING, 0, 0, 0, 0)
    struct.pack_into(f"{order}3f", header, 108, 352, slope, -7)
    struct.pack_into(f"{order}2h", header, 252, 1, 1)
    struct.pack_into(f"{order}12f", header, 280, *affine()[:3].ravel())
    header[344:348] = b"n+1\0"
    for name, content in fields.items():
        start = int(name.removeprefix("at_"))
        header[start : start + len(content)] = content
    data = bytes(header) + array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")
    path.write_bytes(gzip.compress(data) if packed else data)
    return path
