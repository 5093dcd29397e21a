"""DICOM radiographs through pydicom, which is installed on request only: the extra ``dicom``."""

from __future__ import annotations

import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.data._pixels import Stored, Values, block_mean, check_memory, reduction, to_unit
from workbench.data.images import explained
from workbench.errors import InvalidInputError, WorkbenchError

_SUFFIXES = (".dcm", ".dicom")
_PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB")

#: Attributes that tell the distance of pixel centres, best first: in the patient, at the detector, on film.
_SPACING = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")

#: A pixel whose height and width differ by more than this share bends every angle.
_SQUARE = 0.01

# What pydicom raises for data that does not fit its own description.
_BROKEN = (ValueError, AttributeError, TypeError, KeyError, IndexError, EOFError, OSError, RuntimeError)
_BROKEN_HEADER = (*_BROKEN, struct.error, NotImplementedError)


def is_dicom(path: Path) -> bool:
    """Whether the file's name or its first bytes are those of DICOM."""
    if path.suffix.lower() in _SUFFIXES:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: Path) -> Stored:
    """Read one DICOM image: modality and VOI transformations applied, MONOCHROME1 turned to bright bones.

    Without a usable window or VOI table the range is that of `to_unit`. Padding pixels are black.

    Raises:
        WorkbenchError: pydicom is not installed.
        InvalidInputError: no such file, damaged, no image in it, several frames, pixels that are not square, a
            compression that cannot be undone here, or too small or too large.
    """
    dataset = _header(path)
    _check_kind(dataset, path)
    size = (int(dataset.Rows), int(dataset.Columns))
    factor = reduction(size, str(path))
    check_memory(size, dataset.BitsAllocated / 8 * dataset.SamplesPerPixel, str(path))
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    values = _values(dataset, _decoded(dataset, path), factor, inverted)
    return Stored(values, factor, size, inverted, _spacing(dataset, path))


def _header(path: Path) -> Any:
    if find_spec("pydicom") is None:
        raise WorkbenchError(
            f"reading {path} takes pydicom, which is not installed; get it with: "
            'pip install "vision-workbench[dicom]"'
        )
    import pydicom

    with explained(path):
        try:
            return pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError as error:
            raise InvalidInputError(
                f"{path} is not a DICOM file: it lacks the DICOM header; export it again"
            ) from error
        except _BROKEN_HEADER as error:
            raise InvalidInputError(_damaged(path, error)) from error


def _check_kind(dataset: Any, path: Path) -> None:
    if "PixelData" not in dataset or "Rows" not in dataset or "Columns" not in dataset:
        kind = getattr(dataset.get("SOPClassUID"), "name", "an unknown kind of object")
        raise InvalidInputError(f"{path} holds no image ({kind}); name the file of the radiograph itself")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InvalidInputError(f"{path} holds {frames} frames, expected one radiograph; export one frame")
    found = dataset.get("PhotometricInterpretation")
    if found not in _PHOTOMETRIC:
        raise InvalidInputError(
            f"{path} has the photometric interpretation {found}; expected {' or '.join(_PHOTOMETRIC)}"
        )
    if {"BitsAllocated", "SamplesPerPixel", "PixelRepresentation"} - set(dataset.dir()):
        raise InvalidInputError(f"{path} does not say how its pixels are stored; export it again")


def _decoded(dataset: Any, path: Path) -> np.ndarray:
    """The stored values, (height, width) or (height, width, 3)."""
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    try:
        return np.asarray(dataset.pixel_array)
    except (NotImplementedError, *_BROKEN) as error:
        if syntax is not None and syntax.is_compressed:
            raise InvalidInputError(
                f"{path} is compressed ({syntax.name}) and cannot be decoded here: {_first_line(error)}; export it "
                "uncompressed, or install a decoder that pydicom names for this compression"
            ) from error
        raise InvalidInputError(_damaged(path, error)) from error


def _values(dataset: Any, stored: np.ndarray, factor: int, inverted: bool) -> Values:
    values = block_mean(stored, factor)
    if stored.ndim == 3:
        return values / np.float32(2 ** int(dataset.BitsStored) - 1)
    padding = _padding(dataset, stored, factor)
    shown = _displayed(dataset, values, padding)
    if inverted:
        shown = 1 - shown
    shown[padding] = 0
    return shown.astype(np.float32)


def _padding(dataset: Any, stored: np.ndarray, factor: int) -> np.ndarray:
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros([-(-side // factor) for side in stored.shape], dtype=bool)
    last = dataset.get("PixelPaddingRangeLimit", first)
    low, high = sorted((int(first), int(last)))
    return block_mean((stored >= low) & (stored <= high), factor) > 0.5


def _displayed(dataset: Any, values: Values, padding: np.ndarray) -> Float[np.ndarray, "height width"]:
    """Stored values to [0, 1]: modality, then the VOI table or the first window, else the robust range."""
    import pydicom.pixels as pixels

    if dataset.get("ModalityLUTSequence"):
        values = np.asarray(pixels.apply_modality_lut(np.rint(values).astype(np.int64), dataset), np.float32)
    else:
        slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
        values = values * np.float32(slope) + np.float32(intercept)
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        shown = pixels.apply_voi(np.rint(values).astype(np.int64), dataset)
        return np.clip(np.asarray(shown, np.float32) / (2**bits - 1), 0, 1)
    windowed = _windowed(dataset, values)
    if windowed is None or np.ptp(windowed) < 1 / 255:
        return to_unit(values, padding)
    return windowed


def _windowed(dataset: Any, values: Values) -> Float[np.ndarray, "height width"] | None:
    """The first window applied, by the formulas of DICOM PS3.3, C.11.2; None without a usable window."""
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    least = 1 if function == "LINEAR" else 0
    if centre is None or width is None or not np.isfinite([centre, width]).all() or width <= least:
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - np.float32(centre)) / np.float32(width)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return np.clip((values - np.float32(centre)) / np.float32(width) + np.float32(0.5), 0, 1)


def _first(value: Any) -> float | None:
    """The number, or the first of several."""
    if value is None or value == "":
        return None
    return float(value) if np.isscalar(value) or not hasattr(value, "__len__") else float(value[0])


def _spacing(dataset: Any, path: Path) -> tuple[float, float] | None:
    """Distance of pixel centres down and across in mm, of the original pixels; None where it is not given."""
    given = [dataset.get(name) for name in _SPACING]
    pairs = [(float(pair[0]), float(pair[1])) for pair in given if pair and len(pair) == 2]
    known = [pair for pair in pairs if min(pair) > 0]
    aspect = dataset.get("PixelAspectRatio")
    if known:
        ratio = known[0][0] / known[0][1]
    else:
        ratio = float(aspect[0]) / float(aspect[1]) if aspect and min(map(float, aspect)) > 0 else 1.0
    if abs(ratio - 1) > _SQUARE:
        raise InvalidInputError(
            f"{path} has pixels {ratio:.3g} times as high as wide, in which every angle is wrong; resample it to "
            "square pixels first"
        )
    return known[0] if known else None


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is damaged or was cut short: {_first_line(error)}; get the file again"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
