"""A small reader for NIfTI-1 volumes (.nii, .nii.gz): header, numbers and orientation, nothing else.

It reads what a scanner's volume needs: one three-dimensional array of plain numbers with an affine. Every length in
the header is checked before memory is asked for, so that a damaged file ends in an error and not in a hang. Source:
the NIfTI-1 data format (header layout); specification, section 7.5.

Example:
    >>> volume = read_nifti("cxr.nii.gz")
    >>> volume.array.shape, volume.spacing
    ((512, 512, 133), (0.703125, 0.703125, 2.5))
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from jaxtyping import Float, Num

from workbench.errors import IntegrityError, MissingDataError

_HEADER = 348

#: Volumes that unpack to more than this are refused.
MAX_BYTES = 1 << 30

#: Number types by their NIfTI code; colours and complex numbers are not volumes of one quantity.
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}

#: Array axes, after `in_film_order`, point to the patient's back, feet and left.
_FILM_AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class Volume:
    """Numbers on a grid: `array` as stored, `affine` (4, 4) from indices to mm (right, front, head of the patient).

    `slope` and `intercept` turn stored numbers into real ones: ``slope * array + intercept``.
    """

    array: Num[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbours along each array axis, mm."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(first), float(second), float(third)


def read_nifti(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Volume:
    """Read one three-dimensional NIfTI-1 file, packed by gzip or not.

    Raises:
        MissingDataError: there is no such file.
        IntegrityError: it is not NIfTI-1, is cut short or damaged, unpacks to more than `max_bytes`, has another
            number of dimensions or type of number, or an affine that does not fit its voxel sizes.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"there is no volume {path}; check the path (working folder: {Path.cwd()})")
    try:
        with _open(path) as stream:
            return _read(stream, path, max_bytes)
    except (EOFError, OSError, zlib.error) as error:
        raise IntegrityError(f"{path} is damaged or was cut short ({error}); get the file again") from error


def in_film_order(volume: Volume) -> Volume:
    """The same volume with axes (back, feet, left): depth, rows and columns of a film taken from the front.

    Raises:
        IntegrityError: the axes lie more than about 25° away from the patient's.
    """
    directions = (volume.affine[:3, :3] / np.array(volume.spacing)).T
    cosines = _FILM_AXES @ directions.T
    order = np.abs(cosines).argmax(1)
    along = cosines[np.arange(3), order]
    if sorted(order) != [0, 1, 2] or np.abs(along).min() < 0.9:
        raise IntegrityError("the volume lies askew in the scanner; expected axes along the patient's own")
    flips = tuple(slice(None, None, 1 if sign > 0 else -1) for sign in along)
    array = volume.array.transpose(order)[flips]
    matrix = np.eye(4)
    matrix[:3, :3] = volume.affine[:3, :3][:, order] * np.sign(along)
    corner = np.zeros(3)
    for axis, sign in zip(order, along, strict=True):
        corner[axis] = 0 if sign > 0 else volume.array.shape[axis] - 1
    matrix[:3, 3] = volume.affine[:3, :3] @ corner + volume.affine[:3, 3]
    return Volume(array, matrix, volume.slope, volume.intercept)


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def _read(stream: IO[bytes], path: Path, max_bytes: int) -> Volume:
    header = _exactly(stream, _HEADER, path)
    order = _byte_order(header, path)
    shape = _shape(header, order, path)
    dtype = _dtype(header, order, path)
    affine = _affine(header, order, path)
    offset, slope, intercept = struct.unpack(f"{order}3f", header[108:120])
    if not (_HEADER <= offset < 1 << 20 and math.isfinite(slope) and math.isfinite(intercept)):
        raise IntegrityError(f"{path} has a damaged header: offset {offset}, scale {slope}, {intercept}")
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes:
        raise IntegrityError(f"{path} unpacks to {size:,} bytes, more than the {max_bytes:,} allowed")
    _exactly(stream, int(offset) - _HEADER, path)
    numbers = np.frombuffer(_exactly(stream, size, path), dtype).reshape(shape, order="F")
    if stream.read(1):
        raise IntegrityError(f"{path} goes on after its {shape} numbers; the header does not fit the file")
    return Volume(numbers, affine, slope or 1.0, intercept)  # a slope of 0 means "not scaled"


def _exactly(stream: IO[bytes], count: int, path: Path) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise IntegrityError(f"{path} ends after {len(data):,} of {count:,} bytes; get the file again")
    return data


def _byte_order(header: bytes, path: Path) -> str:
    for order in "<>":
        if struct.unpack(f"{order}i", header[:4])[0] == _HEADER and header[344:348] == b"n+1\0":
            return order
    raise IntegrityError(f"{path} is not a NIfTI-1 file (.nii, .nii.gz): its first bytes are {header[:4]!r}")


def _shape(header: bytes, order: str, path: Path) -> tuple[int, int, int]:
    count, *sizes = struct.unpack(f"{order}8h", header[40:56])
    if not 3 <= count <= 7 or min(sizes[:3]) < 1 or any(size > 1 for size in sizes[3:count]):
        raise IntegrityError(f"{path} has dimensions {sizes[: max(count, 0)]}; expected three")
    return sizes[0], sizes[1], sizes[2]


def _dtype(header: bytes, order: str, path: Path) -> np.dtype[np.generic]:
    code = struct.unpack(f"{order}h", header[70:72])[0]
    if code not in _TYPES:
        raise IntegrityError(f"{path} holds numbers of NIfTI type {code}; expected one of {sorted(_TYPES)}")
    return np.dtype(order + _TYPES[code])


def _affine(header: bytes, order: str, path: Path) -> Float[np.ndarray, "4 4"]:
    if struct.unpack(f"{order}h", header[254:256])[0] < 1:
        raise IntegrityError(f"{path} does not say how it lies in the patient (sform_code 0)")
    affine = np.eye(4)
    affine[:3] = np.array(struct.unpack(f"{order}12f", header[280:328])).reshape(3, 4)
    voxel = np.array(struct.unpack(f"{order}3f", header[80:92]))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    fits = bool(np.isfinite(affine).all()) and np.allclose(lengths, voxel, rtol=1e-3, atol=0)
    if not fits or min(lengths) <= 0:
        raise IntegrityError(
            f"{path} has voxels of {voxel.tolist()} mm, but an affine of {lengths.tolist()} mm"
        )
    return affine
