"""Tables of one spine: its levels, its angles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data.vertebrae import LEVELS, centres_of
from workbench.figures._spine_shapes import Errors, angles_of, corners_of
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


def spine_angle_table(prediction: Any, truth: Any = None, height: int | None = None) -> pd.DataFrame:
    """One row an angle, official and clinical: predicted, and with a truth the true value and the difference.

    Args:
        prediction: What a detector found, or corners with `height`.
        truth: True corners or a phantom.
        height: Of the image in pixels, where `prediction` does not say.

    Raises:
        InvalidInputError: no height, or too few vertebrae.
    """
    import pandas as pd

    from workbench.errors import InvalidInputError

    size = getattr(prediction, "size", None)
    rows = size[0] if isinstance(size, tuple) else height
    if rows is None:
        raise InvalidInputError(
            "bare corners need the image's height: spine_angle_table(corners, height=704)"
        )
    table = {"predicted": _all_angles(corners_of(prediction), rows)}
    if truth is not None:
        table["true"] = _all_angles(corners_of(truth), rows)
        table["difference"] = {
            name: table["predicted"][name] - value for name, value in table["true"].items()
        }
    return pd.DataFrame(table)


def _all_angles(corners: np.ndarray, height: int) -> dict[str, float]:
    official, clinical = angles_of(corners, height), clinical_angles(corners)
    named = {f"an{i + 1}": float(value) for i, value in enumerate(official.values)}
    curves: tuple[Any, ...] = ("PT", "MT", "TL")
    return named | {name: clinical.cobb(name) for name in curves}


def _wedges(corners: np.ndarray) -> np.ndarray:
    plates = endplate_tilts_of(corners)
    return np.asarray(plates[:, 1] - plates[:, 0])
