"""Bones beside the spine and vessels, drawn as shaded polygons at twice the resolution: ribs, girdles, sacrum, skull.

A sheet is an 8-bit Pillow picture in which 255 stands for `FULL` of attenuation; it is brought to the pixel grid by
averaging 2 × 2. Source: specification, section 7.4.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from workbench.data.phantom.scene import ROWS, Scene, across, down
from workbench.data.phantom.soft import chest_half

#: Attenuation for which a sheet holds 255.
FULL = 1.0

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
        """The sheet as attenuation (rows, columns) float32."""
        small = np.asarray(self._image.reduce(_FINE), dtype=np.float32) * np.float32(FULL / 255)
        return ndimage.gaussian_filter(small, blur, mode="nearest", truncate=2.5)

    def _place(self, points: np.ndarray) -> list[tuple[float, float]]:
        at = (self._scene.pixels(points) + 0.5) * _FINE - 0.5
        return [(float(a), float(b)) for a, b in at]


def draw_skeleton(scene: Scene, rng: np.random.Generator, texture: np.ndarray) -> np.ndarray:
    """Attenuation of ribs, shoulder girdle, pelvis, sacrum, skull and lung vessels, (rows, columns) float32."""
    front, back, rest = Sheet(scene), Sheet(scene), Sheet(scene)
    strength = rng.uniform(0.6, 1.25) * scene.density
    _ribs(scene, rng, front, back, strength)
    _shoulders(scene, rng, rest, strength)
    _vessels(scene, rng, front)
    _pelvis(scene, rng, rest, strength)
    _skull(scene, rng, rest)
    total = back.array(rng.uniform(0.5, 0.9))
    total += front.array(rng.uniform(0.7, 1.3))
    total += rest.array(rng.uniform(0.6, 1.1))
    total *= 1 + np.float32(rng.uniform(0.05, 0.2)) * texture
    return total


def _ribs(scene: Scene, rng: np.random.Generator, front: Sheet, back: Sheet, strength: float) -> None:
    slope = rng.uniform(0.75, 1.3)
    last = 11 if rng.random() < 0.07 else 12
    for k in range(last):
        body = scene.body(k)
        for s in (-1, 1):
            root = (
                body.centre + across(body.tilt) * s * body.upper * 0.42 - down(body.tilt) * body.height * 0.3
            )
            root = root - across(body.tilt) * 12 * np.sin(body.rotation)
            path = _rib_path(scene, rng, k, s, root, slope, body.tilt)
            half = scene.size * rng.uniform(3.6, 4.9) * np.interp(k, [0, 1, 9, 11], [1.15, 1, 1, 0.8])
            amount = strength * rng.uniform(0.85, 1.15)
            split = _RIB_STEPS // 2 + 2
            if k < 10:
                wide = half * np.linspace(1.0, 1.25, len(path) - split + 1)
                front.tube(path[split - 1 :], wide, core=0.10 * amount, wall=0.17 * amount)
            taper = np.linspace(0.85, 1.0, split) if k < 10 else np.linspace(1.0, 0.7, split)
            back.tube(path[:split], half * taper, core=0.19 * amount, wall=0.33 * amount)


_RIB_STEPS = 28


def _rib_path(
    scene: Scene, rng: np.random.Generator, k: int, s: int, root: np.ndarray, slope: float, tilt: float
) -> np.ndarray:
    """A rib from its head: out and down along half an ellipse; the last two are short and steep."""
    middle = float(scene.middle_at(np.array(root[1])))
    reach = max(s * (middle - root[0]) + float(chest_half(scene, min(k + 1.0, 10.5))), 25.0)
    fall = scene.size * slope * np.interp(k, [0, 1, 3, 6, 9, 10, 11], [16, 24, 33, 42, 48, 52, 46])
    fall *= rng.uniform(0.93, 1.07)
    most = np.pi * (0.84 if k < 10 else (0.36, 0.24)[k - 10] * rng.uniform(0.75, 1.1))
    a = np.linspace(0, most, _RIB_STEPS)
    out = reach * np.sin(a)
    hump = scene.size * rng.uniform(2, 7) * np.sin(np.minimum(a * 3, np.pi))
    fallen = fall * (1 - np.cos(a)) - hump
    # The cage is turned by a part of the vertebra's tilt.
    lean = 0.5 * tilt
    points = np.stack(
        [s * out * np.cos(lean) - fallen * np.sin(lean), s * out * np.sin(lean) + fallen], axis=1
    )
    return root + points


def _shoulders(scene: Scene, rng: np.random.Generator, sheet: Sheet, strength: float) -> None:
    """Clavicles and the inner edges of the shoulder blades."""
    size = scene.size
    middle = float(scene.middle_at(np.array(scene.height_of(2.0))))
    at = scene.height_of(rng.uniform(1.8, 3.6))
    climb = rng.uniform(-5, 45)
    for s in (-1, 1):
        a = np.linspace(0, 1, 14)
        x = middle + s * size * (14 + 135 * a)
        y = at - size * (climb * a + 7 * np.sin(2 * np.pi * a)) + rng.normal(0, 4)
        amount = strength * rng.uniform(0.8, 1.2)
        half = size * np.interp(a, [0, 0.15, 0.6, 1], [7, 5, 4.6, 6])
        sheet.tube(np.stack([x, y], 1), half, core=0.20 * amount, wall=0.34 * amount)
        inner = middle + s * scene.girth * size * rng.uniform(66, 95)
        a = np.linspace(0, 1, 10)
        x = inner + s * size * (14 * (a - 0.45) ** 2 * 4 - 4 + 10 * a)
        y = scene.height_of(1.2) + size * a * rng.uniform(95, 125)
        edge = np.stack([x, y], 1)
        far = np.array([[inner + s * 75 * size, y[2]], [inner + s * 45 * size, y[-3]]])[::-1]
        sheet.polygon(np.concatenate([edge, far]), 0.08 * strength)
        sheet.tube(edge, size * 1.8, core=0.15 * strength, wall=0.19 * strength)


def _vessels(scene: Scene, rng: np.random.Generator, sheet: Sheet) -> None:
    """Branching lines from both hila, thinner outward."""
    for s in (-1, 1):
        at = scene.height_of(rng.uniform(5.0, 6.2))
        root = np.array([float(scene.axis_at(np.array(at))) + s * 26 * scene.size, at])
        for _ in range(16):
            angle = rng.uniform(-1.25, 1.35)
            length = rng.uniform(35, 95) * scene.size
            bend = rng.normal(0, 0.25)
            a = np.linspace(0, 1, 6)
            heading = angle + bend * a
            points = root + length * a[:, None] * np.stack([s * np.cos(heading), np.sin(heading)], 1)
            for i in range(5):
                sheet.line(points[i : i + 2], 3.8 * (1 - 0.16 * i), 0.13 * (1 - 0.13 * i))


def _pelvis(scene: Scene, rng: np.random.Generator, sheet: Sheet, strength: float) -> None:
    """Sacrum with its wings and foramina, sacro-iliac lines, iliac wings; hips where the image reaches them."""
    size, wide = scene.size, rng.uniform(0.86, 1.1)
    e, n = across(scene.sacral_tilt), down(scene.sacral_tilt)

    def at(u: np.ndarray | float, v: np.ndarray | float) -> np.ndarray:
        return scene.sacrum + size * (np.multiply.outer(u, e) + np.multiply.outer(v, n))

    for s in (-1, 1):
        crest = np.array(
            [[52, 14], [62, -6], [80, -24], [105, -30], [128, -16], [140, 12], [128, 42], [95, 78], [62, 92]]
        )
        crest = crest * [wide, rng.uniform(0.85, 1.15)] + [0, rng.uniform(-8, 14)]
        smooth = _smooth(crest * [s, 1])
        sheet.polygon(at(smooth[:, 0], smooth[:, 1]), 0.13 * strength)
        rim = at(smooth[: len(smooth) * 3 // 4, 0], smooth[: len(smooth) * 3 // 4, 1])
        sheet.tube(rim, 2.4 * size, core=0.20 * strength, wall=0.27 * strength)
        _hip(sheet, at, s, strength)
    wing = np.array([[0, 0], [24, 0], [38, 5], [54, 14], [56, 30], [47, 55], [30, 78], [12, 100], [0, 106]])
    outline = _smooth(np.concatenate([wing, wing[::-1] * [-1, 1]]))
    sheet.polygon(at(outline[:, 0], outline[:, 1]), 0.24 * strength)
    sheet.line(at(outline[:, 0], outline[:, 1]), 1.3 * size, 0.30 * strength)
    plate = np.linspace(-24, 24, 9)
    for dip in (rng.uniform(5, 13), -rng.uniform(1, 4)):
        arch = dip * np.sqrt(1 - (plate / 24.01) ** 2)
        sheet.line(at(plate, arch), 1.5 * size, 0.38 * strength)
    for row in range(4):
        for s in (-1, 1):
            u, v = s * (21 - 2.2 * row), 22 + 19 * row
            ring = np.linspace(0, 2 * np.pi, 12)
            sheet.polygon(at(u + 4 * np.cos(ring), v + 3.5 * np.sin(ring)), 0.12 * strength)
            sheet.line(at(u + 6 * np.cos(ring[6:]), v + 4 * np.sin(ring[6:])), 1.2 * size, 0.32 * strength)
        sheet.line(
            at(np.array([-13.0, 13.0]), np.array([30.0, 30.0]) + 19 * row), 1.2 * size, 0.30 * strength
        )


def _hip(sheet: Sheet, at, s: int, strength: float) -> None:  # type: ignore[no-untyped-def]
    ring = np.linspace(0, 2 * np.pi, 24)
    sheet.polygon(at(s * (92 + 25 * np.cos(ring)), 135 + 25 * np.sin(ring)), 0.3 * strength)
    neck = np.array([[100, 120], [150, 150], [150, 320], [118, 320], [112, 180], [85, 150]])
    sheet.polygon(at(s * neck[:, 0], neck[:, 1].astype(float)), 0.3 * strength)
    brim = np.array([[55.0, 60], [68, 95], [55, 130], [15, 150]])
    path = _smooth(brim)
    sheet.tube(at(s * path[:, 0], path[:, 1]), 6.0, core=0.2 * strength, wall=0.3 * strength)


def _skull(scene: Scene, rng: np.random.Generator, sheet: Sheet) -> None:
    """Jaw and skull base above C3: only loose images reach them."""
    base = scene.body(-5).centre
    ring = np.linspace(0, 2 * np.pi, 40)
    size = scene.size
    head = base + size * np.stack([72 * np.cos(ring), 92 * np.sin(ring) - 82], 1)
    sheet.polygon(head, 0.55)
    sheet.line(head, 6 * size, 0.75)
    jaw = np.linspace(0.1, np.pi - 0.1, 16)
    path = base + size * np.stack([50 * np.cos(jaw), 28 * np.sin(jaw) + rng.uniform(-16, 3)], 1)
    sheet.tube(path, 8 * size, core=0.3, wall=0.5)


def _smooth(points: np.ndarray, count: int = 6) -> np.ndarray:
    """A curve through the points, linear pieces rounded by corner cutting."""
    for _ in range(2):
        a, b = points[:-1], points[1:]
        mixed = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], mixed, points[-1:]])
    return points


def _normals(points: np.ndarray) -> np.ndarray:
    along = np.gradient(points, axis=0)
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    return np.stack([-along[:, 1], along[:, 0]], axis=1)


def _ink(amount: float) -> int:
    return int(np.clip(round(amount / FULL * 255), 0, 255))
