"""Corners as heat maps and vectors, what a network's maps are worth against them, and the way back.

A grid of h × w cells covers the whole frame, whatever the input's size; cell (x, y) has its centre at (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.data.vertebrae import VERTEBRAE
from workbench.spine.baselines._heatmap_network import Maps
from workbench.spine.frames import FRAME

#: Standard deviation of a peak in heights of its vertebra, and the least, in cells.
_PEAK, _NARROWEST = 0.25, 0.7
#: Exponents of the focal loss: of the miss, and of the closeness to a peak.
_MISS, _CLOSE = 2, 4


@dataclass(frozen=True)
class Targets:
    """What the maps should be.

    Args:
        heat: 1 at the cell of each centre, a Gaussian around it, (n, h, w).
        cells: Cell (x, y) of each vertebra's centre, (n, 17, 2).
        inside: Whether the centre is in the grid, (n, 17).
        offset: From the cell's centre to the vertebra's, (n, 17, 2).
        vectors: From the vertebra's centre to its corners, (n, 17, 8).
    """

    heat: Float[Tensor, "n h w"]
    cells: Int[Tensor, "n 17 2"]
    inside: Bool[Tensor, "n 17"]
    offset: Float[Tensor, "n 17 2"]
    vectors: Float[Tensor, "n 17 8"]


def encode(corners: Float[Tensor, "n 17 4 2"], grid: tuple[int, int]) -> Targets:
    """Targets on a grid of (height, width) cells, of corners in pixels of the frame."""
    there = (corners + 0.5) * _cells_per_pixel(grid) - 0.5
    centres = there.mean(2)
    last = torch.tensor([grid[1], grid[0]]) - 1
    cells = centres.round().long()
    inside = ((cells >= 0) & (cells <= last)).all(-1)
    cells = cells.clamp(min=torch.zeros_like(last), max=last)
    heights = (there[:, :, 2:].mean(2) - there[:, :, :2].mean(2)).norm(dim=-1)
    heat = _peaks(cells, (_PEAK * heights).clamp_min(_NARROWEST), inside, grid)
    return Targets(heat, cells, inside, centres - cells, (there - centres[:, :, None]).flatten(2))


def decode(maps: Maps) -> Float[Tensor, "n 17 4 2"]:
    """The 17 best peaks as vertebrae, from top to bottom, in pixels of the frame."""
    height, width = maps.heat.shape[1:]
    highest = F.max_pool2d(maps.heat[:, None], 3, 1, 1)[:, 0]
    peaks = torch.where(maps.heat == highest, maps.heat, maps.heat - 1e6)
    where = peaks.flatten(1).topk(VERTEBRAE).indices
    cells = torch.stack([where % width, where // width], -1)
    centres = cells + _at(maps.offset, cells)
    corners = centres[:, :, None] + _at(maps.vectors, cells).unflatten(2, (4, 2))
    order = centres[..., 1].argsort(1)
    corners = corners.gather(1, order[:, :, None, None].expand_as(corners))
    return (corners + 0.5) / _cells_per_pixel((height, width)) - 0.5


def detection_loss(maps: Maps, corners: Float[Tensor, "n 17 4 2"]) -> Float[Tensor, ""]:
    """Focal loss of the heat map, a vertebra, plus mean absolute errors of offsets and vectors in cells."""
    targets = encode(corners, (maps.heat.shape[1], maps.heat.shape[2]))
    inside = targets.inside
    offset = (_at(maps.offset, targets.cells) - targets.offset).abs()[inside]
    vectors = (_at(maps.vectors, targets.cells) - targets.vectors).abs()[inside]
    return _focal(maps.heat, targets.heat) + offset.mean() + vectors.mean()


def _focal(logits: Tensor, target: Tensor) -> Tensor:
    probability = torch.sigmoid(logits)
    peak = target == 1
    hit = (1 - probability) ** _MISS * F.logsigmoid(logits)
    empty = (1 - target) ** _CLOSE * probability**_MISS * F.logsigmoid(-logits)
    return -torch.where(peak, hit, empty).sum() / peak.sum().clamp_min(1)


def _peaks(cells: Tensor, sigma: Tensor, inside: Tensor, grid: tuple[int, int]) -> Tensor:
    """The highest of all vertebrae's Gaussians; separable, so made from rows and columns."""
    x, y = (torch.arange(side, dtype=sigma.dtype) for side in (grid[1], grid[0]))
    spread = 2 * sigma[..., None] ** 2
    across = torch.exp(-((x - cells[..., :1]) ** 2) / spread)
    down = torch.exp(-((y - cells[..., 1:]) ** 2) / spread)
    gaussians = down[..., :, None] * across[..., None, :]
    return (gaussians * inside[..., None, None]).amax(1)


def _at(maps: Float[Tensor, "n c h w"], cells: Int[Tensor, "n k 2"]) -> Float[Tensor, "n k c"]:
    """Values of maps in cells."""
    where = cells[..., 1] * maps.shape[3] + cells[..., 0]
    return maps.flatten(2).gather(2, where[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


def _cells_per_pixel(grid: tuple[int, int]) -> Tensor:
    return torch.tensor([grid[1] / FRAME[1], grid[0] / FRAME[0]])
