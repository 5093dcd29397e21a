"""What can be had without looking at the image: the mean shape, and two oracles that are told a part of the truth.

The oracles are floors of what a translated mean, or a shape of K modes, could reach; they are no detectors. Source:
specification, sections 3.3 and 9.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from workbench.spine.baselines._base import SCALE, Baseline, check_frames, check_samples, with_mirrored
from workbench.spine.shape_model import ShapeModel

if TYPE_CHECKING:
    from workbench.spine.samples import Samples


class MeanShape(Baseline):
    """The mean of the training corners and of their mirror images, whatever the picture shows."""

    name: ClassVar[str] = "mean-shape"

    def __init__(self, corners: Float[np.ndarray, "17 4 2"]) -> None:
        self.corners = corners

    @classmethod
    def fit(
        cls,
        samples: Samples,
        *,
        seed: int = 0,
        minutes: float | None = None,
        epochs: int | None = None,
        progress: bool = True,
        log: Path | None = None,
    ) -> MeanShape:
        """The mean; nothing but `samples` matters."""
        return cls(with_mirrored(check_samples(samples)).mean(0))

    def predict_frames(self, images: UInt8[Tensor, "n 704 384"]) -> Float[np.ndarray, "n 17 4 2"]:
        """The mean, once an image."""
        return np.repeat(self.corners[None], len(check_frames(images)), axis=0)

    def tensors(self) -> dict[str, Tensor]:
        """The mean corners."""
        return {"corners": torch.from_numpy(self.corners)}

    def extra(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> MeanShape:
        """From the mean corners."""
        return cls(tensors["corners"].numpy().reshape(17, 4, 2))


@dataclass(frozen=True)
class TranslatedMeanShape:
    """Oracle: the mean shape, moved to where the truth lies on average. Told two numbers of the truth."""

    name: ClassVar[str] = "oracle-translated-mean-shape"

    corners: Float[np.ndarray, "17 4 2"]

    @classmethod
    def fit(cls, samples: Samples) -> TranslatedMeanShape:
        """From training samples."""
        return cls(MeanShape.fit(samples).corners)

    def predict_knowing(self, truth: Float[np.ndarray, "n 17 4 2"]) -> Float[np.ndarray, "n 17 4 2"]:
        """The mean shape at the mean position of each truth."""
        there = truth.mean((1, 2), keepdims=True)
        return self.corners - self.corners.mean((0, 1)) + there


@dataclass(frozen=True)
class ModeProjection:
    """Oracle: the truth projected onto the first K shape modes of all 68 corners. Told K numbers of the truth.

    Args:
        model: Model of the normalised corners x1, y1, x2, y2, … (136,), x over 384 and y over 704.
    """

    name: ClassVar[str] = "oracle-mode-projection"

    model: ShapeModel

    @classmethod
    def fit(cls, samples: Samples, modes: int = 20) -> ModeProjection:
        """From training samples and their mirror images.

        Raises:
            InvalidInputError: no modes, or more than the samples span.
        """
        shapes = (with_mirrored(check_samples(samples)) / SCALE).reshape(-1, 136)
        return cls(ShapeModel.fit(shapes, components=modes))

    def predict_knowing(self, truth: Float[np.ndarray, "n 17 4 2"]) -> Float[np.ndarray, "n 17 4 2"]:
        """The nearest shapes of K modes."""
        shapes = (truth / SCALE).reshape(-1, 136)
        return self.model.reconstruct(self.model.project(shapes)).reshape(truth.shape) * SCALE
