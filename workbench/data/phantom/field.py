"""The coarse grid of the soft layers: every second pixel, with the body's lines on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from workbench.data.phantom.scene import ROWS, Scene

#: Pixels of the image per step of the grid.
STEP = 2

#: Half-widths of the chest at the ribs' levels T1 to T12 and of the waist and hips below, mm.
_CHEST_LEVELS = np.array([0.0, 1, 2, 3, 5, 7, 9, 11, 12.5, 14, 16, 18, 22])
_CHEST = np.array([58.0, 78, 93, 104, 118, 125, 127, 124, 116, 112, 122, 138, 150])


@dataclass(frozen=True)
class Field:
    """Positions on the grid.

    Args:
        scene: Where things lie.
        y: Heights of the rows in mm, (rows, 1).
        x: Positions of the columns in mm, (1, columns).
        level: Level of each row on the spine, (rows, 1).
        axis: x of the spine in each row, (rows, 1).
        middle: x of the trunk's middle in each row, (rows, 1).
        noise: Smooth noise of SD 1, (rows, columns).
    """

    scene: Scene
    y: np.ndarray
    x: np.ndarray
    level: np.ndarray
    axis: np.ndarray
    middle: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(cls, scene: Scene, noise: np.ndarray) -> Field:
        """The grid of a scene; `noise` must cover it and may be larger."""
        y, x = scene.rows_mm(STEP), scene.columns_mm(STEP)
        noise = noise[: y.shape[0], : x.shape[1]]
        return cls(scene, y, x, scene.level_at(y), scene.axis_at(y), scene.middle_at(y), noise)

    def empty(self) -> np.ndarray:
        """Zeros on the grid, float32."""
        return np.zeros((self.y.shape[0], self.x.shape[1]), np.float32)


def enlarge(small: np.ndarray, columns: int) -> np.ndarray:
    """A map on the grid brought to the image's pixels, (rows, columns)."""
    image = Image.fromarray(np.ascontiguousarray(small, dtype=np.float32))
    wide = image.resize((small.shape[1] * STEP, ROWS), Image.Resampling.BICUBIC)
    return np.asarray(wide)[:, :columns].copy()


def chest_half(scene: Scene, level: np.ndarray | float) -> np.ndarray:
    """Half-width of the rib cage, waist or hips at a level, mm."""
    wide = np.interp(level, _CHEST_LEVELS, _CHEST) * scene.girth * scene.size
    return np.asarray(wide, dtype=np.float32)
