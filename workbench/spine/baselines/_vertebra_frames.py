"""The ridge cascade's view of one vertebra: a frame of its own from the centres, and how its corners vary there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.spine.shape_model import BOX, ShapeModel

#: Modes of a vertebra's shape beside the two translations.
SHAPE_MODES = 4


@dataclass(frozen=True)
class VertebraFrames:
    """Frames of vertebrae: origin at the centre, second axis down the spine, unit the distance of centres.

    Args:
        origin: (…, 17, 2).
        right: Unit vectors to the right, (…, 17, 2).
        down: Unit vectors down the spine, (…, 17, 2).
        unit: Length of the unit in pixels, (…, 17).
    """

    origin: Float[np.ndarray, "*n 17 2"]
    right: Float[np.ndarray, "*n 17 2"]
    down: Float[np.ndarray, "*n 17 2"]
    unit: Float[np.ndarray, "*n 17"]

    @classmethod
    def of(cls, centres: Float[np.ndarray, "*n 17 2"]) -> VertebraFrames:
        """From the centres: directions by central differences (one-sided at T1 and L5)."""
        down = np.gradient(centres, axis=-2)
        down = down / np.maximum(np.linalg.norm(down, axis=-1, keepdims=True), 1e-9)
        right = np.stack([down[..., 1], -down[..., 0]], -1)
        gaps = np.linalg.norm(np.diff(centres, axis=-2), axis=-1)
        ends = np.concatenate([gaps[..., :1], gaps, gaps[..., -1:]], -1)
        return cls(centres, right, down, np.maximum((ends[..., :-1] + ends[..., 1:]) / 2, 1.0))

    def __getitem__(self, chosen: int) -> VertebraFrames:
        return VertebraFrames(self.origin[chosen], self.right[chosen], self.down[chosen], self.unit[chosen])

    @property
    def turned(self) -> Float[np.ndarray, "*n 17"]:
        """Angle of each frame in radians, clockwise on screen."""
        return np.arctan2(self.right[..., 1], self.right[..., 0])

    def to_local(self, corners: Float[np.ndarray, "*n 17 4 2"]) -> Float[np.ndarray, "*n 17 4 2"]:
        """Corners in pixels of the image, in the frames."""
        away = (corners - self.origin[..., None, :]) / self.unit[..., None, None]
        axes = np.stack([self.right, self.down], -2)
        return np.einsum("...ij,...cj->...ci", axes, away)

    def to_image(self, local: Float[np.ndarray, "*n 17 4 2"]) -> Float[np.ndarray, "*n 17 4 2"]:
        """The way back."""
        axes = np.stack([self.right, self.down], -2)
        away = np.einsum("...ji,...cj->...ci", axes, local)
        return self.origin[..., None, :] + away * self.unit[..., None, None]


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
