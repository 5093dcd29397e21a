"""Spine landmarks: 17 centres, then 68 corners, found by shape-constrained cascades of CNNs, and Cobb angles.

After "Accurate scoliosis vertebral landmark localization on X-ray images via shape-constrained multi-stage cascaded
CNNs" (Wang, Lv et al., 2022/2024), of which the abstract alone could be read: what is built here is a complete design
of ours along its lines. Research use, not for diagnosis.

Example:
    >>> import workbench as wb
    >>> prediction = wb.SpineCascade.load("phantom").predict(wb.data.radiographs.read_radiograph("spine.png"))
    >>> prediction.angles()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.spine.angles import CobbAngles, official_angles, visible_angles
    from workbench.spine.cascade import SpineCascade
    from workbench.spine.clinical import ClinicalAngles, clinical_angles
    from workbench.spine.frames import FRAME, Frame
    from workbench.spine.metrics import SpineEvaluation, evaluate
    from workbench.spine.quality import QualityFlag, quality_flags
    from workbench.spine.results import SpinePrediction, Stage
    from workbench.spine.samples import Samples, phantom_samples
    from workbench.spine.settings import CascadeSettings
    from workbench.spine.shape_model import ShapeModel
    from workbench.spine.training import train_cascade

__all__ = [
    "FRAME",
    "CascadeSettings",
    "ClinicalAngles",
    "CobbAngles",
    "Frame",
    "QualityFlag",
    "Samples",
    "ShapeModel",
    "SpineCascade",
    "SpineEvaluation",
    "SpinePrediction",
    "Stage",
    "clinical_angles",
    "evaluate",
    "official_angles",
    "phantom_samples",
    "quality_flags",
    "train_cascade",
    "visible_angles",
]

# Names are found when they are asked for: figures and results need numpy alone, and should not wait for torch.
_HOME_OF = {
    "CascadeSettings": "settings",
    "ClinicalAngles": "clinical",
    "CobbAngles": "angles",
    "FRAME": "frames",
    "Frame": "frames",
    "QualityFlag": "quality",
    "Samples": "samples",
    "ShapeModel": "shape_model",
    "SpineCascade": "cascade",
    "SpineEvaluation": "metrics",
    "SpinePrediction": "results",
    "Stage": "results",
    "clinical_angles": "clinical",
    "evaluate": "metrics",
    "official_angles": "angles",
    "phantom_samples": "samples",
    "quality_flags": "quality",
    "train_cascade": "training",
    "visible_angles": "angles",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
