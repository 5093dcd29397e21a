"""Shoulder girdle, pelvis with sacrum, and skull, as far as an image shows them.

Source: specification, section 7.4; the outlines are rough and chosen to look like films.
"""

from __future__ import annotations

import numpy as np

from workbench.data.phantom.scene import Scene, across, down
from workbench.data.phantom.sheet import Sheet, ellipse, smooth

#: Outlines in mm from the middle of the sacrum's upper endplate, right half: iliac wing, sacrum, thigh, pelvic brim.
_ILIUM = np.array(
    [[52, 14], [62, -6], [80, -24], [105, -30], [128, -16], [140, 12], [128, 42], [95, 78], [62, 92]]
)
_SACRUM = np.array([[0, 0], [24, 0], [38, 5], [54, 14], [56, 30], [47, 55], [30, 78], [12, 100], [0, 106]])
_THIGH = np.array([[100.0, 120], [150, 150], [150, 320], [118, 320], [112, 180], [85, 150]])
_BRIM = np.array([[55.0, 60], [68, 95], [55, 130], [15, 150]])


def draw_shoulders(sheet: Sheet, scene: Scene, rng: np.random.Generator, strength: float) -> None:
    """Clavicles and the inner parts of the shoulder blades."""
    middle = float(scene.middle_at(np.array(scene.height_of(2.0))))
    at = float(scene.height_of(rng.uniform(1.8, 3.6)))
    climb = rng.uniform(-5, 45)
    for s in (-1, 1):
        _clavicle(sheet, scene, rng, s, (middle, at), climb, strength)
        _blade(sheet, scene, rng, s, middle, strength)


def _clavicle(
    sheet: Sheet,
    scene: Scene,
    rng: np.random.Generator,
    s: int,
    at: tuple[float, float],
    climb: float,
    strength: float,
) -> None:
    size, a = scene.size, np.linspace(0, 1, 14)
    x = at[0] + s * size * (14 + 135 * a)
    y = at[1] - size * (climb * a + 7 * np.sin(2 * np.pi * a)) + rng.normal(0, 4)
    amount = strength * rng.uniform(0.8, 1.2)
    half = size * np.interp(a, [0, 0.15, 0.6, 1], [7, 5, 4.6, 6])
    sheet.tube(np.stack([x, y], 1), half, core=0.20 * amount, wall=0.34 * amount)


def _blade(
    sheet: Sheet, scene: Scene, rng: np.random.Generator, s: int, middle: float, strength: float
) -> None:
    size, a = scene.size, np.linspace(0, 1, 10)
    inner = middle + s * scene.girth * size * rng.uniform(66, 95)
    x = inner + s * size * (14 * (a - 0.45) ** 2 * 4 - 4 + 10 * a)
    y = scene.height_of(1.2) + size * a * rng.uniform(95, 125)
    edge = np.stack([x, y], 1)
    far = np.array([[inner + s * 45 * size, y[-3]], [inner + s * 75 * size, y[2]]])
    sheet.polygon(np.concatenate([edge, far]), 0.08 * strength)
    sheet.tube(edge, size * 1.8, core=0.15 * strength, wall=0.19 * strength)


def draw_pelvis(sheet: Sheet, scene: Scene, rng: np.random.Generator, strength: float) -> None:
    """Iliac wings and hips, and over them the sacrum with its foramina."""
    wide = rng.uniform(0.86, 1.1)
    for s in (-1, 1):
        crest = _ILIUM * [wide, rng.uniform(0.85, 1.15)] + [0, rng.uniform(-8, 14)]
        outline = _placed(scene, smooth(crest * [s, 1]))
        sheet.polygon(outline, 0.13 * strength)
        rim = outline[: len(outline) * 3 // 4]
        sheet.tube(rim, 2.4 * scene.size, core=0.20 * strength, wall=0.27 * strength)
        _hip(sheet, scene, s, strength)
    _sacrum(sheet, scene, rng, strength)


def _placed(scene: Scene, points: np.ndarray) -> np.ndarray:
    """Points about the sacrum's upper endplate brought into the scene."""
    e, n = across(scene.sacral_tilt), down(scene.sacral_tilt)
    return scene.sacrum + scene.size * (
        np.multiply.outer(points[:, 0], e) + np.multiply.outer(points[:, 1], n)
    )


def _hip(sheet: Sheet, scene: Scene, s: int, strength: float) -> None:
    sheet.polygon(_placed(scene, ellipse((25, 25), 24, (92, 135)) * [s, 1]), 0.3 * strength)
    sheet.polygon(_placed(scene, _THIGH * [s, 1]), 0.3 * strength)
    sheet.tube(_placed(scene, smooth(_BRIM) * [s, 1]), 6.0, core=0.2 * strength, wall=0.3 * strength)


def _sacrum(sheet: Sheet, scene: Scene, rng: np.random.Generator, strength: float) -> None:
    outline = _placed(scene, smooth(np.concatenate([_SACRUM, _SACRUM[::-1] * [-1, 1]])))
    sheet.polygon(outline, 0.24 * strength)
    sheet.line(outline, 1.3 * scene.size, 0.30 * strength)
    plate = np.linspace(-24, 24, 9)
    for dip in (rng.uniform(5, 13), -rng.uniform(1, 4)):
        arch = dip * np.sqrt(1 - (plate / 24.01) ** 2)
        sheet.line(_placed(scene, np.stack([plate, arch], 1)), 1.5 * scene.size, 0.38 * strength)
    for row in range(4):
        _segment(sheet, scene, row, strength)


def _segment(sheet: Sheet, scene: Scene, row: int, strength: float) -> None:
    """A pair of foramina and the line below them where two sacral bodies fused."""
    thin = 1.2 * scene.size
    for s in (-1, 1):
        middle = s * (21 - 2.2 * row), 22.0 + 19 * row
        sheet.polygon(_placed(scene, ellipse((4, 3.5), 12, middle)), 0.12 * strength)
        sheet.line(_placed(scene, ellipse((6, 4), 12, middle)[6:]), thin, 0.32 * strength)
    fused = np.array([[-13.0, 30 + 19 * row], [13.0, 30 + 19 * row]])
    sheet.line(_placed(scene, fused), thin, 0.30 * strength)


def draw_skull(sheet: Sheet, scene: Scene, rng: np.random.Generator) -> None:
    """Skull and jaw above C3: a tight image shows the chin at most."""
    base, size = scene.body(-5).centre, scene.size
    head = base + size * ellipse((72, 92), 40, (0, -82))
    sheet.polygon(head, 0.55)
    sheet.line(head, 6 * size, 0.75)
    a = np.linspace(0.1, np.pi - 0.1, 16)
    jaw = base + size * np.stack([50 * np.cos(a), 28 * np.sin(a) + rng.uniform(-16, 3)], 1)
    sheet.tube(jaw, 8 * size, core=0.3, wall=0.5)
