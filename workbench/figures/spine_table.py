"""Tables: the levels and the angles of one spine, and the results of the benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data.vertebrae import LEVELS, centres_of
from workbench.errors import InvalidInputError
from workbench.figures._spine_shapes import Errors, angles_of, corners_of, measured
from workbench.spine.angles import endplate_tilts_of, tilts_of
from workbench.spine.clinical import clinical_angles

if TYPE_CHECKING:
    import pandas as pd


def spine_table(prediction: Any, truth: Any = None) -> pd.DataFrame:
    """One row a level: place, tilt, wedge, and with a truth the errors of centre, corners, tilt and wedge.

    Args:
        prediction: What a detector found, or corners (17, 4, 2).
        truth: True corners or a phantom.

    Raises:
        InvalidInputError: corners of another shape, or nothing to compare.
    """
    import pandas as pd

    corners = corners_of(prediction)
    middle = centres_of(corners)
    columns: dict[str, Any] = {
        "x, px": middle[:, 0],
        "y, px": middle[:, 1],
        "tilt, °": tilts_of(corners),
        "wedge, °": _wedges(corners),
    }
    if truth is not None:
        true = corners_of(truth)
        errors = Errors.between(prediction, true)
        columns["centre off, px"] = errors.centres
        columns["corners off, px"] = errors.levels
        columns["in body widths"] = errors.levels / errors.widths
        if errors.millimetres is not None:
            columns["corners off, mm"] = errors.millimetres.mean(1)
        columns["tilt off, °"] = errors.tilts
        columns["wedge off, °"] = (_wedges(corners) - _wedges(true) + 180) % 360 - 180
    return pd.DataFrame(columns, index=pd.Index(LEVELS, name="level"))


def spine_angle_table(
    prediction: Any, truth: Any = None, size: tuple[int, int] | None = None
) -> pd.DataFrame:
    """One row an angle, official and clinical: predicted, and with a truth the true value and the difference.

    Where vertebrae are missing in the truth, or lie outside the image, both are measured without them.

    Args:
        prediction: What a detector found, or corners with `size`.
        truth: True corners or a phantom.
        size: Height and width of the image in pixels, where `prediction` does not say.

    Raises:
        InvalidInputError: no size, or too few vertebrae.
    """
    import pandas as pd

    size = size or getattr(prediction, "size", None)
    if not isinstance(size, tuple):
        raise InvalidInputError(
            "bare corners need the image's size: spine_angle_table(corners, size=(704, 384))"
        )
    true = None if truth is None else corners_of(truth)
    table = {"predicted": _all_angles(measured(corners_of(prediction), size, true), size[0])}
    if true is not None:
        table["true"] = _all_angles(true, size[0])
        table["difference"] = {
            name: table["predicted"][name] - value for name, value in table["true"].items()
        }
    return pd.DataFrame(table)


#: Columns of the table of results, by their names in the file.
_QUALITY = {"nmse": "NMSE", "mean_frame_px": "mean px", "or20": "OR20 %", "or40": "OR40 %", "smape": "SMAPE %",
            "cmae": "CMAE °"}  # fmt: skip


def spine_quality(path: str | Path, *, ablations: bool = False) -> pd.DataFrame:
    """What ``python -m benchmarks.spine_quality`` has measured: a row a set and method, without rows where it has not.

    Args:
        path: Of ``results/spine_quality.json``.
        ablations: Also the cascades without one of their parts.

    Raises:
        InvalidInputError: a file that is something else.
    """
    import pandas as pd

    path, rows = Path(path), []
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
        for name, measured_set in results.items():
            if "methods" in measured_set:
                parts = {"cascade": measured_set["cascade"], **measured_set["methods"]}
                parts |= measured_set["ablations"] if ablations else {}
                rows += [{"set": name, "method": method, **_means(found)} for method, found in parts.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"{path} does not hold results of benchmarks.spine_quality: {error!r}"
        ) from error
    return pd.DataFrame(rows, columns=["set", "method", *_QUALITY.values()])


def _means(found: dict[str, Any]) -> dict[str, float]:
    return {column: found[name]["mean"] for name, column in _QUALITY.items()}


def _all_angles(corners: np.ndarray, height: int) -> dict[str, float]:
    official, clinical = angles_of(corners, height), clinical_angles(corners)
    named = {f"an{i + 1}": float(value) for i, value in enumerate(official.values)}
    curves: tuple[Any, ...] = ("PT", "MT", "TL")
    return named | {name: clinical.cobb(name) for name in curves}


def _wedges(corners: np.ndarray) -> np.ndarray:
    plates = endplate_tilts_of(corners)
    return np.asarray(plates[:, 1] - plates[:, 0])
