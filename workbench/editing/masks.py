"""Soft and binary masks over hidden units.

Sparsity is the fraction of zeros. Binarisation keeps exactly k = floor((1 − sparsity) · bits) units, the largest
over all matrices together; ties go to the lower index, so masks at different sparsities are nested. The published
code keeps only values strictly above the k-th, which leaves k − 1 units, or none where many tie: `topk="published"`
reproduces that. Source: specification, section 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.editing.space import EditSpace
from workbench.errors import InvalidInputError

TopK = Literal["exact", "published"]


@dataclass(frozen=True)
class BinaryMask:
    """Which hidden units may change.

    Args:
        bits: True where the unit may change, (matrices, units).
        space: The matrices the rows stand for.
        origin: How the mask was chosen (``"learned"``, ``"random"``, …).
    """

    bits: Bool[Tensor, "matrices units"]
    space: EditSpace
    origin: str = "given"

    def __post_init__(self) -> None:
        if tuple(self.bits.shape) != self.space.shape or self.bits.dtype != torch.bool:
            raise InvalidInputError(
                f"mask bits are {self.bits.dtype} of shape {tuple(self.bits.shape)}; this space needs "
                f"torch.bool of shape {self.space.shape}"
            )

    @property
    def count(self) -> int:
        """Number of units that may change."""
        return int(self.bits.sum())

    @property
    def density(self) -> float:
        """Fraction of ones."""
        return self.count / self.bits.numel()

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return 1 - self.density

    def rows(self, address: str) -> Tensor:
        """Indices of the selected units of one matrix, increasing."""
        return self.bits[self.space.index(address)].nonzero().flatten()

    def density_per_matrix(self) -> pd.Series:
        """Fraction of ones in each matrix, indexed by address."""
        return pd.Series(
            self.bits.double().mean(dim=1).numpy(), index=list(self.space.addresses), name="density"
        )

    def iou(self, other: BinaryMask) -> float:
        """Intersection over union with another mask of the same space; 1 for two empty masks."""
        if other.space != self.space:
            raise InvalidInputError(
                f"masks of different spaces cannot be compared: {self.space} and {other.space}"
            )
        union = int((self.bits | other.bits).sum())
        return int((self.bits & other.bits).sum()) / union if union else 1.0

    def to_frame(self) -> pd.DataFrame:
        """One row a selected unit: ``address``, ``block``, ``matrix``, ``unit``."""
        matrix, unit = (part.numpy() for part in self.bits.nonzero(as_tuple=True))
        addresses = np.array(self.space.addresses)[matrix]
        return pd.DataFrame(
            {
                "address": addresses,
                "block": np.array(self.space.blocks)[matrix // 2],
                "matrix": np.where(matrix % 2 == 0, "fc1", "fc2"),
                "unit": unit,
            }
        )


@dataclass(frozen=True)
class SoftMasks:
    """What a hypernetwork says about each hidden unit, in (0, 1), one mask an image.

    Args:
        values: (images, matrices, units).
        space: The matrices that the second axis stands for.
        origin: How they were made.
    """

    values: Float[Tensor, "images matrices units"]
    space: EditSpace
    origin: str = "learned"

    def __len__(self) -> int:
        return len(self.values)

    def binarize(self, sparsity: float, topk: TopK = "exact") -> BinaryMask:
        """One binary mask for all the images together: their mean, then the largest values over all matrices.

        Args:
            sparsity: Fraction of zeros, in [0, 1).
            topk: ``"exact"`` keeps exactly k units; ``"published"`` those strictly above the k-th value.

        Raises:
            InvalidInputError: sparsity outside [0, 1).
        """
        scores = self.values.mean(dim=0)
        return BinaryMask(top_units(scores, sparsity, topk), self.space, self.origin)


def top_units(scores: Float[Tensor, "matrices units"], sparsity: float, topk: TopK = "exact") -> Tensor:
    """True at the k largest scores, k = floor((1 − sparsity) · size); ties go to the lower index."""
    k = kept_units(scores.numel(), sparsity)
    flat = scores.flatten()
    if topk == "published":
        threshold = flat.sort(descending=True).values[max(k, 1) - 1]
        return scores > threshold
    order = torch.sort(flat, descending=True, stable=True).indices
    bits = torch.zeros_like(flat, dtype=torch.bool)
    bits[order[:k]] = True
    return bits.view(scores.shape)


def kept_units(size: int, sparsity: float) -> int:
    """k = floor((1 − sparsity) · size), safe against rounding (0.9 of 10 zeros leaves one, not none)."""
    return math.floor(round((1 - check_sparsity(sparsity)) * size, 6))


def check_sparsity(sparsity: float) -> float:
    """Return `sparsity` if it is a fraction of zeros in [0, 1); raise `InvalidInputError` otherwise."""
    if not 0 <= sparsity < 1:
        hint = f"; for {sparsity:g} % type {sparsity / 100:g}" if 1 < sparsity <= 100 else ""
        raise InvalidInputError(
            f"sparsity {sparsity} is outside [0, 1): it is the fraction of units that stay as they are, "
            f"0.9 lets one in ten change{hint}"
        )
    return sparsity
