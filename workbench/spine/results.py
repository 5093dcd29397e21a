"""What a detector found on one radiograph: every stage, the landmarks, and what they imply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.data.vertebrae import CORNERS, LEVELS, Centres, Corners, centres_of, check_corners
from workbench.errors import InvalidInputError
from workbench.files import write_json
from workbench.spine.angles import CobbAngles, official_angles, visible_angles
from workbench.spine.clinical import ClinicalAngles, clinical_angles
from workbench.spine.quality import QualityFlag, quality_flags

if TYPE_CHECKING:
    import pandas as pd

_FORMAT = "workbench-spine-prediction-1"


@dataclass(frozen=True)
class Stage:
    """The landmarks after one stage, in pixels of the original image.

    Args:
        name: ``"start"``, ``"centres 1"``, …, ``"corners 3"``.
        step: What the stage moved.
        centres: (17, 2).
        corners: (17, 4, 2); before the corner stages the mean vertebra laid on each centre.
        coefficients: Those of the centres' shape model after the stage, where it has one.
        clamped: Modes (0-based) that met their limit of three standard deviations.
    """

    name: str
    step: Literal["start", "centres", "corners"]
    centres: Centres
    corners: Corners
    coefficients: np.ndarray | None = None
    clamped: tuple[int, ...] = ()


@dataclass(frozen=True)
class SpinePrediction:
    """Landmarks of one radiograph, stage by stage; research use, not for diagnosis.

    Args:
        stages: From the start to the last stage.
        size: Height and width of the original image.
        flags: What looks wrong about the landmarks or the image.
        spacing_mm: Millimetres per pixel along (row, column), where the file says so.
        model: Which detector found them.

    Example:
        >>> prediction = SpineCascade.load("phantom").predict(image)
        >>> prediction.corners.shape, prediction.angles().an1
        ((17, 4, 2), 34.2)
    """

    stages: tuple[Stage, ...]
    size: tuple[int, int]
    flags: tuple[QualityFlag, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    model: str = ""

    @property
    def corners(self) -> Corners:
        """Corners (17, 4, 2) after the last stage, in pixels of the original image."""
        return self.stages[-1].corners

    @property
    def centres(self) -> Centres:
        """Centres (17, 2): the mean of the last corners."""
        return centres_of(self.corners)

    @property
    def visible(self) -> np.ndarray:
        """Which vertebrae lie in the image, (17,): the centre is inside. A cut film shows fewer than seventeen."""
        x, y = self.centres.T
        return (x > -0.5) & (x < self.size[1] - 0.5) & (y > -0.5) & (y < self.size[0] - 0.5)

    @property
    def visible_corners(self) -> Corners:
        """Corners (17, 4, 2) with NaN for vertebrae that are not in the image."""
        return np.where(self.visible[:, None, None], self.corners, np.nan)

    def angles(self, variant: Literal["official", "yi"] = "official") -> CobbAngles:
        """The three official angles; of the vertebrae in the image alone where some are not (see `visible_angles`)."""
        if self.visible.all():
            return official_angles(self.corners, self.size[0], variant)
        return visible_angles(self.visible_corners, self.size[0])

    def clinical(self) -> ClinicalAngles:
        """Curves, severity and Lenke type by threshold, of the vertebrae in the image."""
        return clinical_angles(self.visible_corners)

    def to_frame(self) -> pd.DataFrame:
        """One row a vertebra: level, centre and corners in pixels."""
        import pandas as pd

        rows = [
            {"level": level, "x": centre[0], "y": centre[1]}
            | {f"{name}_{axis}": four[c][a] for c, name in enumerate(CORNERS) for a, axis in enumerate("xy")}
            for level, centre, four in zip(LEVELS, self.centres, self.corners, strict=True)
        ]
        return pd.DataFrame(rows)

    def save(self, path: str | Path) -> Path:
        """Write everything as JSON, atomically, and return the path; angles that cannot be measured are null."""
        return write_json(
            path,
            {
                "format": _FORMAT,
                "model": self.model,
                "size": list(self.size),
                "spacing_mm": list(self.spacing_mm) if self.spacing_mm else None,
                "angles": _angles_to_json(self),
                "flags": [{"name": f.name, "levels": list(f.levels), "text": f.text} for f in self.flags],
                "stages": [_stage_to_json(stage) for stage in self.stages],
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> SpinePrediction:
        """Read what `save` wrote.

        Raises:
            InvalidInputError: there is no such file, or it is not a prediction.
        """
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            if saved.get("format") != _FORMAT:
                raise ValueError(f"format is {saved.get('format')!r}, expected {_FORMAT!r}")
            if not saved["stages"]:
                raise ValueError("it has no stages")
            return cls(
                stages=tuple(_stage_of_json(stage) for stage in saved["stages"]),
                size=(int(saved["size"][0]), int(saved["size"][1])),
                flags=tuple(QualityFlag(f["name"], tuple(f["levels"]), f["text"]) for f in saved["flags"]),
                spacing_mm=tuple(saved["spacing_mm"]) if saved["spacing_mm"] else None,
                model=saved["model"],
            )
        except FileNotFoundError:
            raise InvalidInputError(f"there is no prediction {path}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InvalidInputError(f"{path} is not a saved spine prediction: {error}") from error


def prediction_of(
    corners: Corners, size: tuple[int, int], model: str, spacing_mm: tuple[float, float] | None = None
) -> SpinePrediction:
    """A prediction of one stage, for detectors that have no stages."""
    corners = check_corners(corners, missing=False)
    stage = Stage("corners 1", "corners", centres_of(corners), corners)
    return SpinePrediction((stage,), size, quality_flags(corners, size), spacing_mm, model)


def _angles_to_json(prediction: SpinePrediction) -> dict[str, Any] | None:
    try:
        angles = prediction.angles()
    except InvalidInputError:  # too few vertebrae in the image, or one without width
        return None
    return {"an1": angles.an1, "an2": angles.an2, "an3": angles.an3, "branch": angles.branch}


def _stage_to_json(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "step": stage.step,
        "centres": stage.centres.round(3).tolist(),
        "corners": stage.corners.round(3).tolist(),
        "coefficients": None if stage.coefficients is None else stage.coefficients.tolist(),
        "clamped": list(stage.clamped),
    }


def _stage_of_json(stage: dict[str, Any]) -> Stage:
    coefficients = stage["coefficients"]
    return Stage(
        stage["name"],
        stage["step"],
        np.asarray(stage["centres"], dtype=np.float64),
        check_corners(stage["corners"]),
        None if coefficients is None else np.asarray(coefficients),
        tuple(stage["clamped"]),
    )
