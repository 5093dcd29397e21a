"""All landmark and angle metrics of many spines at once, image by image and in sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from workbench.data.vertebrae import check_corners, visible
from workbench.errors import InvalidInputError
from workbench.spine import _angle_metrics as angle_metrics
from workbench.spine import _landmark_metrics as landmark_metrics
from workbench.spine.angles import FEWEST, longest_run, official_angles, visible_angles
from workbench.spine.quality import gate_rate, passes_gate

if TYPE_CHECKING:
    import pandas as pd

_ANGLES = ("an1", "an2", "an3")


@dataclass(frozen=True, eq=False)
class SpineEvaluation:
    """Predicted and true spines side by side.

    Angles are those of the predicted landmarks against those *of the labelled landmarks*, by the official rules, never
    against a separate file of angles. Where vertebrae are missing in either, both are measured by `visible_angles`
    on the levels they share.

    Args:
        predicted: (n, 17, 4, 2) original pixels, NaN where not predicted.
        truth: (n, 17, 4, 2), NaN where not labelled.
        sizes: Height and width of each image without padding, (n, 2).
        predicted_angles: an1, an2, an3 of each image, (n, 3) degrees; NaN where there are none.
        truth_angles: The same of the labels.
        branches: The branch of the official rules taken for prediction and truth, "" where there is none.
        names: One an image.
    """

    predicted: Float[np.ndarray, "n 17 4 2"]
    truth: Float[np.ndarray, "n 17 4 2"]
    sizes: Float[np.ndarray, "n 2"]
    predicted_angles: Float[np.ndarray, "n 3"]
    truth_angles: Float[np.ndarray, "n 3"]
    branches: tuple[tuple[str, str], ...]
    names: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row an image: landmark errors, angles of both, angle errors, whether the prediction passes the gate."""
        import pandas as pd

        return pd.DataFrame([self._row(i) for i in range(len(self.names))])

    def summary(self) -> dict[str, float]:
        """Every figure over all images; NaN where nothing can be compared.

        The NMSE and distances are means over images, the outlier ratios over all landmarks in pixels of the 704 x 384
        frame, per cent.
        """
        pair = (self.predicted, self.truth)
        angles = (self.predicted_angles, self.truth_angles)
        return {
            "images": float(len(self.names)),
            **_landmark_figures(*pair, self.sizes),
            "gate_rate": gate_rate(self.predicted),
            "smape": angle_metrics.smape(*angles),
            "cmae": angle_metrics.cmae(*angles),
            "ed": angle_metrics.ed(*angles),
            "md": angle_metrics.md(*angles),
            "cd": angle_metrics.cd(*angles),
            **_named("smape", angle_metrics.smape_per_angle(*angles)),
            **_named("mae", angle_metrics.mae(*angles)),
            **_named("bias", angle_metrics.bias(*angles)),
            **_named(
                "icc", [angle_metrics.icc_2_1(a, b) for a, b in zip(*(x.T for x in angles), strict=True)]
            ),
            "same_branch": self._same_branch(),
        }

    def level_errors(self, *, frame: bool = False) -> Float[np.ndarray, " 17"]:
        """Mean distance of each level's landmarks in original pixels, or in those of the 704 x 384 frame."""
        return landmark_metrics.level_errors(self.predicted, self.truth, self.sizes if frame else None)

    def detection_curve(self, radii: Sequence[float] | np.ndarray) -> Float[np.ndarray, " radii"]:
        """Per cent of landmarks within each radius, in pixels of the 704 x 384 frame."""
        return landmark_metrics.detection_curve(self.predicted, self.truth, radii, self.sizes)

    def _row(self, i: int) -> dict[str, object]:
        predicted, truth = self.predicted[i], self.truth[i]
        angles = (self.predicted_angles[i : i + 1], self.truth_angles[i : i + 1])
        return {
            "name": self.names[i],
            "levels": int((visible(predicted) & visible(truth)).sum()),
            **_landmark_figures(predicted, truth, self.sizes[i]),
            "gate": passes_gate(predicted),
            **dict(zip(_ANGLES, angles[0][0].tolist(), strict=True)),
            **{f"true_{name}": float(value) for name, value in zip(_ANGLES, angles[1][0], strict=True)},
            "branch": self.branches[i][0],
            "true_branch": self.branches[i][1],
            "smape": angle_metrics.smape(*angles),
            "cmae": angle_metrics.cmae(*angles),
        }

    def _same_branch(self) -> float:
        known = [a == b for a, b in self.branches if a and b]
        return float(np.mean(known)) if known else float("nan")


def evaluate(
    predicted: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]] | np.ndarray,
    names: Sequence[str] | None = None,
) -> SpineEvaluation:
    """Compare predicted with true landmarks.

    Args:
        predicted: Corners of n spines, each (17, 4, 2) or (68, 2) in pixels of its original image, NaN where missing.
        truth: The labels.
        sizes: (H, W) of each original image, without padding.
        names: Names for the table; numbers where None.

    Raises:
        InvalidInputError: not as many predictions, truths, sizes and names, or none, or bad corners.

    Example:
        >>> evaluate(predictions, labels, sizes).summary()["nmse"]
        0.000112
    """
    counts = [len(predicted), len(truth), len(sizes), len(predicted) if names is None else len(names)]
    if len(set(counts)) != 1 or counts[0] == 0:
        raise InvalidInputError(
            f"given {counts[0]} predictions, {counts[1]} truths, {counts[2]} sizes and {counts[3]} names; expected "
            "the same number of each, at least one"
        )
    ours = np.stack([check_corners(corners) for corners in predicted])
    labels = np.stack([check_corners(corners) for corners in truth])
    both = [_angles_of(a, b, float(size[0])) for a, b, size in zip(ours, labels, sizes, strict=True)]
    return SpineEvaluation(
        ours,
        labels,
        np.asarray(sizes, dtype=np.float64),
        np.stack([pair[0][0] for pair in both]),
        np.stack([pair[1][0] for pair in both]),
        tuple((pair[0][1], pair[1][1]) for pair in both),
        tuple(map(str, range(counts[0]) if names is None else names)),
    )


_Measured = tuple[np.ndarray, str]


def _angles_of(predicted: np.ndarray, truth: np.ndarray, height: float) -> tuple[_Measured, _Measured]:
    """Angles and branch of both on the levels they share."""
    shared = visible(predicted) & visible(truth)
    return _measured(predicted, shared, height), _measured(truth, shared, height)


def _measured(corners: np.ndarray, shared: np.ndarray, height: float) -> _Measured:
    first, last = longest_run(shared)
    if last - first + 1 < FEWEST:
        return np.full(3, np.nan), ""
    masked = np.where(shared[:, None, None], corners, np.nan)
    try:
        found = (official_angles if shared.all() else visible_angles)(masked, height)
    except InvalidInputError:  # a vertebra without width has no angle
        return np.full(3, np.nan), ""
    return found.values, found.branch


def _landmark_figures(predicted: np.ndarray, truth: np.ndarray, size: np.ndarray) -> dict[str, float]:
    """The landmark metrics of one image, or of a stack."""
    pair = (predicted, truth)
    return {
        "nmse": landmark_metrics.nmse(*pair, size),
        "centre_nmse": landmark_metrics.centre_nmse(*pair, size),
        "mean_px": landmark_metrics.mean_distance(*pair),
        "mean_frame_px": landmark_metrics.mean_distance(*pair, size),
        "mean_widths": landmark_metrics.relative_distance(*pair),
        "or20": landmark_metrics.outlier_ratio(*pair, 20, size),
        "or40": landmark_metrics.outlier_ratio(*pair, 40, size),
        "level_shift_rate": landmark_metrics.level_shift_rate(*pair),
        "missed_rate": landmark_metrics.missed_rate(*pair),
        "wedge_error": landmark_metrics.wedge_error(*pair),
    }


def _named(what: str, values: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {f"{what}_{name}": float(value) for name, value in zip(_ANGLES, values, strict=True)}
