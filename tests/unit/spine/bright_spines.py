"""Spines so plain that little training finds them: bright quadrangles on dark ground, in the frame."""

from __future__ import annotations

import numpy as np
import torch
from skimage.draw import polygon

from workbench.data.phantom import draw_geometry
from workbench.spine.frames import FRAME
from workbench.spine.samples import Samples

#: Corners in the order in which they go round a vertebra.
_ROUND = [0, 1, 3, 2]


def bright_spines(count: int, seed: int = 0) -> Samples:
    """Drawn spines of different sizes and places, a quadrangle a vertebra."""
    rng = np.random.default_rng(seed)
    corners = np.stack([_in_frame(draw_geometry(rng).corners, rng) for _ in range(count)])
    images = np.stack([_draw(one, rng) for one in corners])
    sizes = torch.tensor([FRAME] * count)
    return Samples(torch.from_numpy(images), torch.from_numpy(corners).float(), sizes)


def _in_frame(corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    centres = corners.mean(1)
    scale = rng.uniform(560, 620) / (centres[-1, 1] - centres[0, 1])
    place = np.array([rng.uniform(170, 215), rng.uniform(40, 60)])
    middle = np.array([centres[:, 0].mean(), centres[0, 1]])
    return (corners - middle) * scale + place


def _draw(corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = rng.normal(40, 6, FRAME)
    for vertebra in corners[:, _ROUND]:
        image[polygon(vertebra[:, 1], vertebra[:, 0], FRAME)] += 110
    return image.clip(0, 255).astype(np.uint8)


def mean_distance(found: np.ndarray, samples: Samples) -> float:
    """Mean distance of corners in pixels of the frame."""
    return float(np.linalg.norm(found - samples.corners.numpy(), axis=-1).mean())
