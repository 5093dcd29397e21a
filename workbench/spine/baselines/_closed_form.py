"""Ridge regression in closed form, its penalty chosen on rows that were held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

#: Penalties tried, as fractions of the features' mean squared size times the number of rows.
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
#: Features that vary less than this are left alone instead of being blown up.
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Ridge:
    """A linear map with a constant: y = x · weight + bias."""

    weight: Float[np.ndarray, "features targets"]
    bias: Float[np.ndarray, " targets"]

    @classmethod
    def fit(
        cls,
        features: Float[np.ndarray, "rows features"],
        targets: Float[np.ndarray, "rows targets"],
        fitted: int,
    ) -> Ridge:
        """The map that minimises squared error plus a penalty on standardised weights.

        All targets get the same penalty: the one of `PENALTIES` that does best on the rows held out.

        Args:
            features: One row a sample.
            targets: What to predict.
            fitted: So many of the first rows are fitted on and the rest is held out; where that is none, the
                largest penalty is taken.
        """
        candidates = _candidates(features[:fitted], targets[:fitted])
        if fitted == len(features):
            return candidates[-1]
        x, y = features[fitted:], targets[fitted:]
        spread = targets[:fitted].std(0) + 1e-12
        errors = [float((((ridge(x) - y) / spread) ** 2).mean()) for ridge in candidates]
        return candidates[int(np.argmin(errors))]

    def __call__(self, features: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "rows targets"]:
        """Predictions, one a row."""
        return features @ self.weight + self.bias


def _candidates(x: np.ndarray, y: np.ndarray) -> list[Ridge]:
    """One map for each penalty."""
    mean, middle = x.mean(0), y.mean(0)
    scale = np.maximum(x.std(0), _CONSTANT)
    weights = _solutions((x - mean) / scale, y - middle)
    return [_in_raw_units(weight, mean, scale, middle) for weight in weights]


def _in_raw_units(weight: np.ndarray, mean: np.ndarray, scale: np.ndarray, middle: np.ndarray) -> Ridge:
    weight = weight / scale[:, None]
    return Ridge(weight.astype(np.float32), (middle - mean @ weight).astype(np.float32))


def _solutions(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Standardised weights for each penalty, by the smaller of the two equivalent systems."""
    rows, columns = x.shape
    dual = rows < columns
    gram = (x @ x.T if dual else x.T @ x).astype(np.float64)
    right = (y if dual else x.T @ y).astype(np.float64)
    found = []
    for penalty in PENALTIES:
        shifted = gram + penalty * rows * np.eye(len(gram))
        solved = cho_solve(cho_factor(shifted, overwrite_a=True, check_finite=False), right)
        found.append(x.T @ solved if dual else solved)
    return found
