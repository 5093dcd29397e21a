"""Reading NIfTI volumes: numbers and orientation, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import drr_blocks as blocks
import numpy as np
import pytest

from workbench.data.drr.nifti import Volume, in_film_order, read_nifti
from workbench.errors import IntegrityError, MissingDataError

NUMBERS = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 5


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [True, False])
def test_numbers_and_place_are_read(tmp_path: Path, order: str, packed: bool) -> None:
    volume = read_nifti(
        blocks.write_nifti(tmp_path / "v.nii.gz", NUMBERS, order=order, packed=packed, slope=2)
    )
    assert np.array_equal(volume.array, NUMBERS)
    assert (volume.slope, volume.intercept) == (2, -7)
    assert np.allclose(volume.affine, blocks.affine())
    assert volume.spacing == blocks.SPACING


def test_a_slope_of_zero_means_not_scaled(tmp_path: Path) -> None:
    assert read_nifti(blocks.write_nifti(tmp_path / "v.nii", NUMBERS, slope=0)).slope == 1


@pytest.mark.parametrize(("code", "dtype"), [(2, "u1"), (8, "i4"), (16, "f4"), (64, "f8"), (512, "u2")])
def test_number_types(tmp_path: Path, code: int, dtype: str) -> None:
    numbers = np.arange(24).reshape(2, 3, 4).astype(dtype)
    volume = read_nifti(blocks.write_nifti(tmp_path / "v.nii", numbers, code=code))
    assert volume.array.dtype == np.dtype(dtype)
    assert np.array_equal(volume.array, numbers)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "magic": ({"at_344": b"ni1\0"}, "not a NIfTI-1 file"),
    "header size": ({"at_0": b"\0\0\0\0"}, "not a NIfTI-1 file"),
    "type": ({"code": 32}, "NIfTI type 32"),
    "dimensions": ({"at_40": struct.pack("<8h", 4, 2, 3, 4, 2, 1, 1, 1)}, "expected three"),
    "count of dimensions": ({"at_40": struct.pack("<h", 99)}, "expected three"),
    "negative size": ({"at_42": struct.pack("<h", -2)}, "expected three"),
    "offset": ({"at_108": struct.pack("<f", np.inf)}, "damaged header"),
    "slope": ({"slope": np.nan}, "damaged header"),
    "no place": ({"at_254": b"\0\0"}, "sform_code 0"),
    "voxel sizes": ({"at_80": struct.pack("<f", 3.0)}, "but an affine"),
    "not finite": ({"at_280": struct.pack("<f", np.nan)}, "but an affine"),
    "more numbers than the file": ({"at_42": struct.pack("<h", 20)}, "ends after"),
    "fewer numbers than the file": ({"at_42": struct.pack("<h", 1)}, "goes on after"),
    "huge": ({"at_42": struct.pack("<3h", 30000, 30000, 30000)}, "more than the"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_header_is_named(tmp_path: Path, case: str) -> None:
    changes, message = WRONG[case]
    path = blocks.write_nifti(tmp_path / "v.nii.gz", NUMBERS, **changes)
    with pytest.raises(IntegrityError, match=message):
        read_nifti(path)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.97])
def test_a_file_cut_short_is_named(tmp_path: Path, packed: bool, part: float) -> None:
    path = blocks.write_nifti(tmp_path / "v.nii.gz", NUMBERS, packed=packed)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(IntegrityError, match=r"cut short|ends after"):
        read_nifti(path)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = blocks.write_nifti(tmp_path / "v.nii.gz", NUMBERS)
    content = bytearray(path.read_bytes())
    content[30:60] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        read_nifti(path)


def test_text_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "v.nii.gz"
    path.write_bytes(gzip.compress(b"no volume " * 100))
    with pytest.raises(IntegrityError, match="not a NIfTI-1 file"):
        read_nifti(path)
    with pytest.raises(MissingDataError, match="there is no volume"):
        read_nifti(tmp_path / "other.nii")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_film_order_is_back_feet_left(axes: tuple[int, int, int], signs: tuple[int, int, int]) -> None:
    """A voxel keeps its number and its place in the patient, and the axes point as they should."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.diag([0.7, 0.8, 2.5]) @ np.eye(3)[list(axes)].T) * signs
    matrix[:3, 3] = (10, 20, 30)
    volume = Volume(NUMBERS, matrix)
    turned = in_film_order(volume)
    assert (turned.affine[1, 0], turned.affine[2, 1], turned.affine[0, 2]) == (-0.8, -2.5, -0.7)
    place = np.linalg.inv(matrix) @ turned.affine @ (1, 0, 1, 1)
    assert turned.array[1, 0, 1] == volume.array[tuple(np.rint(place[:3]).astype(int))]


def test_a_volume_that_lies_askew_is_refused() -> None:
    matrix = np.eye(4)
    matrix[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    with pytest.raises(IntegrityError, match="askew"):
        in_film_order(Volume(NUMBERS, matrix))
