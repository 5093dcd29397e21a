"""Bones beside the spine, and lung vessels: ribs here, girdles and skull in their own module.

Source: specification, section 7.4; slopes, lengths and strengths are chosen to look like films.
"""

from __future__ import annotations

import numpy as np

from workbench.data.phantom.field import chest_half
from workbench.data.phantom.girdles import draw_pelvis, draw_shoulders, draw_skull
from workbench.data.phantom.scene import Body, Scene, across, down
from workbench.data.phantom.sheet import Sheet

#: Points along a rib, and how many of them belong to its posterior arc.
_RIB_STEPS = 28
_BACK_STEPS = 16

#: Fall of the ribs' ellipses in mm, by rib.
_FALL = (np.array([0, 1, 3, 6, 9, 10, 11]), np.array([16, 24, 33, 42, 48, 52, 46]))


def draw_skeleton(scene: Scene, rng: np.random.Generator, texture: np.ndarray) -> np.ndarray:
    """Attenuation of ribs, shoulder girdle, pelvis, sacrum, skull and lung vessels, (rows, columns) float32.

    Args:
        scene: Where things lie.
        rng: Source of all randomness.
        texture: Noise of SD 1 of the image's shape, for the bones' grain.
    """
    front, back, rest = Sheet(scene), Sheet(scene), Sheet(scene)
    strength = rng.uniform(0.6, 1.25) * scene.density
    _ribs(scene, rng, front, back, strength)
    draw_shoulders(rest, scene, rng, strength)
    _vessels(scene, rng, front)
    draw_pelvis(rest, scene, rng, strength)
    draw_skull(rest, scene, rng)
    total = back.array(rng.uniform(0.5, 0.9))
    total += front.array(rng.uniform(0.7, 1.3))
    total += rest.array(rng.uniform(0.6, 1.1))
    total *= 1 + np.float32(rng.uniform(0.05, 0.2)) * texture
    return total


def _ribs(scene: Scene, rng: np.random.Generator, front: Sheet, back: Sheet, strength: float) -> None:
    slope = rng.uniform(0.75, 1.3)
    last = 11 if rng.random() < 0.07 else 12
    for k in range(last):
        for s in (-1, 1):
            path = _rib_path(scene, rng, scene.body(k), s, slope)
            _rib(scene, rng, front, back, k, path, strength)


def _rib(
    scene: Scene,
    rng: np.random.Generator,
    front: Sheet,
    back: Sheet,
    k: int,
    path: np.ndarray,
    strength: float,
) -> None:
    """A rib's posterior arc and, down to the tenth, its fainter and wider anterior arc."""
    half = scene.size * rng.uniform(3.6, 4.9) * np.interp(k, [0, 1, 9, 11], [1.15, 1, 1, 0.8])
    amount = strength * rng.uniform(0.85, 1.15)
    long = k < 10
    if long:
        wide = half * np.linspace(1.0, 1.25, _RIB_STEPS - _BACK_STEPS + 1)
        front.tube(path[_BACK_STEPS - 1 :], wide, core=0.10 * amount, wall=0.17 * amount)
    taper = np.linspace(0.85, 1.0, _BACK_STEPS) if long else np.linspace(1.0, 0.7, _BACK_STEPS)
    back.tube(path[:_BACK_STEPS], half * taper, core=0.19 * amount, wall=0.33 * amount)


def _rib_path(scene: Scene, rng: np.random.Generator, body: Body, s: int, slope: float) -> np.ndarray:
    """A rib from its head: out and down along half an ellipse; the last two are short and steep."""
    k, root = body.level, _rib_head(body, s)
    middle = float(scene.middle_at(np.array(root[1])))
    reach = max(s * (middle - root[0]) + float(chest_half(scene, min(k + 1.0, 10.5))), 25.0)
    fall = scene.size * slope * np.interp(k, *_FALL) * rng.uniform(0.93, 1.07)
    most = np.pi * (0.84 if k < 10 else (0.36, 0.24)[k - 10] * rng.uniform(0.75, 1.1))
    a = np.linspace(0, most, _RIB_STEPS)
    out = reach * np.sin(a)
    hump = scene.size * rng.uniform(2, 7) * np.sin(np.minimum(a * 3, np.pi))
    fallen = fall * (1 - np.cos(a)) - hump
    # The cage is turned by a part of the vertebra's tilt.
    lean = 0.5 * body.tilt
    x = s * out * np.cos(lean) - fallen * np.sin(lean)
    y = s * out * np.sin(lean) + fallen
    return root + np.stack([x, y], axis=1)


def _rib_head(body: Body, s: int) -> np.ndarray:
    """Where a rib meets its vertebra: at the upper corner, behind the body."""
    e, n = across(body.tilt), down(body.tilt)
    corner = body.centre + e * s * body.upper * 0.42 - n * body.height * 0.3
    return corner - e * 12 * np.sin(body.rotation)


def _vessels(scene: Scene, rng: np.random.Generator, sheet: Sheet) -> None:
    """Bent lines from both hila, thinner outward."""
    for s in (-1, 1):
        at = scene.height_of(rng.uniform(5.0, 6.2))
        root = np.array([float(scene.axis_at(np.array(at))) + s * 26 * scene.size, at])
        for _ in range(16):
            angle, length = rng.uniform(-1.25, 1.35), rng.uniform(35, 95) * scene.size
            a = np.linspace(0, 1, 6)
            heading = angle + rng.normal(0, 0.25) * a
            points = root + length * a[:, None] * np.stack([s * np.cos(heading), np.sin(heading)], 1)
            for i in range(5):
                sheet.line(points[i : i + 2], 3.8 * (1 - 0.16 * i), 0.13 * (1 - 0.13 * i))
