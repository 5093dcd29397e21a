"""The networks of the stages: small, without knowledge of shapes, cascades or images' sizes.

Layer counts and widths are a design of ours (specification, sections 2.3 and 2.4: the paper's own could not be read).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.vertebrae import VERTEBRAE

#: Added to the standard deviation of a patch's greys, so that empty patches do not become noise.
_FLOOR = 0.02
#: Side of the neighbourhood, in pixels of the small whole image, over which its greys are evened out.
_NEIGHBOURHOOD = 25


class GlobalNetwork(nn.Module):
    """The whole frame, small, to numbers: a residual network whose last map is kept as a grid, since place matters.

    Args:
        size: Height and width of its input; multiples of 16.
        widths: Channels of its four levels.
        outputs: How many numbers.
    """

    def __init__(self, size: tuple[int, int], widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        inputs = [2, *widths[:-1]]
        self.levels = nn.Sequential(*[_Residual(a, b) for a, b in zip(inputs, widths, strict=True)])
        self.squeeze = nn.Conv2d(widths[-1], 48, 1)
        cells = (size[0] // 16) * (size[1] // 16)
        self.head = nn.Sequential(
            nn.Linear(48 * cells, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, outputs)
        )
        _start_small(self.head[-1])

    def forward(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n outputs"]:
        """Numbers for images with greys in [0, 1]."""
        channels = torch.cat([standardised(images), evened(images)], 1)
        with fast_convolutions(self.training):
            maps = self.squeeze(self.levels(channels.contiguous(memory_format=torch.channels_last)))
        return self.head(maps.float().flatten(1))


class PatchEncoder(nn.Module):
    """Patches to features: a strided convolution, then some with pooling, then a linear layer on the whole last map.

    Args:
        size: Height and width of a patch; halved by each convolution.
        widths: Channels of the convolutions.
        outputs: Features a patch.
    """

    def __init__(self, size: tuple[int, int], widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        inputs = [1, *widths[:-1]]
        first, *others = zip(inputs, widths, strict=True)
        self.convolutions = nn.Sequential(_strided(*first), *[_pooled(a, b) for a, b in others])
        cells = (size[0] >> len(widths)) * (size[1] >> len(widths))
        self.features = nn.Linear(widths[-1] * cells + 2, outputs)

    def forward(self, patches: Float[Tensor, "n h w"]) -> Float[Tensor, "n outputs"]:
        """Features of patches with greys in [0, 1]; their mean and spread are features too."""
        spread, mean = torch.std_mean(patches, (1, 2), correction=0)
        normalised = (patches - mean[:, None, None]) / (spread[:, None, None] + _FLOOR)
        with fast_convolutions(self.training):
            maps = self.convolutions(normalised[:, None].contiguous(memory_format=torch.channels_last))
        return F.relu(self.features(torch.cat([maps.float().flatten(1), mean[:, None], spread[:, None]], 1)))


class PointsNetwork(nn.Module):
    """Patches at all points at once to numbers: each is encoded alone, then all are looked at together.

    Args:
        points: How many points.
        size: Height and width of a patch.
        widths: Channels of the encoder.
        outputs: How many numbers.
    """

    def __init__(self, points: int, size: tuple[int, int], widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.encoder = PatchEncoder(size, widths, widths[-1])
        inputs = points * (widths[-1] + 2)
        self.head = nn.Sequential(nn.Linear(inputs, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, outputs))
        _start_small(self.head[-1])

    def forward(
        self, patches: Float[Tensor, "n points h w"], where: Float[Tensor, "n points 2"]
    ) -> Float[Tensor, "n outputs"]:
        """Numbers for patches and the places, standardised, at which they were cut out."""
        features = self.encoder(patches.flatten(0, 1)).reshape(*patches.shape[:2], -1)
        return self.head(torch.cat([features, where], -1).flatten(1))


class VertebraNetwork(nn.Module):
    """Patches of each vertebra to numbers for it: one encoder for all levels, then a look at the neighbours.

    Neighbouring vertebrae look alike and tilt alike, so each is judged with the features of two above and two below.
    That is ours; with ``neighbours=False`` each vertebra is judged alone, as in the group's later code.

    Args:
        patches: Patches a vertebra.
        size: Height and width of a patch.
        widths: Channels of the encoder.
        outputs: Numbers a vertebra.
        neighbours: Whether to look at them.
    """

    def __init__(
        self,
        patches: int,
        size: tuple[int, int],
        widths: Sequence[int],
        outputs: int,
        neighbours: bool = True,
    ) -> None:
        super().__init__()
        features = 128 // patches
        self.encoder = PatchEncoder(size, widths, features)
        self.level = nn.Embedding(VERTEBRAE, 8)
        reach = 3 if neighbours else 1
        self.head = nn.Sequential(
            nn.Conv1d(patches * features + 16, 128, reach, padding=reach // 2),
            nn.ReLU(),
            nn.Conv1d(128, outputs, reach, padding=reach // 2),
        )
        _start_small(self.head[-1])

    def forward(
        self, patches: Float[Tensor, "n 17 patches h w"], where: Float[Tensor, "n 17 8"]
    ) -> Float[Tensor, "n 17 outputs"]:
        """Numbers for the patches of each vertebra and its corners, standardised."""
        features = self.encoder(patches.flatten(0, 2)).reshape(*patches.shape[:2], -1)
        level = self.level.weight.expand(len(patches), -1, -1)
        joined = torch.cat([features, where, level], -1)
        return self.head(joined.transpose(1, 2)).transpose(1, 2)


def standardised(images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Greys with mean 0 and standard deviation 1 in each image."""
    spread, mean = torch.std_mean(images, (2, 3), correction=0, keepdim=True)
    return (images - mean) / (spread + _FLOOR)


def evened(images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Greys with mean 0 and standard deviation 1 in each neighbourhood: what is left whatever the exposure."""
    side, half = _NEIGHBOURHOOD, _NEIGHBOURHOOD // 2

    def mean(values: Tensor) -> Tensor:  # down and then across: a box is the product of two lines
        down = F.avg_pool2d(values, (side, 1), 1, (half, 0), count_include_pad=False)
        return F.avg_pool2d(down, (1, side), 1, (0, half), count_include_pad=False)

    local = mean(images)
    variance = (mean(images**2) - local**2).clamp_min(0)
    return (images - local) / (variance.sqrt() + _FLOOR)


def fast_convolutions(training: bool) -> AbstractContextManager[object]:
    """Bfloat16 in training, on processors that multiply it natively: almost twice as fast, and no worse here.

    Predictions are always made in single precision.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=training and _multiplies_bfloat16())


@cache
def _multiplies_bfloat16() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text(encoding="utf-8", errors="replace")


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.norm1, self.norm2 = nn.GroupNorm(8, outputs), nn.GroupNorm(8, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.first(x)))
        return F.relu(self.norm2(self.second(y)) + self.shortcut(F.avg_pool2d(x, 2)))


def _strided(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 5, 2, 2, bias=False), nn.GroupNorm(4, outputs), nn.ReLU(inplace=True)
    )


def _pooled(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


def _start_small(layer: nn.Module) -> None:
    """Let a stage begin by moving nothing much."""
    assert isinstance(layer, nn.Linear | nn.Conv1d)
    nn.init.normal_(layer.weight, std=1e-3)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
