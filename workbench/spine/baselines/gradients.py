"""Gradient histograms around points: what the ridge cascade sees of an image, without any learning.

A feature map has seven channels: the image gradient's magnitude sorted into six orientations over half a turn (so that
bright on dark and dark on bright count alike), pooled over a cell and divided by its neighbourhood's energy; and the
grey value, less the local mean, over the local deviation. Source: specification, section 9.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import uniform_filter

BINS = 6
CHANNELS = BINS + 1
SIDE = 5
#: Features of one point: a 5×5 grid of seven channels.
POINT_FEATURES = SIDE * SIDE * CHANNELS

#: Keeps flat areas flat: gradients and deviations well below this (in grey values of 0 to 1) fade to zero.
_FLAT = 0.02
#: Neighbourhoods that energy and grey values are normalised over, in cells.
_NEIGHBOURHOOD = 5


@dataclass(frozen=True)
class FeatureMaps:
    """The seven channels of one image, on a grid `shrink` times coarser than its pixels.

    Args:
        values: (7, height, width).
        shrink: Pixels of the image per pixel of the maps.
        step: Distance of neighbouring points of the 5×5 grids, in pixels of the image.
    """

    values: Float[np.ndarray, "7 height width"]
    shrink: int
    step: float

    @classmethod
    def of(cls, image: UInt8[np.ndarray, "height width"], step: float) -> FeatureMaps:
        """Maps for grids of `step` pixels; cells are about as large as the step.

        The image is first reduced so that a cell is four to seven pixels wide. What the last rows and columns lack
        for that is cut off.
        """
        shrink = 2 ** max(0, int(np.log2(step / 3.5)))
        small = _reduce(image, shrink)
        cell = max(1, round(step / shrink))
        return cls(np.concatenate([_orientations(small, cell), _grey(small, cell)[None]]), shrink, step)

    def at(
        self, points: Float[np.ndarray, "points 2"], turned: Float[np.ndarray, " points"] | None = None
    ) -> Float[np.ndarray, "points features"]:
        """Features around points (x, y) in pixels of the image; outside it the border goes on.

        Args:
            points: The points.
            turned: Angle of each point's grid and orientations in radians, clockwise on screen; None for upright.
        """
        grid = np.broadcast_to(_grid(self.step), (len(points), SIDE * SIDE, 2))
        if turned is not None:
            grid = np.einsum("pij,pgj->pgi", _rotations(turned), grid)
        found = self._sample(points[:, None] + grid)
        if turned is not None:
            found[..., :BINS] = _turn_bins(found[..., :BINS], turned)
        return found.reshape(len(points), POINT_FEATURES)

    def _sample(self, points: np.ndarray) -> np.ndarray:
        """Bilinear values at points (…, 2) as (…, 7)."""
        _, height, width = self.values.shape
        last = np.array([width, height]) - 1
        where = np.clip((points + 0.5) / self.shrink - 0.5, 0, last)
        low = np.minimum(where.astype(np.intp), last - 1)
        part = (where - low).astype(np.float32)
        flat = self.values.reshape(CHANNELS, -1)
        corner = low[..., 1] * width + low[..., 0]
        x, y = part[..., 0], part[..., 1]
        upper = flat[:, corner] * (1 - x) + flat[:, corner + 1] * x
        lower = flat[:, corner + width] * (1 - x) + flat[:, corner + width + 1] * x
        return np.moveaxis(upper * (1 - y) + lower * y, 0, -1)


def _reduce(image: np.ndarray, shrink: int) -> np.ndarray:
    """Mean over blocks of shrink × shrink pixels, in grey values of 0 to 1."""
    height, width = (side // shrink * shrink for side in image.shape)
    blocks = image[:height, :width].reshape(height // shrink, shrink, width // shrink, shrink)
    return (blocks.mean((1, 3)) / 255).astype(np.float32)


def _orientations(image: np.ndarray, cell: int) -> np.ndarray:
    """Orientation histograms of cells, divided by the energy of their neighbourhood: (6, height, width)."""
    down, right = np.gradient(image)
    position = (np.arctan2(down, right) * (BINS / np.pi)) % BINS
    magnitude = np.hypot(down, right)
    low = np.minimum(position.astype(np.intp), BINS - 1)
    part = position - low
    maps = np.zeros((BINS, *image.shape), dtype=np.float32)
    np.put_along_axis(maps, low[None], (magnitude * (1 - part))[None], axis=0)
    np.put_along_axis(maps, (low + 1)[None] % BINS, (magnitude * part)[None], axis=0)
    pooled = uniform_filter(maps, (1, cell, cell), mode="nearest")
    energy = uniform_filter((pooled**2).sum(0), _NEIGHBOURHOOD * cell, mode="nearest")
    # Per pixel of the maps, so that a reduced image fades at the same contrast.
    return pooled / np.sqrt(np.maximum(energy, 0) + (_FLAT / cell) ** 2)


def _grey(image: np.ndarray, cell: int) -> np.ndarray:
    """Grey values of cells, less their neighbourhood's mean, over its standard deviation."""
    size = 3 * _NEIGHBOURHOOD * cell
    mean = uniform_filter(image, size, mode="nearest")
    variance = uniform_filter(image**2, size, mode="nearest") - mean**2
    away = uniform_filter(image, cell, mode="nearest") - mean
    return away / np.sqrt(np.maximum(variance, 0) + _FLAT**2)


def _grid(step: float) -> np.ndarray:
    """Offsets (x, y) of the grid's points, row by row."""
    line = (np.arange(SIDE) - SIDE // 2) * step
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Matrices (n, 2, 2) that turn offsets by angles, clockwise on screen."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _turn_bins(histograms: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Histograms (points, grid, 6) as they look from a frame turned by `angles`, clockwise on screen."""
    shift = angles * (BINS / np.pi)
    low = np.floor(shift).astype(np.intp)
    part = (shift - low).astype(np.float32)[:, None, None]
    bins = (np.arange(BINS) + low[:, None])[:, None] % BINS
    first = np.take_along_axis(histograms, bins, axis=-1)
    second = np.take_along_axis(histograms, (bins + 1) % BINS, axis=-1)
    return first * (1 - part) + second * part
