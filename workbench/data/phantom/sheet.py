"""A canvas for bones and metal: shaded polygons at twice the resolution, averaged to the pixel grid."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from workbench.data.phantom.scene import ROWS, Scene

#: A sheet is an 8-bit picture in which 255 stands for an attenuation of 1.
_WHITE = 255

_FINE = 2


class Sheet:
    """A canvas in millimetres on which later shapes cover earlier ones.

    Example:
        >>> sheet = Sheet(scene); sheet.tube(points, 5.0, core=0.1, wall=0.2); sheet.array().shape
        (704, 290)
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._image = Image.new("L", (scene.columns * _FINE, ROWS * _FINE), 0)
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: np.ndarray, amount: float) -> None:
        """Fill a polygon (n, 2)."""
        self._draw.polygon(self._place(points), fill=_ink(amount))

    def line(self, points: np.ndarray, width: float, amount: float) -> None:
        """Draw a line of a width in mm."""
        wide = max(1, round(width / self._scene.pitch * _FINE))
        self._draw.line(self._place(points), fill=_ink(amount), width=wide, joint="curve")

    def tube(self, points: np.ndarray, half: float | np.ndarray, *, core: float, wall: float) -> None:
        """A bone along a polyline: a wall of about 1 mm that is bright at its rims, rounded inside."""
        side = _normals(points) * np.broadcast_to(half, len(points))[:, None]
        inner = np.clip(1 - 1.3 / np.maximum(half, 2.0), 0.3, 0.9)
        bands = ((1.0, 0.75 * wall), (0.94, wall), (inner, 0.55 * wall + 0.45 * core), (0.6 * inner, core))
        for share, amount in bands:
            f = np.broadcast_to(share, len(points))[:, None] * side
            self.polygon(np.concatenate([points + f, (points - f)[::-1]]), amount)

    def array(self, blur: float = 0.5) -> np.ndarray:
        """The sheet as attenuation (rows, columns) float32, softened by `blur` pixels."""
        small = np.asarray(self._image.reduce(_FINE), dtype=np.float32) * np.float32(1 / _WHITE)
        return ndimage.gaussian_filter(small, blur, mode="nearest", truncate=2.5)

    def _place(self, points: np.ndarray) -> list[tuple[float, float]]:
        at = (self._scene.pixels(points) + 0.5) * _FINE - 0.5
        return [(float(a), float(b)) for a, b in at]


def smooth(points: np.ndarray) -> np.ndarray:
    """A polyline (n, 2) with its corners cut twice; the ends stay."""
    for _ in range(2):
        a, b = points[:-1], points[1:]
        mixed = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], mixed, points[-1:]])
    return points


def ellipse(radii: tuple[float, float], count: int, middle: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Points (count, 2) around an ellipse."""
    angle = np.linspace(0, 2 * np.pi, count)
    return np.stack([middle[0] + radii[0] * np.cos(angle), middle[1] + radii[1] * np.sin(angle)], 1)


def _normals(points: np.ndarray) -> np.ndarray:
    along = np.gradient(points, axis=0)
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    return np.stack([-along[:, 1], along[:, 0]], axis=1)


def _ink(amount: float) -> int:
    return int(np.clip(round(amount * _WHITE), 0, _WHITE))
