"""The shape constraint: a linear model of how shapes vary, fitted by principal components, and its limits.

A shape is a vector x1, y1, x2, y2, … The model is mean + basis · b, with orthonormal basis columns; the variance of
each coefficient b says how far it may go. Source: specification, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import chi2

from workbench.errors import InvalidInputError, UnknownNameError

Alignment = Literal["none", "translation", "similarity"]
Clamp = Literal["box", "ellipsoid"]

#: A coefficient may lie this many standard deviations from zero in the box clamp.
BOX = 3.0
#: The ellipsoid clamp holds this share of normally distributed shapes.
_ELLIPSOID_SHARE = 0.997
#: Generalised Procrustes alignment stops when the mean moves less than this, or after so many rounds.
_STILL, _ROUNDS = 1e-10, 500


@dataclass(frozen=True)
class ShapeModel:
    """A linear model of shapes.

    Args:
        mean: Mean shape, (d,).
        basis: Orthonormal modes, (d, K), by falling variance.
        variances: Variance of each coefficient, (K,).

    Example:
        >>> model = ShapeModel.fit(shapes, variance=0.995)
        >>> model.reconstruct(model.clamp(model.project(shapes[0])))
    """

    mean: Float[np.ndarray, " d"]
    basis: Float[np.ndarray, "d k"]
    variances: Float[np.ndarray, " k"]

    @classmethod
    def fit(
        cls,
        shapes: Float[np.ndarray, "n d"],
        *,
        variance: float = 0.995,
        components: int | None = None,
        centre: bool = True,
    ) -> ShapeModel:
        """Principal components of shapes.

        Args:
            shapes: One shape a row; see `align_shapes` for shapes that differ in place, size or turn.
            variance: Keep the fewest modes that hold this share of the variance.
            components: Keep so many modes instead.
            centre: Subtract the mean; without, the modes describe the shapes (or offsets) around zero.

        Raises:
            InvalidInputError: fewer than two shapes, values that are not finite, or a number of modes that cannot be.
        """
        shapes = np.asarray(shapes, dtype=np.float64)
        if shapes.ndim != 2 or len(shapes) < 2 or not np.isfinite(shapes).all():
            raise InvalidInputError(
                f"a shape model needs at least two finite shapes (n, d), not {shapes.shape}"
            )
        mean = shapes.mean(0) if centre else np.zeros(shapes.shape[1])
        _, singular, modes = np.linalg.svd(shapes - mean, full_matrices=False)
        variances = singular**2 / (len(shapes) - 1)
        kept = _count(variances, variance, components)
        return cls(mean, modes[:kept].T.copy(), variances[:kept])

    @property
    def components(self) -> int:
        """Number of modes."""
        return len(self.variances)

    def project(self, shapes: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n k"]:
        """Coefficients of shapes."""
        return (shapes - self.mean) @ self.basis

    def reconstruct(self, coefficients: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n d"]:
        """Shapes with these coefficients."""
        return self.mean + coefficients @ self.basis.T

    def clamp(
        self, coefficients: Float[np.ndarray, "*n k"], kind: Clamp = "box"
    ) -> Float[np.ndarray, "*n k"]:
        """Coefficients brought back to where training shapes lie; those that lie there are returned as they are.

        Args:
            coefficients: (…, K).
            kind: ``"box"``: each within ±3 standard deviations; ``"ellipsoid"``: scaled so that the Mahalanobis
                norm stays below that of 99.7 % of normally distributed shapes.
        """
        if kind == "box":
            limit = BOX * np.sqrt(self.variances)
            return np.clip(coefficients, -limit, limit)
        if kind == "ellipsoid":
            radius = np.sqrt(chi2.ppf(_ELLIPSOID_SHARE, self.components))
            norm = self.mahalanobis(coefficients)[..., None]
            return coefficients * np.minimum(1.0, radius / np.maximum(norm, 1e-300))
        raise UnknownNameError("clamp", kind, ("box", "ellipsoid"))

    def clamped(self, coefficients: Float[np.ndarray, "*n k"]) -> Bool[np.ndarray, "*n k"]:
        """Which coefficients lie on the border of the box or outside, to the thousandth that single precision blurs."""
        return np.abs(coefficients) >= BOX * np.sqrt(self.variances) * (1 - 1e-3)

    def mahalanobis(self, coefficients: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n"]:
        """Distance from the mean in standard deviations."""
        return np.sqrt((coefficients**2 / self.variances).sum(-1))


def align_shapes(shapes: Float[np.ndarray, "n d"], alignment: Alignment) -> Float[np.ndarray, "n d"]:
    """Shapes without what `alignment` names: nothing, their place, or their place, size and turn.

    ``"similarity"`` is generalised Procrustes alignment: unit norm, turned to the mean (no mirroring) until it stands
    still.

    Raises:
        UnknownNameError: another alignment.
    """
    if alignment not in ("none", "translation", "similarity"):
        raise UnknownNameError("alignment", alignment, ("none", "translation", "similarity"))
    points = np.asarray(shapes, dtype=np.float64).reshape(len(shapes), -1, 2)
    if alignment != "none":
        points = points - points.mean(1, keepdims=True)
    if alignment == "similarity":
        points = _procrustes(points)
    return points.reshape(len(shapes), -1)


def _procrustes(points: np.ndarray) -> np.ndarray:
    points = points / np.linalg.norm(points, axis=(1, 2), keepdims=True)
    mean = points[0]
    for _ in range(_ROUNDS):
        points = np.stack([shape @ _rotation(shape, mean) for shape in points])
        new = points.mean(0)
        new /= np.linalg.norm(new)
        moved, mean = np.abs(new - mean).max(), new
        if moved < _STILL:
            break
    return points


def _rotation(shape: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation R, without mirroring, for which shape · R is nearest to the target."""
    left, _, right = np.linalg.svd(shape.T @ target)
    sign = np.diag([1.0, np.linalg.det(left @ right)])
    return np.asarray(left @ sign @ right)


def _count(variances: np.ndarray, share: float, components: int | None) -> int:
    rank = int((variances > variances[0] * 1e-20).sum())
    if components is not None:
        if not 1 <= components <= rank:
            raise InvalidInputError(f"{components} components asked for; these shapes have 1 to {rank}")
        return components
    if not 0 < share <= 1:
        raise InvalidInputError(f"variance is {share}; expected a share, 0 < variance <= 1")
    cumulative = np.cumsum(variances[:rank]) / variances[:rank].sum()
    return min(rank, int(np.searchsorted(cumulative, share - 1e-12)) + 1)
