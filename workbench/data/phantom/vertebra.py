"""Vertebrae in the attenuation domain: waisted bodies whose endplates are seen as ellipses.

Each vertebra is drawn in a patch of its own, in millimetres along its mid-line (u) and down its axis (v). Source:
specification, sections 7.3 (step 8) and 7.4; amplitudes are chosen to look like films.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.data.phantom.looks import Look, Own, draw_look, draw_own
from workbench.data.phantom.posterior import draw_posterior
from workbench.data.phantom.scene import ROWS, Body, Scene
from workbench.data.phantom.shapes import bell, ramp, step

#: Attenuation of cancellous bone above soft tissue, per mm.
_CANCELLOUS = 0.0078


def draw_vertebrae(total: np.ndarray, scene: Scene, rng: np.random.Generator, texture: np.ndarray) -> None:
    """Add C1 to L5 to a map of attenuation (rows, columns); `texture` is noise of SD 1 of the same shape."""
    look = draw_look(rng, scene.density)
    for body in scene.bodies:
        own, patch = draw_own(rng), _patch(body, scene)
        if patch is None:
            continue
        drawn = _draw_body(patch, body, look, own, texture[patch.rows, patch.columns])
        total[patch.rows, patch.columns] += drawn + draw_posterior(patch.u, patch.v, body, look, own)


@dataclass(frozen=True)
class _Patch:
    """A window of the image with its local coordinates in mm."""

    rows: slice
    columns: slice
    u: np.ndarray
    v: np.ndarray


def _patch(body: Body, scene: Scene) -> _Patch | None:
    """The window around a vertebra and its processes; None outside the image."""
    reach = np.array([body.width * 1.05 + 6, body.height * 1.35 + 6])
    cos, sin = abs(np.cos(body.tilt)), abs(np.sin(body.tilt))
    half = np.array([reach[0] * cos + reach[1] * sin, reach[0] * sin + reach[1] * cos]) / scene.pitch
    centre = scene.pixels(body.centre)
    low = np.maximum(np.floor(centre - half), 0).astype(int)
    high = np.minimum(np.ceil(centre + half), [scene.columns - 1, ROWS - 1]).astype(int)
    if (high <= low).any():
        return None
    x = ((np.arange(low[0], high[0] + 1) - centre[0]) * scene.pitch).astype(np.float32)[None]
    y = ((np.arange(low[1], high[1] + 1) - centre[1]) * scene.pitch).astype(np.float32)[:, None]
    c, s = np.float32(np.cos(body.tilt)), np.float32(np.sin(body.tilt))
    return _Patch(slice(low[1], high[1] + 1), slice(low[0], high[0] + 1), x * c + y * s, y * c - x * s)


@dataclass(frozen=True)
class _Outline:
    """A body's endplates as heights over u, the distance inward from its sides, and how far the endplates open."""

    upper: np.ndarray
    lower: np.ndarray
    inward: np.ndarray
    round: np.ndarray
    opened: tuple[np.ndarray, np.ndarray]
    sag: np.ndarray


def _outline(u: np.ndarray, v: np.ndarray, body: Body, look: Look) -> _Outline:
    rise = body.width * np.tan(body.wedge / 2)
    upper = -(body.height / 2 + u * np.float32(rise / body.upper))
    lower = body.height / 2 + u * np.float32(rise / body.lower)
    blunt = np.float32(look.rounded) * np.clip(np.abs(u) * np.float32(2 / body.width) * 5 - 4, 0, 1.2) ** 2
    upper, lower = upper + blunt, lower - blunt
    side = _half_width(v, body, look)
    round_ = np.sqrt(np.clip(1 - (u / side) ** 4, 0, 1))
    wide = [np.float32(body.depth / 2 * abs(np.sin(lean))) * round_ for lean in body.leans]
    sag = np.float32(look.hollow) * round_
    return _Outline(upper, lower, side - np.abs(u), round_, (wide[0], wide[1]), sag)


def _half_width(v: np.ndarray, body: Body, look: Look) -> np.ndarray:
    along = v * np.float32(2 / body.height)
    side = np.float32(body.width / 2) + along * np.float32((body.lower - body.upper) / 4)
    side *= 1 - np.float32(look.waist) * np.clip(1 - along * along, 0, None)
    return side


def _draw_body(patch: _Patch, body: Body, look: Look, own: Own, texture: np.ndarray) -> np.ndarray:
    shape = _outline(patch.u, patch.v, body, look)
    sides = step(shape.inward, look.edge)
    inside = sides * ramp(patch.v - shape.upper - 0.5 * shape.sag, shape.opened[0] + look.edge)
    inside *= ramp(shape.lower - 0.5 * shape.sag - patch.v, shape.opened[1] + look.edge)
    dense = look.density * own.density
    thick = np.float32(body.depth * _CANCELLOUS * dense) * (0.35 + 0.65 * shape.round)
    out = inside * thick * (1 + np.float32(look.grain) * texture)
    out += np.float32(look.side * dense) * bell(shape.inward - look.line, look.line * 1.1) * inside
    lines = (1 + np.float32(look.patchy) * texture) * sides * np.float32(look.plate * np.sqrt(dense))
    for i, distance in enumerate((patch.v - shape.upper, shape.lower - patch.v)):
        share = own.plates[i] * np.clip(1 + patch.u * np.float32(2 * own.fades[i] / body.width), 0.2, 1.8)
        out += lines * share * _plate(distance, shape.opened[i], shape.sag, look)
    return out


def _plate(distance: np.ndarray, opened: np.ndarray, sag: np.ndarray, look: Look) -> np.ndarray:
    """An endplate seen obliquely: front and back rims as lines, the sheet between them spread thin."""
    width = look.line
    spread = 1 / (1 + 0.35 * opened / width)
    front = bell(distance + opened, width)
    back = bell(distance - opened - 0.25 * sag, width)
    sheet = ramp(distance + opened, width) * ramp(sag + opened - distance, width)
    return (0.5 + 0.15 * spread) * (front + back) + 0.30 * spread * sheet
