"""Air in the body: lungs between ribs, mediastinum and diaphragm, the airway, stomach and bowel gas.

Source: specification, section 7.4; sizes are rough and chosen to look like films.
"""

from __future__ import annotations

import numpy as np

from workbench.data.phantom.field import Field, chest_half
from workbench.data.phantom.shapes import dome, sigmoid


def lungs(field: Field, rng: np.random.Generator) -> np.ndarray:
    """Path through lung in mm: two half-ellipsoids, less where the heart lies."""
    most = rng.uniform(95, 132) * field.scene.size
    base, power = rng.uniform(8.9, 10.6), rng.uniform(0.38, 0.7)
    air = field.empty()
    for s in (-1, 1):
        air += _lung(field, rng, s, base, power)
    air *= 1 - _heart(field, rng, base)
    return np.float32(most) * air * (1 + 0.05 * field.noise)


def _lung(field: Field, rng: np.random.Generator, s: int, base: float, power: float) -> np.ndarray:
    """One lung as a share of the greatest path; the one beside the heart reaches deeper."""
    heart_side = s == field.scene.heart_side
    axis = 0.9 * field.axis + 0.1 * field.middle
    medial = _mediastinum(field.level, rng, heart_side=heart_side) * field.scene.size
    lateral = s * (field.middle - axis) + chest_half(field.scene, field.level) - 6
    t = (s * (field.x - axis) - medial) / np.maximum(lateral - medial, 5)
    arch = np.clip(4 * t * (1 - t), 0, 1) ** power
    apex = np.sqrt(np.clip((field.level + rng.uniform(0.2, 0.9)) / 3.5, 0, 1))
    return arch * apex * _above_diaphragm(field, rng, t, base + 0.45 * heart_side)


def _mediastinum(level: np.ndarray, rng: np.random.Generator, *, heart_side: bool) -> np.ndarray:
    """Distance of the lung's inner border from the spine's axis in mm, with the aorta's knob."""
    wide = [13, 16, 19, 21, 25] if heart_side else [13, 14, 14, 18, 22]
    border = np.interp(level, [-1, 2, 5, 8, 11], np.array(wide) * rng.uniform(0.8, 1.3))
    knob = rng.uniform(3, 16) * np.exp(-(((level - rng.uniform(3.0, 4.0)) / rng.uniform(0.7, 1.1)) ** 2))
    return border + (knob if heart_side else 0.25 * knob)


def _above_diaphragm(field: Field, rng: np.random.Generator, t: np.ndarray, level: float) -> np.ndarray:
    """1 above a diaphragm dome, a part of it in the recess behind, 0 below."""
    scene, peak = field.scene, rng.uniform(0.35, 0.5)
    drop = rng.uniform(60, 120) * (np.clip(t, -0.2, 1.1) - peak) ** 2
    edge = np.float32(scene.height_of(level)) + drop * scene.size
    recess = rng.uniform(0.08, 0.35)
    deep = edge + rng.uniform(18, 42) * scene.size
    above = sigmoid((edge - field.y) / rng.uniform(0.8, 2.5))
    return (1 - recess) * above + recess * sigmoid((deep - field.y) / 7)


def _heart(field: Field, rng: np.random.Generator, base: float) -> np.ndarray:
    """How much of the lung's path the heart takes."""
    scene, s = field.scene, field.scene.heart_side
    cy = scene.height_of(base - rng.uniform(1.6, 2.4))
    cx = 0.6 * scene.axis_at(cy) + 0.4 * scene.middle_at(cy) + s * rng.uniform(20, 36) * scene.size
    radii = rng.uniform(42, 60) * scene.size, rng.uniform(36, 48) * scene.size
    r = _radius(field.x - np.float32(cx), field.y - np.float32(cy), radii, s * rng.uniform(0.3, 0.7))
    return np.float32(rng.uniform(0.45, 0.7)) * sigmoid((1 - r) * rng.uniform(9, 22))


def _radius(p: np.ndarray, q: np.ndarray, radii: tuple[float, float], lean: float) -> np.ndarray:
    """Distance from the middle of a turned ellipse, 1 on its edge."""
    u, v = p * np.cos(lean) + q * np.sin(lean), q * np.cos(lean) - p * np.sin(lean)
    return np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2)


def airway(field: Field, rng: np.random.Generator, water: float) -> np.ndarray:
    """Attenuation missing in the trachea down to its fork at T4 or T5 and in the two main bronchi."""
    x, y, scene = field.x, field.y, field.scene
    fork = float(scene.height_of(rng.uniform(3.6, 4.6)))
    centre = 0.6 * field.axis + 0.4 * field.middle + rng.normal(0, 4)
    radius = rng.uniform(7, 9.5) * scene.size
    tube = dome((x - centre) / radius, 2) * sigmoid((fork - y) / 3)
    below = np.maximum(y - fork, 0)
    for s, slope in ((-scene.heart_side, 0.6), (scene.heart_side, 1.0)):
        branch = dome((x - centre - s * (slope * below + 2)) / (radius * 0.75), 2)
        tube = tube + 0.7 * branch * sigmoid((y - fork) / 3) * sigmoid((fork + 35 - y) / 6)
    return (tube * np.float32(radius * 1.8 * water * rng.uniform(0.6, 1.0))).astype(np.float32)


def gas(field: Field, rng: np.random.Generator) -> np.ndarray:
    """Attenuation missing in the stomach bubble under the heart-side dome and in the bowel."""
    out, size = field.empty(), field.scene.size
    if rng.random() < 0.8:
        at = rng.uniform(10.2, 11.8), field.scene.heart_side * rng.uniform(38, 72) * size
        _blob(out, field, rng, at, (rng.uniform(14, 34), rng.uniform(9, 24)), rng.uniform(0.2, 0.75))
    for _ in range(rng.integers(2, 12)):
        at = rng.uniform(11.5, 20.0), rng.uniform(-105, 105) * size
        _blob(out, field, rng, at, (rng.uniform(6, 20), rng.uniform(5, 15)), rng.uniform(0.08, 0.5))
    for _ in range(rng.integers(0, 4)):
        _colon(out, field, rng)
    return out


def _colon(out: np.ndarray, field: Field, rng: np.random.Generator) -> None:
    """A gas-filled loop: overlapping bubbles along a bent line."""
    level, side = rng.uniform(12, 18), rng.uniform(-85, 85) * field.scene.size
    heading, amount = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25)
    for _ in range(rng.integers(3, 9)):
        _blob(out, field, rng, (level, side), (rng.uniform(8, 15), rng.uniform(8, 15)), amount)
        heading += rng.normal(0, 0.5)
        level, side = level + 0.3 * np.sin(heading), side + 9 * np.cos(heading)


def _blob(
    out: np.ndarray,
    field: Field,
    rng: np.random.Generator,
    at: tuple[float, float],
    radii: tuple[float, float],
    amount: float,
) -> None:
    """One lobed bubble at (level, distance from the trunk's middle), drawn in its own box."""
    cy = float(field.scene.height_of(at[0]))
    cx = float(field.scene.middle_at(np.array(cy))) + at[1]
    reach = 1.7 * max(radii)
    rows = slice(*np.searchsorted(field.y[:, 0], [cy - reach, cy + reach]))
    columns = slice(*np.searchsorted(field.x[0], [cx - reach, cx + reach]))
    p, q = field.x[:, columns] - np.float32(cx), field.y[rows] - np.float32(cy)
    r = _radius(p, q, radii, rng.uniform(-0.8, 0.8)) + 0.16 * field.noise[rows, columns]
    hole = np.sqrt(np.clip(1.15 - r, 0, 1)) * sigmoid((1 - r) * rng.uniform(6, 18))
    out[rows, columns] += (np.float32(amount) * hole).astype(np.float32)
