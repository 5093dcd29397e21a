"""The angles of predictions as tables; where too few vertebrae lie in the image there are none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.table import Table
from rich.text import Text

from workbench.errors import InvalidInputError
from workbench.files import write_text
from workbench.spine.angles import CobbAngles, tilts_of
from workbench.spine.results import SpinePrediction

_NAMES = ("an1", "an2", "an3")


def angles_of(prediction: SpinePrediction) -> CobbAngles | None:
    """The official angles, or None where they cannot be measured."""
    try:
        return prediction.angles()
    except InvalidInputError:
        return None


def write_levels(path: Path, prediction: SpinePrediction) -> Path:
    """One row a vertebra: landmarks in pixels, tilt in degrees, whether it lies in the image."""
    rows = prediction.to_frame().assign(tilt=tilts_of(prediction.corners), in_image=prediction.visible)
    return write_text(path, rows.to_csv(index=False, float_format="%.3f", lineterminator="\n"))


def write_angles(path: Path, found: Mapping[str, SpinePrediction]) -> Path:
    """One row an image: name, an1, an2, an3 in degrees, branch, names of the flags; empty where there are none."""
    rows = []
    for name, prediction in found.items():
        angles = angles_of(prediction)
        numbers = {key: getattr(angles, key, None) for key in (*_NAMES, "branch")}
        rows.append({"name": name, **numbers, "flags": _flags(prediction)})
    return write_text(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.3f", lineterminator="\n"))


def angle_table(found: Mapping[str, SpinePrediction]) -> Table:
    """The same for people."""
    table = Table("Image", *(f"{name} °" for name in _NAMES), "Branch", "Flags", box=None, pad_edge=False)
    for name, prediction in found.items():
        angles = angles_of(prediction)
        shown = ["–"] * 4 if angles is None else [*(f"{value:.1f}" for value in angles.values), angles.branch]
        table.add_row(Text(name), *shown, _flags(prediction))
    return table


def _flags(prediction: SpinePrediction) -> str:
    return " ".join(flag.name for flag in prediction.flags)
