"""Looking at images at given points: pyramids, sampling, and random views that cost nothing until they are looked at.

Points are (x, y) in pixels of the frame, whatever the level of the pyramid. `RandomViews` move, turn, scale and flip
images and change their greys, not by making new images but by changing where and how they are sampled: a stage that
looks at seventeen small patches pays for seventeen small patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from workbench.spine.frames import FRAME

#: Each level of a pyramid is half the size of the one before; level l shows 2^l frame pixels as one.
LEVELS = 3


@dataclass(frozen=True)
class Pyramid:
    """Images in the frame at full, half and quarter size, (n, h, w) each, uint8."""

    levels: tuple[UInt8[Tensor, "n _h _w"], ...]

    @classmethod
    def of(cls, images: UInt8[Tensor, "n 704 384"]) -> Pyramid:
        """The pyramid of images, by averaging; a thousand images take a third more than themselves."""
        levels = [images]
        for _ in range(LEVELS - 1):
            halves = [
                F.avg_pool2d(part[:, None].float(), 2).round().to(torch.uint8)
                for part in levels[-1].split(64)
            ]
            levels.append(torch.cat(halves)[:, 0])
        return cls(tuple(levels))

    def __len__(self) -> int:
        return len(self.levels[0])

    def __getitem__(self, chosen: Tensor) -> Pyramid:
        return Pyramid(tuple(level[chosen] for level in self.levels))

    def sample(self, points: Float[Tensor, "n ... 2"], spacing: float) -> Float[Tensor, "n ..."]:
        """Greys in [0, 1] at points of the frame, bilinear, beyond the border as on it.

        Args:
            points: Where, one set an image.
            spacing: Distance between neighbouring points in frame pixels, which chooses the level.
        """
        level = min(LEVELS - 1, max(0, round(math.log2(max(spacing, 1e-6)))))
        return sample(self.levels[level][:, None].float().div_(255), points)


def sample(images: Float[Tensor, "n 1 _h _w"], points: Float[Tensor, "n ... 2"]) -> Float[Tensor, "n ..."]:
    """Greys of images, which show the whole frame at any size, at points of the frame."""
    size = torch.tensor([FRAME[1], FRAME[0]], dtype=points.dtype, device=points.device)
    grid = (points + 0.5) * 2 / size - 1
    flat = grid.flatten(1, -2)[:, None]
    values = F.grid_sample(images, flat, mode="bilinear", padding_mode="border", align_corners=False)
    return values.reshape(points.shape[:-1])


def lattice(height: int, width: int) -> Float[Tensor, "height width 2"]:
    """Points (x, y) of a patch with sides from −½ to ½, at the centres of its pixels."""
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = (torch.arange(width) + 0.5) / width - 0.5
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)


def whole_frame(height: int, width: int) -> Float[Tensor, "height width 2"]:
    """Points of the frame seen as an image of height × width pixels."""
    return (lattice(height, width) + 0.5) * torch.tensor([FRAME[1], FRAME[0]]) - 0.5
