"""A coordinate system for each vertebra, made from the centres alone: along the spine, across it, one spacing long.

Source: specification, section 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LocalFrames:
    """Origins, axes and units of seventeen local coordinate systems an image.

    Args:
        origin: (n, 17, 2): the centres.
        across: (n, 17, 2): unit vectors to the right, across the spine.
        along: (n, 17, 2): unit vectors down the spine.
        unit: (n, 17): mean distance to the neighbouring centres in pixels.
    """

    origin: Float[Tensor, "n 17 2"]
    across: Float[Tensor, "n 17 2"]
    along: Float[Tensor, "n 17 2"]
    unit: Float[Tensor, "n 17"]

    @classmethod
    def of(cls, centres: Float[Tensor, "n 17 2"]) -> LocalFrames:
        """Local frames of centres: the axis is the central difference, one-sided at T1 and L5."""
        steps = centres[:, 1:] - centres[:, :-1]
        first, last = steps[:, :1], steps[:, -1:]
        before, after = torch.cat([first, steps], 1), torch.cat([steps, last], 1)
        lengths = steps.norm(dim=-1)
        unit = (torch.cat([lengths[:, :1], lengths], 1) + torch.cat([lengths, lengths[:, -1:]], 1)) / 2
        along = before + after
        along = along / along.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        across = torch.stack([along[..., 1], -along[..., 0]], -1)
        return cls(centres, across, along, unit.clamp_min(1.0))

    def to_image(self, local: Float[Tensor, "n 17 ... 2"]) -> Float[Tensor, "n 17 ... 2"]:
        """Local coordinates (across, along), in units, as points of the image."""
        origin, across, along, unit = self._like(local)
        return origin + unit * (local[..., :1] * across + local[..., 1:] * along)

    def to_local(self, points: Float[Tensor, "n 17 ... 2"]) -> Float[Tensor, "n 17 ... 2"]:
        """The inverse of `to_image`."""
        origin, across, along, unit = self._like(points)
        offset = (points - origin) / unit
        return torch.stack([(offset * across).sum(-1), (offset * along).sum(-1)], -1)

    def _like(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Each part with as many dimensions as `values`, to be combined with it."""
        middle = (1,) * (values.ndim - 3)
        parts = [
            part.reshape(*part.shape[:2], *middle, -1) for part in (self.origin, self.across, self.along)
        ]
        return parts[0], parts[1], parts[2], self.unit.reshape(*self.unit.shape, *middle, 1)
