"""How the corners of a vertebra vary in its local frame: a mean for each level, and modes that all levels share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.spine.shape_model import BOX, ShapeModel

#: Modes of a vertebra's shape beside the two translations.
SHAPE_MODES = 4


@dataclass(frozen=True)
class VertebraShapes:
    """Mean corners of each level in its frame, and the modes all levels share: two translations, then shapes.

    Args:
        mean: (17, 4, 2).
        basis: Orthonormal, (8, 2 + K).
        variances: Of the K shape modes.
    """

    mean: Float[np.ndarray, "17 4 2"]
    basis: Float[np.ndarray, "8 modes"]
    variances: Float[np.ndarray, " shapes"]

    @classmethod
    def fit(cls, local: Float[np.ndarray, "n 17 4 2"]) -> VertebraShapes:
        """From corners in their frames."""
        mean = local.mean(0)
        away = local - mean
        fixed = (away - away.mean(-2, keepdims=True)).reshape(-1, 8)
        shapes = ShapeModel.fit(fixed, components=SHAPE_MODES, centre=False)
        translations = np.tile(np.eye(2), (4, 1)) / 2
        return cls(mean, np.concatenate([translations, shapes.basis], 1), shapes.variances)

    @property
    def modes(self) -> int:
        """Number of coefficients a vertebra."""
        return self.basis.shape[1]

    def project(self, local: Float[np.ndarray, "*n 17 4 2"]) -> Float[np.ndarray, "*n 17 modes"]:
        """Coefficients of corners in their frames."""
        return (local - self.mean).reshape(*local.shape[:-2], 8) @ self.basis

    def clamp(self, coefficients: Float[np.ndarray, "*n modes"]) -> Float[np.ndarray, "*n modes"]:
        """Coefficients with those of the shapes brought within three standard deviations."""
        limit = np.concatenate([[np.inf, np.inf], BOX * np.sqrt(self.variances)])
        return np.clip(coefficients, -limit, limit)

    def reconstruct(self, coefficients: Float[np.ndarray, "*n 17 modes"]) -> Float[np.ndarray, "*n 17 4 2"]:
        """Corners with these coefficients."""
        away = coefficients @ self.basis.T
        return self.mean + away.reshape(*away.shape[:-1], 4, 2)
