"""DICOM radiographs: polarity, windows, padding, spacing, and files that are refused. Needs pydicom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.data import locate
from workbench.data.radiographs import read_radiograph
from workbench.errors import InvalidInputError, MissingDataError

pydicom = pytest.importorskip(
    "pydicom", reason="DICOM needs the extra: pip install 'vision-workbench[dicom]'"
)

VALUES = np.linspace(100, 4000, 120 * 80).reshape(120, 80).round().astype(np.uint16)

Change = Callable[[Any], object]


def dataset(values: np.ndarray = VALUES, photometric: str = "MONOCHROME2") -> Any:
    """A small computed radiograph, uncompressed."""
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.Modality, made.PatientName = "CR", "Nobody"
    made.Rows, made.Columns = values.shape[:2]
    made.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = made.BitsStored = 8 * values.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(values.dtype.kind == "i")
    if values.ndim == 3:
        made.PlanarConfiguration = 0
    made.PixelData = values.tobytes()
    return made


def saved(folder: Path, made: Any, name: str = "film.dcm") -> Path:
    path = folder / name
    made.save_as(path, enforce_file_format=True)
    return path


def read(folder: Path, change: Change = lambda made: None, **options: Any) -> Any:
    made = dataset(**options)
    change(made)
    return read_radiograph(saved(folder, made))


def test_without_a_window_the_robust_range(tmp_path: Path) -> None:
    film = read(tmp_path)
    assert (film.size, film.spacing_mm, film.inverted, film.scale) == ((120, 80), None, False, 1.0)
    assert film.pixels.dtype == np.float32
    assert film.pixels[60, 0] == pytest.approx(0.5, abs=0.01)
    assert film.pixels[0, 0] < film.pixels[-1, -1]


def test_a_file_without_suffix(tmp_path: Path) -> None:
    assert read_radiograph(saved(tmp_path, dataset(), "film")).size == (120, 80)


def test_monochrome1_is_turned_round(tmp_path: Path) -> None:
    film = read(tmp_path, photometric="MONOCHROME1")
    assert film.inverted
    np.testing.assert_allclose(film.pixels, 1 - read(tmp_path).pixels, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR", lambda x: (x - 1999.5) / 1999 + 0.5),
        ("LINEAR_EXACT", lambda x: (x - 2000) / 2000 + 0.5),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 2000) / 2000))),
    ],
)
def test_windows(tmp_path: Path, function: str, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    def window(made: Any) -> None:
        made.WindowCenter, made.WindowWidth, made.VOILUTFunction = [2000, 1], [2000, 2], function

    pixels = read(tmp_path, window).pixels
    np.testing.assert_allclose(pixels, np.clip(expected(VALUES.astype(float)), 0, 1), atol=1e-5)


def test_the_window_is_in_rescaled_values(tmp_path: Path) -> None:
    def rescaled(made: Any) -> None:
        made.RescaleSlope, made.RescaleIntercept = "0.5", "-1000"
        made.WindowCenter, made.WindowWidth = 0, 1000

    values = VALUES * 0.5 - 1000
    np.testing.assert_allclose(
        read(tmp_path, rescaled).pixels, np.clip((values + 0.5) / 999 + 0.5, 0, 1), atol=1e-5
    )


@pytest.mark.parametrize(("centre", "width"), [(60_000, 10), (2000, 1), (2000, 0)])
def test_useless_windows_fall_back_to_the_robust_range(tmp_path: Path, centre: int, width: int) -> None:
    def window(made: Any) -> None:
        made.WindowCenter, made.WindowWidth = centre, width

    assert np.array_equal(read(tmp_path, window).pixels, read(tmp_path).pixels)


def test_voi_table(tmp_path: Path) -> None:
    def table(made: Any) -> None:
        entry = pydicom.Dataset()
        entry.LUTDescriptor = [4096, 0, 10]
        entry["LUTDescriptor"].VR = "US"
        entry.LUTData = [(i // 4) ** 2 // 1023 for i in range(4096)]
        entry["LUTData"].VR = "US"
        made.VOILUTSequence = [entry]

    expected = ((VALUES // 4).astype(np.int64) ** 2 // 1023) / 1023
    np.testing.assert_allclose(read(tmp_path, table).pixels, expected, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_has_no_say(tmp_path: Path, photometric: str) -> None:
    values = VALUES.copy()
    values[:, :20] = 60_000

    def pad(made: Any) -> None:
        made.add_new("PixelPaddingValue", "US", 60_000)

    film = read(tmp_path, pad, values=values, photometric=photometric)
    assert (film.pixels[:, :20] == 0).all()
    assert 0.4 < film.pixels[:, 20:].mean() < 0.6


def test_signed_values(tmp_path: Path) -> None:
    signed = (VALUES.astype(np.int32) - 2000).astype(np.int16)
    np.testing.assert_allclose(read(tmp_path, values=signed).pixels, read(tmp_path).pixels, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.25, 0.25]}, (0.2, 0.2)),
        ({"ImagerPixelSpacing": [0.143, 0.143]}, (0.143, 0.143)),
        ({"PixelSpacing": [0, 0], "NominalScannedPixelSpacing": [0.1, 0.1]}, (0.1, 0.1)),
        ({"PixelSpacing": [0, 0]}, None),
    ],
)
def test_spacing(tmp_path: Path, given: dict[str, list[float]], expected: object) -> None:
    assert (
        read(tmp_path, lambda made: [setattr(made, *item) for item in given.items()]).spacing_mm == expected
    )


@pytest.mark.parametrize("name", ["PixelSpacing", "PixelAspectRatio"])
def test_pixels_that_are_not_square_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        InvalidInputError, match="pixels 2 times as high as wide, in which every angle is wrong"
    ):
        read(tmp_path, lambda made: setattr(made, name, [2, 1]))


def test_large_files_are_reduced(tmp_path: Path) -> None:
    values = np.repeat(np.repeat(VALUES, 70, axis=0), 5, axis=1)
    film = read(tmp_path, values=values)
    assert (film.pixels.shape, film.scale, film.size) == ((2100, 100), 0.25, (8400, 400))


def test_colour(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    film = read(tmp_path, values=np.repeat(grey[..., None], 3, axis=2), photometric="RGB")
    np.testing.assert_allclose(film.pixels, grey / 255, atol=1e-6)
    colours = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    with pytest.raises(InvalidInputError, match="it is a colour image"):
        read(tmp_path, values=colours, photometric="RGB")


def no_pixels(made: Any) -> None:
    del made.PixelData


def no_depth(made: Any) -> None:
    made["PixelData"].VR = "OW"
    del made.BitsAllocated


def compressed(made: Any) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLSLossless

    made.file_meta.TransferSyntaxUID = JPEGLSLossless
    made.PixelData = encapsulate([b"\0" * 100])
    made["PixelData"].VR = "OB"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_pixels, r"holds no image \(Computed Radiography Image Storage\)"),
        (lambda made: setattr(made, "NumberOfFrames", 12), "holds 12 frames, expected one radiograph"),
        (
            lambda made: setattr(made, "PhotometricInterpretation", "PALETTE COLOR"),
            "photometric interpretation PALETTE COLOR; expected MONOCHROME1",
        ),
        (no_depth, "does not say how its pixels are stored"),
        (lambda made: setattr(made, "PixelData", made.PixelData[:-500]), "is damaged or was cut short"),
        (lambda made: setattr(made, "Rows", 40), "at least 64 pixels on each side"),
        (compressed, r"is compressed \(JPEG-LS Lossless.*\) and cannot be decoded here: .*install a decoder"),
    ],
)
def test_refused(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read(tmp_path, change)


def test_files_that_are_no_dicom(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    with pytest.raises(InvalidInputError, match="there is no image file"):
        read_radiograph(path)
    path.write_bytes(b"no DICOM at all" * 20)
    with pytest.raises(InvalidInputError, match="is not a DICOM file: it lacks the DICOM header"):
        read_radiograph(path)
    whole = saved(tmp_path, dataset(), "whole.dcm").read_bytes()
    for length in (200, 500, len(whole) - 1000):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInputError):
            read_radiograph(path)


def test_the_real_chest_radiograph() -> None:
    try:
        folder = locate("chest-radiograph")
    except MissingDataError:
        pytest.skip("fetch it first: workbench data fetch chest-radiograph")
    film = read_radiograph(folder / "chest.dcm")
    assert (film.size, film.scale, film.inverted, film.spacing_mm) == ((1955, 1841), 1.0, True, None)
    spine, lungs = film.pixels[600:1000, 860:960].mean(), film.pixels[500:700, 500:600].mean()
    assert spine > lungs + 0.1
