"""Spine landmarks: 17 centres, then 68 corners, found by shape-constrained cascades of CNNs, and Cobb angles.

After "Accurate scoliosis vertebral landmark localization on X-ray images via shape-constrained multi-stage cascaded
CNNs" (Wang, Lv et al., 2022/2024), of which the abstract alone could be read: what is built here is a complete design
of ours along its lines. Research use, not for diagnosis.

Example:
    >>> import workbench as wb
    >>> prediction = wb.SpineCascade.load("phantom").predict(wb.data.radiographs.read_radiograph("spine.png"))
    >>> prediction.angles()
"""

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
