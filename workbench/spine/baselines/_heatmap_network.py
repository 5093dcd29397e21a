"""The heat-map detector's network: a residual encoder, a decoder up to a quarter of the input, three heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from workbench.spine.networks import evened, fast_convolutions, standardised

#: A heat map starts at this probability everywhere, so that the many empty cells don't swamp the first steps.
_PRIOR = 0.1
_GROUPS = 8


@dataclass(frozen=True)
class Maps:
    """What the network says of each cell of a grid, a quarter of the input's size.

    Args:
        heat: Logit of a vertebra's centre being in the cell, (n, h, w).
        offset: Where in the cell, (x, y) from its centre, in cells, (n, 2, h, w).
        vectors: From a vertebra's centre to its corners TL, TR, BL, BR, (x, y), in cells, (n, 8, h, w).
    """

    heat: Float[Tensor, "n h w"]
    offset: Float[Tensor, "n 2 h w"]
    vectors: Float[Tensor, "n 8 h w"]


class HeatmapNetwork(nn.Module):
    """Encoder, decoder and heads.

    Args:
        widths: Channels of the encoder's levels, at 1/4, 1/8, 1/16 and 1/32 of the input.
        blocks: Residual blocks of each level.
        head_width: Channels within the heads.
        vector_side: Side of the convolutions of the head that gives vectors.
    """

    def __init__(
        self, widths: Sequence[int], blocks: Sequence[int], head_width: int, vector_side: int
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(2, widths[0], 7, stride=2), nn.MaxPool2d(3, 2, 1))
        inputs = [widths[0], *widths[:-1]]
        self.levels = nn.ModuleList(
            _level(a, b, count, stride=1 if i == 0 else 2)
            for i, (a, b, count) in enumerate(zip(inputs, widths, blocks, strict=True))
        )
        self.merges = nn.ModuleList(_Merge(below, here) for here, below in pairwise(widths))
        self.heat = _head((widths[0], head_width, 1), (3, 1), start=-math.log(1 / _PRIOR - 1))
        self.offset = _head((widths[0], head_width, 2), (3, 1))
        self.vectors = _head((widths[0], head_width, 8), (vector_side, vector_side))

    def forward(self, images: Float[Tensor, "n 1 h w"]) -> Maps:
        """Maps of images with greys in [0, 1]."""
        channels = torch.cat([standardised(images), evened(images)], 1)
        with fast_convolutions(self.training):
            maps = self._decode(self._encode(channels.contiguous(memory_format=torch.channels_last)))
            heat, offset, vectors = self.heat(maps), self.offset(maps), self.vectors(maps)
        return Maps(heat[:, 0].float(), offset.float(), vectors.float())

    def _encode(self, images: Tensor) -> list[Tensor]:
        found = [self.stem(images)]
        for level in self.levels:
            found.append(level(found[-1]))
        return found[1:]

    def _decode(self, levels: list[Tensor]) -> Tensor:
        maps = levels[-1]
        for here, merge in zip(levels[-2::-1], reversed(self.merges), strict=True):
            maps = merge(maps, here)
        return maps


class _Merge(nn.Module):
    """The coarser level, enlarged, beside the finer one."""

    def __init__(self, below: int, here: int) -> None:
        super().__init__()
        self.enlarged, self.both = _convolution(below, here), _convolution(2 * here, here, 1)

    def forward(self, below: Tensor, here: Tensor) -> Tensor:
        larger = F.interpolate(below, here.shape[-2:], mode="bilinear", align_corners=False)
        return self.both(torch.cat([self.enlarged(larger), here], 1))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, stride=stride)
        self.second = nn.Sequential(
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, outputs)
        )
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


def _level(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    others = [_Block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(_Block(inputs, outputs, stride), *others)


def _convolution(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False),
        nn.GroupNorm(_GROUPS, outputs),
        nn.ReLU(inplace=True),
    )


def _head(widths: tuple[int, int, int], sides: tuple[int, int], start: float = 0.0) -> nn.Sequential:
    """Two convolutions; the last one's constant is `start`."""
    first, last = (
        nn.Conv2d(inputs, outputs, side, padding=side // 2)
        for (inputs, outputs), side in zip(pairwise(widths), sides, strict=True)
    )
    nn.init.constant_(last.bias, start)  # type: ignore[arg-type]
    return nn.Sequential(first, nn.ReLU(inplace=True), last)
