"""Soft tissue and air in the attenuation domain, drawn on every second pixel: trunk, neck, lungs, heart, bowel.

Source: specification, section 7.4. Profiles run along the spine's levels (0 = T1, 16 = L5).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from workbench.data.phantom.scene import ROWS, Scene
from workbench.data.phantom.shapes import dome, sigmoid

#: Attenuation per mm of soft tissue, and of lung below it. Source: specification, section 7.4.
_WATER = 0.0193
_LUNG = 0.0143

#: Half-widths of the chest at the ribs' levels T1 to T12 and of the waist and hips below, mm.
CHEST_LEVELS = np.array([0.0, 1, 2, 3, 5, 7, 9, 11, 12.5, 14, 16, 18, 22])
CHEST = np.array([58.0, 78, 93, 104, 118, 125, 127, 124, 116, 112, 122, 138, 150])

_STEP = 2


def draw_soft(scene: Scene, rng: np.random.Generator, noise: np.ndarray) -> np.ndarray:
    """Attenuation of all soft tissue, (rows, columns) float32.

    Args:
        scene: Where things lie.
        rng: Source of all randomness.
        noise: Smooth noise of SD 1, at least (rows // 2, (columns + 1) // 2).
    """
    y, x = scene.rows_mm(_STEP), scene.columns_mm(_STEP)
    noise = noise[: y.shape[0], : x.shape[1]]
    total = _trunk(scene, rng, y, x)
    total -= np.minimum(_lungs(scene, rng, y, x, noise) * _LUNG, 0.8 * total)
    total -= _airway(scene, rng, y, x)
    total += _belly(scene, rng, y, x)
    total -= np.minimum(_gas(scene, rng, y, x, noise), 0.5 * total)
    total *= 1 + np.float32(rng.uniform(0.008, 0.026)) * noise
    return enlarge(total, scene.columns)


def enlarge(small: np.ndarray, columns: int) -> np.ndarray:
    """A map on every second pixel brought to (rows, columns)."""
    image = Image.fromarray(np.ascontiguousarray(small, dtype=np.float32))
    wide = image.resize((small.shape[1] * _STEP, ROWS), Image.Resampling.BICUBIC)
    return np.asarray(wide)[:, :columns].copy()


def chest_half(scene: Scene, level: np.ndarray | float) -> np.ndarray:
    """Half-width of the rib cage, waist or hips at a level, mm."""
    wide = np.interp(level, CHEST_LEVELS, CHEST) * scene.girth * scene.size
    return np.asarray(wide, dtype=np.float32)


def _trunk(scene: Scene, rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    level, middle = scene.level_at(y), scene.middle_at(y)
    depth = rng.uniform(0.86, 1.14) * scene.size
    fat = rng.uniform(10, 55) * scene.girth
    half = np.interp(level, [-3, -1, 1, 3], [0, 60, 30, 0]) + chest_half(scene, level) + fat
    thick = (
        depth
        * (1 + 0.06 * np.abs(x - middle) / 100 * sigmoid(level - 11))
        * np.interp(level, [-5, 0, 3, 7, 12, 16, 20], [105, 128, 164, 180, 202, 200, 204])
    )
    trunk = dome((x - middle) / half, rng.uniform(2.6, 4.8)) * thick
    slope = rng.uniform(0.3, 0.6)
    shoulder = rng.uniform(-30, -5) + slope * np.maximum(np.abs(x - middle) - 55, 0)
    trunk = trunk * sigmoid((y - shoulder) / 7)
    neck = dome((x - scene.axis_at(y)) / (scene.size * rng.uniform(50, 64)), 2.2)
    neck = neck * np.float32(rng.uniform(114, 142) * depth) * sigmoid((35 - y) / 12)
    at = scene.body(-5).centre - np.array([0, 82 * scene.size])
    r = np.sqrt(((x - at[0]) / 74) ** 2 + ((y - at[1]) / 94) ** 2) / scene.size
    head = np.float32(165 * scene.size) * dome(r, 3)
    return (np.maximum(np.maximum(trunk, neck), head) * _WATER).astype(np.float32)


def _lungs(
    scene: Scene, rng: np.random.Generator, y: np.ndarray, x: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """Air path in mm: two half-ellipsoids between mediastinum, ribs and diaphragm, less behind the heart."""
    level = scene.level_at(y)
    axis = 0.9 * scene.axis_at(y) + 0.1 * scene.middle_at(y)
    most = rng.uniform(95, 132) * scene.size
    base = rng.uniform(8.9, 10.6)
    power = rng.uniform(0.38, 0.7)
    air = np.zeros((y.shape[0], x.shape[1]), np.float32)
    for s in (-1, 1):
        heart_side = s == scene.heart_side
        medial = _mediastinum(level, rng, heart_side) * scene.size
        lateral = s * (scene.middle_at(y) - axis) + chest_half(scene, level) - 6
        t = (s * (x - axis) - medial) / np.maximum(lateral - medial, 5)
        arch = np.clip(4 * t * (1 - t), 0, 1) ** power
        apex = np.sqrt(np.clip((level + rng.uniform(0.2, 0.9)) / 3.5, 0, 1))
        air += arch * apex * _above_diaphragm(scene, rng, y, t, base + 0.45 * heart_side)
    air *= 1 - _heart(scene, rng, y, x, base)
    return np.float32(most) * air * (1 + 0.05 * noise)


def _mediastinum(level: np.ndarray, rng: np.random.Generator, heart_side: bool) -> np.ndarray:
    """Distance of the lung's inner border from the spine's axis, mm."""
    wide = [13, 16, 19, 21, 25] if heart_side else [13, 14, 14, 18, 22]
    border = np.interp(level, [-1, 2, 5, 8, 11], np.array(wide) * rng.uniform(0.8, 1.3))
    knob = rng.uniform(3, 16) * np.exp(-(((level - rng.uniform(3.0, 4.0)) / rng.uniform(0.7, 1.1)) ** 2))
    return border + (knob if heart_side else 0.25 * knob)


def _above_diaphragm(
    scene: Scene, rng: np.random.Generator, y: np.ndarray, t: np.ndarray, level: float
) -> np.ndarray:
    """1 above a diaphragm dome, a part of it in the recess behind, 0 below."""
    peak = rng.uniform(0.35, 0.5)
    drop = rng.uniform(60, 120) * (np.clip(t, -0.2, 1.1) - peak) ** 2
    dome = np.float32(scene.height_of(level)) + drop * scene.size
    recess = rng.uniform(0.08, 0.35)
    deep = dome + rng.uniform(18, 42) * scene.size
    soft = rng.uniform(0.8, 2.5)
    return (1 - recess) * sigmoid((dome - y) / soft) + recess * sigmoid((deep - y) / 7)


def _heart(scene: Scene, rng: np.random.Generator, y: np.ndarray, x: np.ndarray, base: float) -> np.ndarray:
    s = scene.heart_side
    cy = scene.height_of(base - rng.uniform(1.6, 2.4))
    cx = 0.6 * scene.axis_at(cy) + 0.4 * scene.middle_at(cy) + s * rng.uniform(20, 36) * scene.size
    ru, rv = rng.uniform(42, 60) * scene.size, rng.uniform(36, 48) * scene.size
    lean = s * rng.uniform(0.3, 0.7)
    p, q = x - np.float32(cx), y - np.float32(cy)
    u, v = p * np.cos(lean) + q * np.sin(lean), q * np.cos(lean) - p * np.sin(lean)
    r = np.sqrt((u / ru) ** 2 + (v / rv) ** 2)
    return np.float32(rng.uniform(0.45, 0.7)) * sigmoid((1 - r) * rng.uniform(9, 22))


def _airway(scene: Scene, rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Trachea down to its fork at T4 or T5 and the two main bronchi."""
    fork = float(scene.height_of(rng.uniform(3.6, 4.6)))
    centre = 0.6 * scene.axis_at(y) + 0.4 * scene.middle_at(y) + rng.normal(0, 4)
    radius = rng.uniform(7, 9.5) * scene.size
    tube = dome((x - centre) / radius, 2) * sigmoid((fork - y) / 3)
    below = np.maximum(y - fork, 0)
    for s, slope in ((-scene.heart_side, 0.6), (scene.heart_side, 1.0)):
        branch = dome((x - centre - s * (slope * below + 2)) / (radius * 0.75), 2)
        tube = tube + 0.7 * branch * sigmoid((y - fork) / 3) * sigmoid((fork + 35 - y) / 6)
    return (tube * np.float32(radius * 1.8 * _WATER * rng.uniform(0.6, 1.0))).astype(np.float32)


def _belly(scene: Scene, rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Liver, psoas muscles and breasts: gentle additions."""
    s = -scene.heart_side
    level, axis, middle = scene.level_at(y), scene.axis_at(y), scene.middle_at(y)
    edge = rng.uniform(12.5, 14.8) - 0.02 * s * (x - middle) * rng.uniform(0.2, 1.2)
    liver = sigmoid((edge - level) * 3) * sigmoid((level - 10) * 2) * sigmoid(s * (x - middle) / 18)
    out = liver * rng.uniform(0.05, 0.3)
    reach = (
        np.interp(level, [10.5, 12, 14, 17, 19], [12, 22, 36, 52, 60]) * scene.size * rng.uniform(0.85, 1.15)
    )
    psoas = sigmoid((reach - np.abs(x - axis)) / rng.uniform(1.0, 3.5)) * sigmoid((level - 11.5) * 2)
    out = out + psoas * rng.uniform(0.02, 0.2)
    if rng.random() < 0.5:
        out = out + _breasts(scene, rng, y, x)
    return out.astype(np.float32)


def _breasts(scene: Scene, rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    out = np.zeros((y.shape[0], x.shape[1]), np.float32)
    amount, at = rng.uniform(0.1, 0.5), scene.height_of(rng.uniform(6.0, 8.2))
    for s in (-1, 1):
        cx = scene.middle_at(np.array(at)) + s * rng.uniform(62, 85) * scene.size * scene.girth
        r = np.sqrt(((x - cx) / rng.uniform(44, 60)) ** 2 + ((y - at) / rng.uniform(36, 52)) ** 2)
        fullness = np.clip((y - at) / 60 + 0.8, 0.1, 1.4)
        out += np.float32(amount) * fullness * sigmoid((1 - r) * 14)
    return out


def _gas(
    scene: Scene, rng: np.random.Generator, y: np.ndarray, x: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """Stomach bubble under the heart-side dome and bowel gas: lobed, soft-edged holes."""
    out = np.zeros((y.shape[0], x.shape[1]), np.float32)
    s = scene.heart_side
    if rng.random() < 0.8:
        at = rng.uniform(10.2, 11.8), s * rng.uniform(38, 72) * scene.size
        radii = rng.uniform(14, 34), rng.uniform(9, 24)
        _blob(out, scene, rng, y, x, noise, at, radii, rng.uniform(0.2, 0.75))
    for _ in range(rng.integers(2, 12)):
        at = rng.uniform(11.5, 20.0), rng.uniform(-105, 105) * scene.size
        radii = rng.uniform(6, 20), rng.uniform(5, 15)
        _blob(out, scene, rng, y, x, noise, at, radii, rng.uniform(0.08, 0.5))
    for _ in range(rng.integers(0, 4)):
        _colon(out, scene, rng, y, x, noise)
    return out


def _colon(
    out: np.ndarray, scene: Scene, rng: np.random.Generator, y: np.ndarray, x: np.ndarray, noise: np.ndarray
) -> None:
    """A gas-filled loop: overlapping bubbles along a bent line."""
    level, side = rng.uniform(12, 18), rng.uniform(-85, 85) * scene.size
    heading, amount = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25)
    for _ in range(rng.integers(3, 9)):
        radii = rng.uniform(8, 15), rng.uniform(8, 15)
        _blob(out, scene, rng, y, x, noise, (level, side), radii, amount)
        heading += rng.normal(0, 0.5)
        level, side = level + 0.3 * np.sin(heading), side + 9 * np.cos(heading)


def _blob(
    out: np.ndarray,
    scene: Scene,
    rng: np.random.Generator,
    y: np.ndarray,
    x: np.ndarray,
    noise: np.ndarray,
    at: tuple[float, float],
    radii: tuple[float, float],
    amount: float,
) -> None:
    """One bubble at (level, distance from the trunk's middle), drawn in its own box."""
    cy = float(scene.height_of(at[0]))
    cx = float(scene.middle_at(np.array(cy))) + at[1]
    reach = 1.7 * max(radii)
    rows = slice(*np.searchsorted(y[:, 0], [cy - reach, cy + reach]))
    columns = slice(*np.searchsorted(x[0], [cx - reach, cx + reach]))
    lean = rng.uniform(-0.8, 0.8)
    p, q = x[:, columns] - np.float32(cx), y[rows] - np.float32(cy)
    u, v = p * np.cos(lean) + q * np.sin(lean), q * np.cos(lean) - p * np.sin(lean)
    r = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2) + 0.16 * noise[rows, columns]
    hole = np.sqrt(np.clip(1.15 - r, 0, 1)) * sigmoid((1 - r) * rng.uniform(6, 18))
    out[rows, columns] += (np.float32(amount) * hole).astype(np.float32)
