"""How good angles are: the challenge's SMAPE, CMAE and distances, and the error, bias and agreement of each angle.

Arrays (n, 3) hold an1, an2, an3 of n images in degrees. An image of which an angle is NaN is left out; without any
image every figure is NaN. Source: specification, section 5.2.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from workbench.errors import InvalidInputError

Angles = Float[np.ndarray, "n 3"]
PerAngle = Float[np.ndarray, " 3"]


def smape(predicted: Angles, truth: Angles) -> float:
    """Symmetric mean absolute percentage error: Σ|Δ| over Σ(sum) of the three angles inside each image, then the mean.

    An image whose angles are all 0 in both counts as 0.

    Example:
        >>> smape(np.array([[30.0, 10, 10]]), np.array([[40.0, 10, 10]]))
        9.09…
    """
    predicted, truth = _pair(predicted, truth)
    return _mean(_ratio(np.abs(predicted - truth).sum(1), (predicted + truth).sum(1)))


def smape_per_angle(predicted: Angles, truth: Angles) -> PerAngle:
    """SMAPE of each of the three angles by itself, per cent."""
    predicted, truth = _pair(predicted, truth)
    ratio = _ratio(np.abs(predicted - truth), predicted + truth)
    return np.array([_mean(column) for column in ratio.T])


def cmae(predicted: Angles, truth: Angles) -> float:
    """Circular mean absolute error: the direction of the three errors' mean as unit vectors, degrees, over images.

    The arctangent of Σ sin over Σ cos of the absolute errors, in the right quadrant where errors pass 90°.
    """
    apart = np.radians(_apart(predicted, truth))
    return _mean(np.degrees(np.arctan2(np.sin(apart).sum(1), np.cos(apart).sum(1))))


def ed(predicted: Angles, truth: Angles) -> float:
    """Euclidean distance of the three angles, degrees, mean over images."""
    return _mean(np.linalg.norm(_apart(predicted, truth), axis=1))


def md(predicted: Angles, truth: Angles) -> float:
    """Manhattan distance (sum of the three absolute errors), degrees, mean over images."""
    return _mean(_apart(predicted, truth).sum(1))


def cd(predicted: Angles, truth: Angles) -> float:
    """Chebyshev distance (greatest of the three absolute errors), degrees, mean over images."""
    return _mean(_apart(predicted, truth).max(1))


def mae(predicted: Angles, truth: Angles) -> PerAngle:
    """Mean absolute error of each angle, degrees."""
    return np.array([_mean(column) for column in _apart(predicted, truth).T])


def bias(predicted: Angles, truth: Angles) -> PerAngle:
    """Mean of predicted less true angle, degrees: positive where angles are overestimated."""
    predicted, truth = _pair(predicted, truth)
    return np.array([_mean(column) for column in (predicted - truth).T])


def icc_2_1(predicted: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"]) -> float:
    """Intraclass correlation ICC(2,1): two-way random effects, absolute agreement, single readings.

    Args:
        predicted: One angle of n images; NaN where there is none.
        truth: The same angle as labelled.

    Returns:
        1 for equal readings that differ between images; NaN for fewer than two images or where nothing varies.

    Example:
        >>> icc_2_1(np.array([10.0, 20, 30]), np.array([12.0, 22, 32]))
        0.98…
    """
    scores = np.stack([np.ravel(predicted), np.ravel(truth)], axis=1).astype(np.float64)
    scores = scores[~np.isnan(scores).any(1)]
    n, k = scores.shape
    if n < 2:
        return float("nan")
    total = ((scores - scores.mean()) ** 2).sum()
    rows = k * ((scores.mean(1) - scores.mean()) ** 2).sum()
    columns = n * ((scores.mean(0) - scores.mean()) ** 2).sum()
    residual = (total - rows - columns) / ((n - 1) * (k - 1))
    between = rows / (n - 1)
    whole = between + (k - 1) * residual + k * (columns / (k - 1) - residual) / n
    return float((between - residual) / whole) if whole > 0 else float("nan")


def _pair(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.shape != truth.shape or predicted.ndim != 2 or predicted.shape[1] != 3:
        raise InvalidInputError(
            f"predicted and true angles have shapes {predicted.shape} and {truth.shape}; expected (images, 3) twice"
        )
    known = ~(np.isnan(predicted) | np.isnan(truth)).any(1)
    return predicted[known], truth[known]


def _apart(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    predicted, truth = _pair(predicted, truth)
    return np.abs(predicted - truth)


def _ratio(apart: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Per cent; 0 over 0 is 0."""
    return 100 * np.divide(apart, total, out=np.zeros_like(apart), where=total != 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
