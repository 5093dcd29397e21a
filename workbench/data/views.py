"""Augmented views of a drawing: scale, rotation, shift, mirror, and a background of colour and texture.

A view is a new image of the same drawing, as if it had been pasted on another page. Every view is a pure function
of the drawing and a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from workbench.errors import InvalidInputError


@dataclass(frozen=True)
class ViewSettings:
    """How far a view may go from the drawing.

    Args:
        scale: Smallest and largest size relative to the drawing.
        rotation: Largest angle in degrees, either way.
        shift: Largest shift as a fraction of the image side, either way.
        mirror: Probability of a left-right flip.
        plain: Probability of a plain white background; the rest are coloured, half of those textured.
    """

    scale: tuple[float, float] = (0.6, 1.1)
    rotation: float = 25.0
    shift: float = 0.12
    mirror: float = 0.5
    plain: float = 0.3

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise InvalidInputError(f"scale {self.scale} must be 0 < low <= high, for example (0.6, 1.1)")
        for name in ("mirror", "plain"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(
                    f"{name} {getattr(self, name)} is a probability and must be in [0, 1]"
                )


def augmented_views(
    pixels: UInt8[np.ndarray, "batch size size 4"], seed: int, settings: ViewSettings | None = None
) -> Float[Tensor, "batch 3 size size"]:
    """One view of each RGBA drawing, in [0, 1]; the same seed gives the same views.

    Example:
        >>> augmented_views(emoji.drawings("noto")[:4], seed=0).shape
        torch.Size([4, 3, 112, 112])
    """
    settings = settings or ViewSettings()
    generator = torch.Generator().manual_seed(seed)
    rgba = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
    colour, alpha = rgba[:, :3], rgba[:, 3:]
    # Colours are warped premultiplied, so that nothing bleeds in from the transparent surround.
    warped = _warp(torch.cat([colour * alpha, alpha], dim=1), settings, generator)
    colour, alpha = warped[:, :3], warped[:, 3:]
    return (colour + (1 - alpha) * _backgrounds(len(rgba), rgba.shape[-1], settings, generator)).clamp(0, 1)


def _uniform(generator: torch.Generator, n: int, low: float, high: float) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _warp(rgba: Tensor, settings: ViewSettings, generator: torch.Generator) -> Tensor:
    n = len(rgba)
    scale = _uniform(generator, n, *settings.scale)
    angle = torch.deg2rad(_uniform(generator, n, -settings.rotation, settings.rotation))
    flip = 1 - 2 * (torch.rand(n, generator=generator) < settings.mirror).float()
    shift = _uniform(generator, 2 * n, -2 * settings.shift, 2 * settings.shift).view(n, 2)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # affine_grid maps output to input coordinates, both in [-1, 1].
    rows = torch.stack([torch.stack([cos * flip, sin * flip], 1), torch.stack([-sin, cos], 1)], 1)
    theta = torch.cat([rows, -(rows @ shift[:, :, None])], dim=2)
    grid = F.affine_grid(theta, list(rgba.shape), align_corners=False)
    return F.grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _backgrounds(n: int, size: int, settings: ViewSettings, generator: torch.Generator) -> Tensor:
    colour = torch.rand(n, 3, 1, 1, generator=generator)
    # Texture: smooth noise at a random coarseness, tinted, over the colour.
    texture = torch.empty(n, 3, size, size)
    for i, cells in enumerate(torch.randint(2, 17, (n,), generator=generator).tolist()):
        noise = torch.rand(1, 3, cells, cells, generator=generator)
        texture[i] = F.interpolate(noise, size=(size, size), mode="bilinear", align_corners=False)[0]
    strength = _uniform(generator, n, 0.15, 0.6) * (torch.rand(n, generator=generator) < 0.5)
    strength = strength.view(n, 1, 1, 1)
    background = colour * (1 - strength) + texture * strength
    plain = (torch.rand(n, generator=generator) < settings.plain).view(n, 1, 1, 1)
    return torch.where(plain, torch.ones_like(background), background)
