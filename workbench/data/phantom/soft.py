"""Soft tissue in the attenuation domain: trunk, neck, head, liver, psoas muscles, breasts; air is taken out of it.

Source: specification, section 7.4. Profiles run along the spine's levels (0 = T1, 16 = L5).
"""

from __future__ import annotations

import numpy as np

from workbench.data.phantom.air import airway, gas, lungs
from workbench.data.phantom.field import Field, chest_half, enlarge
from workbench.data.phantom.scene import Scene
from workbench.data.phantom.shapes import dome, sigmoid

#: Attenuation per mm of soft tissue, and by how much less lung has. Source: specification, section 7.4.
_WATER = 0.0193
_LUNG = 0.0143

#: Levels and depth of the trunk from front to back, mm.
_DEPTHS = ([-5, 0, 3, 7, 12, 16, 20], [105, 128, 164, 180, 202, 200, 204])


def draw_soft(scene: Scene, rng: np.random.Generator, noise: np.ndarray) -> np.ndarray:
    """Attenuation of all soft tissue, (rows, columns) float32.

    Args:
        scene: Where things lie.
        rng: Source of all randomness.
        noise: Smooth noise of SD 1, at least (rows // 2, (columns + 1) // 2).
    """
    field = Field.of(scene, noise)
    total = _body(field, rng)
    total -= np.minimum(lungs(field, rng) * _LUNG, 0.8 * total)
    total -= airway(field, rng, _WATER)
    total += _belly(field, rng)
    total -= np.minimum(gas(field, rng), 0.5 * total)
    total *= 1 + np.float32(rng.uniform(0.008, 0.026)) * field.noise
    return enlarge(total, scene.columns)


def _body(field: Field, rng: np.random.Generator) -> np.ndarray:
    """Trunk below sloping shoulders, neck and head: whichever is thickest."""
    depth = rng.uniform(0.86, 1.14) * field.scene.size
    trunk = _trunk(field, rng, depth)
    neck = dome((field.x - field.axis) / (field.scene.size * rng.uniform(50, 64)), 2.2)
    neck = neck * np.float32(rng.uniform(114, 142) * depth) * sigmoid((35 - field.y) / 12)
    thick = np.maximum(np.maximum(trunk, neck), _head(field))
    return (thick * _WATER).astype(np.float32)


def _trunk(field: Field, rng: np.random.Generator, depth: float) -> np.ndarray:
    level, aside = field.level, np.abs(field.x - field.middle)
    fat = rng.uniform(10, 55) * field.scene.girth
    half = np.interp(level, [-3, -1, 1, 3], [0, 60, 30, 0]) + chest_half(field.scene, level) + fat
    flanks = 1 + 0.06 * aside / 100 * sigmoid(level - 11)
    trunk = dome(aside / half, rng.uniform(2.6, 4.8)) * (depth * flanks * np.interp(level, *_DEPTHS))
    slope = rng.uniform(0.3, 0.6)
    shoulder = rng.uniform(-30, -5) + slope * np.maximum(aside - 55, 0)
    return trunk * sigmoid((field.y - shoulder) / 7)


def _head(field: Field) -> np.ndarray:
    size = field.scene.size
    x, y = field.scene.body(-5).centre - np.array([0, 82 * size])
    r = np.sqrt(((field.x - x) / 74) ** 2 + ((field.y - y) / 94) ** 2) / size
    return np.float32(165 * size) * dome(r, 3)


def _belly(field: Field, rng: np.random.Generator) -> np.ndarray:
    """Liver, psoas muscles and breasts: gentle additions."""
    out = _liver(field, rng) + _psoas(field, rng)
    if rng.random() < 0.5:
        out = out + _breasts(field, rng)
    return out.astype(np.float32)


def _liver(field: Field, rng: np.random.Generator) -> np.ndarray:
    s, level, right = -field.scene.heart_side, field.level, field.x - field.middle
    edge = rng.uniform(12.5, 14.8) - 0.02 * s * right * rng.uniform(0.2, 1.2)
    shape = sigmoid((edge - level) * 3) * sigmoid((level - 10) * 2) * sigmoid(s * right / 18)
    return shape * rng.uniform(0.05, 0.3)


def _psoas(field: Field, rng: np.random.Generator) -> np.ndarray:
    reach = np.interp(field.level, [10.5, 12, 14, 17, 19], [12, 22, 36, 52, 60])
    reach = reach * field.scene.size * rng.uniform(0.85, 1.15)
    shape = sigmoid((reach - np.abs(field.x - field.axis)) / rng.uniform(1.0, 3.5))
    return shape * sigmoid((field.level - 11.5) * 2) * rng.uniform(0.02, 0.2)


def _breasts(field: Field, rng: np.random.Generator) -> np.ndarray:
    out, scene, y = field.empty(), field.scene, field.y
    amount, at = rng.uniform(0.1, 0.5), scene.height_of(rng.uniform(6.0, 8.2))
    fullness = np.clip((y - at) / 60 + 0.8, 0.1, 1.4)
    for s in (-1, 1):
        x = scene.middle_at(np.array(at)) + s * rng.uniform(62, 85) * scene.size * scene.girth
        r = np.sqrt(((field.x - x) / rng.uniform(44, 60)) ** 2 + ((y - at) / rng.uniform(36, 52)) ** 2)
        out += np.float32(amount) * fullness * sigmoid((1 - r) * 14)
    return out
