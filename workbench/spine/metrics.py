"""Every figure of merit for spine landmarks and angles under one roof, and `evaluate` for all of them at once."""

from workbench.spine._angle_metrics import bias, cd, cmae, ed, icc_2_1, mae, md, smape, smape_per_angle
from workbench.spine._evaluation import SpineEvaluation, evaluate
from workbench.spine._landmark_metrics import (
    centre_nmse,
    detection_curve,
    distances,
    landmark_nmse,
    level_errors,
    level_shift_rate,
    mean_distance,
    missed_rate,
    nmse,
    outlier_ratio,
    relative_distance,
    shifted,
    wedge_error,
)

__all__ = [
    "SpineEvaluation",
    "bias",
    "cd",
    "centre_nmse",
    "cmae",
    "detection_curve",
    "distances",
    "ed",
    "evaluate",
    "icc_2_1",
    "landmark_nmse",
    "level_errors",
    "level_shift_rate",
    "mae",
    "md",
    "mean_distance",
    "missed_rate",
    "nmse",
    "outlier_ratio",
    "relative_distance",
    "shifted",
    "smape",
    "smape_per_angle",
    "wedge_error",
]
