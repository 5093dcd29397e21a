"""What tests of the cascade share: settings of few steps, spines in the frame, networks that say what we want."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.phantom import draw_geometry
from workbench.spine.network import CascadeNetwork
from workbench.spine.settings import CascadeSettings

FEW_STEPS = {
    "batch": 4,
    "corner_batch": 2,
    "global_steps": 2,
    "point_steps": 2,
    "crop_steps": 2,
    "patch_steps": 2,
}


def settings(**changes: Any) -> CascadeSettings:
    """Settings of a cascade that trains in a second or two."""
    return CascadeSettings(**{**FEW_STEPS, **changes})


def drawn_spines(count: int, seed: int = 0) -> np.ndarray:
    """Corners (count, 17, 4, 2) of drawn spines, laid into the frame as they lie in tight crops of films."""
    generator = np.random.default_rng(seed)
    return np.stack([_in_frame(draw_geometry(generator).corners, generator) for _ in range(count)])


def _in_frame(corners: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    centres = corners.mean(1)
    arc = np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()
    scale = (610 + 17 * generator.standard_normal()) / arc
    middle = (0.487 + 0.054 * generator.standard_normal()) * 384
    moved = (corners - centres[0]) * scale
    return moved + np.array([middle - moved[..., 0].mean(), 0.064 * 704])


def lively(network: CascadeNetwork, strength: float = 0.015) -> CascadeNetwork:
    """A copy whose stages move points by pixels, each image's in its own way; with strength 0 by nothing.

    Its mean vertebrae are symmetric, as those of many radiographs are.
    """
    network = deepcopy(network)
    means = network.means.reshape(17, 4, 2)
    network.means = ((means + means[:, [1, 0, 3, 2]] * torch.tensor([-1.0, 1.0])) / 2).flatten(1)
    for stage in network.corner_stages:
        stage.means = network.means
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for stage in [*network.centre_stages, *network.corner_stages]:
            last = stage.network.head[-1]
            last.weight.copy_(strength * torch.randn(last.weight.shape, generator=generator))
            last.bias.zero_()
    return network


class Says(nn.Module):
    """In place of a stage's network: answers what a function makes of its inputs."""

    def __init__(self, answer: Callable[..., Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.answer(*inputs)
