"""What a cascade leaves on held-out radiographs, and starts drawn from it for the next stage to learn on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.spine.stages import denormalise, normalise

#: Residuals are a little larger in training than they were held out: radiographs of other sources are harder.
INFLATION = 1.15
#: Two residuals are mixed at random up to this angle: new ones of the same covariance.
_MIX = 0.6


@dataclass(frozen=True)
class Residuals:
    """What the cascade so far leaves on held-out radiographs: points and local corners, as errors to be corrected.

    Args:
        points: (m, d) in normalised units.
        corners: (m, 17, 8) in local units; None before the second step.
    """

    points: Tensor
    corners: Tensor | None = None

    def draw(self, count: int, generator: torch.Generator) -> Residuals:
        """Mixtures of two at a time, drawn with replacement."""
        first, second = torch.randint(len(self.points), (2, count), generator=generator)
        angle = torch.rand(count, generator=generator) * _MIX
        points = _mixed(self.points[first], self.points[second], angle)
        if self.corners is None:
            return Residuals(points)
        return Residuals(points, _mixed(self.corners[first], self.corners[second], angle))


def started(truth: Float[Tensor, "n 17 4 2"], drawn: Residuals) -> Float[Tensor, "n 17 2"]:
    """Centres as the first step may leave them: the truth and a residual, in pixels of the frame."""
    return denormalise(normalise(truth.mean(2)) - drawn.points * INFLATION)


def _mixed(first: Tensor, second: Tensor, angle: Tensor) -> Tensor:
    angle = angle.reshape(-1, *[1] * (first.ndim - 1))
    return first * angle.cos() + second * angle.sin()
