"""Vertebrae in the attenuation domain: bodies with endplates seen as ellipses, and their posterior parts.

Each vertebra is drawn in a patch of its own, in millimetres along its mid-line (u) and down its axis (v). Source:
specification, sections 7.3 (step 8) and 7.4; amplitudes are chosen to look like films.
"""

from __future__ import annotations

import numpy as np

from workbench.data.phantom.scene import ROWS, Body, Scene

#: Attenuation of cancellous bone above soft tissue, per mm.
_CANCELLOUS = 0.0078


def draw_vertebrae(total: np.ndarray, scene: Scene, rng: np.random.Generator, texture: np.ndarray) -> None:
    """Add C1 to L5 to a map of attenuation (rows, columns); `texture` is noise of SD 1 of the same shape."""
    look = _Look(rng, scene)
    for body in scene.bodies:
        own = _Own(rng, body)
        window = _window(body, scene)
        if window is None:
            continue
        rows, columns, u, v = window
        patch = _draw_body(u, v, body, look, own, texture[rows, columns])
        patch += _draw_back(u, v, body, look, own)
        total[rows, columns] += patch


class _Look:
    """What all vertebrae of one image share."""

    def __init__(self, rng: np.random.Generator, scene: Scene) -> None:
        self.density = scene.density
        self.plate = rng.uniform(0.19, 0.34)
        self.side = rng.uniform(0.06, 0.14)
        self.ring = rng.uniform(0.10, 0.24)
        self.spinous = rng.uniform(0.12, 0.30)
        self.grain = rng.uniform(0.08, 0.22)
        self.marrow = rng.uniform(0.1, 0.45)
        self.waist = rng.uniform(0.03, 0.08)
        self.rounded = rng.uniform(0.1, 1.0)
        self.patchy = rng.uniform(0.1, 0.35)
        self.hollow = rng.uniform(0.3, 2.2)
        self.line = rng.uniform(0.5, 0.8)
        self.edge = rng.uniform(0.45, 0.8)


class _Own:
    """What makes one vertebra different from its neighbours."""

    def __init__(self, rng: np.random.Generator, body: Body) -> None:
        self.density = rng.uniform(0.8, 1.2)
        self.plates = rng.uniform(0.6, 1.3, 2)
        self.fades = rng.normal(0, 0.3, 2)
        self.pedicles = rng.uniform(0.85, 1.15, (2, 3))
        self.process = rng.normal(0, 1, (2, 4))
        self.spinous = rng.uniform(0.8, 1.2, 3)
        self.lean = rng.normal(0, 0.12)


def _window(body: Body, scene: Scene):  # type: ignore[no-untyped-def]
    """Slices of the patch and its local coordinates, or None outside the image."""
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
    return slice(low[1], high[1] + 1), slice(low[0], high[0] + 1), x * c + y * s, y * c - x * s


def _draw_body(
    u: np.ndarray, v: np.ndarray, body: Body, look: _Look, own: _Own, texture: np.ndarray
) -> np.ndarray:
    rise = body.width * np.tan(body.wedge / 2)
    upper = -(body.height / 2 + u * np.float32(rise / body.upper))
    lower = body.height / 2 + u * np.float32(rise / body.lower)
    across_ = np.abs(u) * np.float32(2 / body.width)
    blunt = np.float32(look.rounded) * np.clip(across_ * 5 - 4, 0, 1.2) ** 2
    upper, lower = upper + blunt, lower - blunt
    along = v * np.float32(2 / body.height)
    side = np.float32(body.width / 2) + along * np.float32((body.lower - body.upper) / 4)
    side *= 1 - np.float32(look.waist) * np.clip(1 - along * along, 0, None)
    inward = side - np.abs(u)
    round_ = np.sqrt(np.clip(1 - (u / side) ** 4, 0, 1))
    sides = _step(inward, look.edge)
    opened = [np.float32(body.depth / 2 * abs(np.sin(lean))) * round_ for lean in body.leans]
    sag = np.float32(look.hollow) * round_
    inside = sides * _ramp(v - upper - 0.5 * sag, opened[0] + look.edge)
    inside *= _ramp(lower - 0.5 * sag - v, opened[1] + look.edge)
    dense = look.density * own.density
    grain = 1 + np.float32(look.grain) * texture
    thick = np.float32(body.depth * _CANCELLOUS * dense) * (0.35 + 0.65 * round_)
    out = inside * thick * grain
    out += np.float32(look.side * dense) * _bell(inward - look.line, look.line * 1.1) * inside
    patches = (1 + np.float32(look.patchy) * texture) * sides * np.float32(look.plate * np.sqrt(dense))
    for i, distance in enumerate((v - upper, lower - v)):
        share = own.plates[i] * np.clip(1 + u * np.float32(2 * own.fades[i] / body.width), 0.2, 1.8)
        out += patches * share * _plate(distance, opened[i], sag, look)
    return out


def _plate(distance: np.ndarray, opened: np.ndarray, sag: np.ndarray, look: _Look) -> np.ndarray:
    """An endplate seen obliquely: front and back rims as lines, the sheet between them spread thin."""
    width = look.line
    spread = 1 / (1 + 0.35 * opened / width)
    front = _bell(distance + opened, width)
    back = _bell(distance - opened - 0.25 * sag, width)
    sheet = _ramp(distance + opened, width) * _ramp(sag + opened - distance, width)
    return (0.5 + 0.15 * spread) * (front + back) + 0.30 * spread * sheet


def _draw_back(u: np.ndarray, v: np.ndarray, body: Body, look: _Look, own: _Own) -> np.ndarray:
    """Pedicles, laminae, spinous, transverse and articular processes: all shifted by axial rotation."""
    w, h = body.width, body.height
    turn, flat = np.sin(body.rotation), np.cos(body.rotation)
    lean = (body.leans[0] + body.leans[1]) / 2
    dense = np.float32(look.density * own.density)
    out = np.zeros_like(u)
    lumbar = np.clip((body.level - 9) / 4, 0, 1)
    # Parts behind the body move up or down where the vertebra leans.
    rear = body.depth * 0.75
    for i, s in enumerate((-1, 1)):
        jitter = own.process[i]
        cu = s * w * (0.335 - 0.03 * (body.level < 0)) * flat - (0.55 * body.depth + 3) * turn
        cv = -h * (0.12 + 0.06 * (1 - lumbar)) + 0.5 * rear * np.sin(lean) * 0.4
        ru, rv = w * 0.085 * own.pedicles[i, 0], h * (0.27 + 0.03 * lumbar) * own.pedicles[i, 1]
        out += np.float32(look.ring) * own.pedicles[i, 2] * dense * _ring(u - cu, v - cv, ru, rv, look)
        out += _transverse(u, v, body, s, cu, cv, jitter, lumbar) * dense
        out += _facet(u, v, s, cu, h, w, jitter, lumbar) * dense
    out += _spinous(u, v, body, look, own, turn, lumbar) * dense
    return out.astype(np.float32)


def _transverse(
    u: np.ndarray, v: np.ndarray, body: Body, s: int, cu: float, cv: float, jitter: np.ndarray, lumbar: float
) -> np.ndarray:
    w, h = body.width, body.height
    length = (
        w * (0.42 if body.level < 12 else 0.5) * (1 + 0.1 * jitter[0]) * (1 - 0.25 * (9 < body.level < 12))
    )
    up = -0.18 * (1 - lumbar) - 0.06 * lumbar + 0.08 * jitter[1]
    end = (cu + s * length, cv + up * length)
    thick = h * (0.17 - 0.03 * lumbar) * (1 + 0.1 * jitter[2])
    return np.float32(0.13 - 0.05 * lumbar) * _rod(u, v, (cu, cv), end, thick)


def _facet(
    u: np.ndarray, v: np.ndarray, s: int, cu: float, h: float, w: float, jitter: np.ndarray, lumbar: float
) -> np.ndarray:
    """The articular column: a rod from the joint above to the joint below."""
    near = cu - s * 0.04 * w
    upper = (near + s * 0.03 * w, -h * (0.55 + 0.05 * jitter[3]))
    lower = (near - s * 0.05 * w, h * (0.62 + 0.05 * jitter[2]))
    return np.float32(0.06 + 0.10 * lumbar) * _rod(u, v, upper, lower, w * (0.075 + 0.02 * lumbar))


def _spinous(
    u: np.ndarray, v: np.ndarray, body: Body, look: _Look, own: _Own, turn: float, lumbar: float
) -> np.ndarray:
    """A teardrop on the midline, hanging to the disc below in the chest, with the laminae as a roof."""
    w, h = body.width, body.height
    cu = -(body.depth * 0.9 + 10) * turn
    long = h * (0.36 - 0.02 * lumbar) * own.spinous[0]
    cv = h * (0.45 - 0.18 * lumbar)
    tip = w * 0.075 * own.spinous[1]
    uu, vv = u - np.float32(cu) - np.float32(own.lean) * (v - np.float32(cv)), v - np.float32(cv)
    narrow = 0.62 + 0.38 * np.clip(vv / np.float32(long), -1, 1)
    drop = _ring(uu / narrow.clip(0.25), vv, tip, long, look) * np.float32(look.spinous * own.spinous[2])
    roof = np.zeros_like(u)
    for s in (-1, 1):
        start = (cu + s * 0.05 * w, cv - 0.55 * long)
        end = (s * 0.27 * w - 0.7 * body.depth * turn, -0.05 * h)
        roof += _rod(u, v, start, end, h * 0.2)
    return drop + np.float32(0.06 + 0.14 * lumbar) * roof


def _ring(u: np.ndarray, v: np.ndarray, ru: float, rv: float, look: _Look) -> np.ndarray:
    """A bright ellipse outline with a paler inside."""
    line = look.line
    q = np.sqrt((u / np.float32(ru)) ** 2 + (v / np.float32(rv)) ** 2)
    distance = (1 - q) * np.float32(min(ru, rv) * 0.8 + 0.2 * max(ru, rv))
    return _bell(distance - line * 0.7, line) + np.float32(look.marrow) * _step(distance, line)


def _rod(
    u: np.ndarray, v: np.ndarray, start: tuple[float, float], end: tuple[float, float], radius: float
) -> np.ndarray:
    """A round bar between two points: thick in the middle, with a thin wall that shows at its rims."""
    du, dv = end[0] - start[0], end[1] - start[1]
    length = float(np.hypot(du, dv)) + 1e-6
    a, b = np.float32(du / length), np.float32(dv / length)
    p, q = u - np.float32(start[0]), v - np.float32(start[1])
    along = p * a + q * b
    beyond = along - np.clip(along, 0, np.float32(length))
    off = np.sqrt((q * a - p * b) ** 2 + beyond * beyond) / np.float32(radius)
    return np.sqrt(np.clip(1 - off * off, 0, 1)) + 0.4 * _bell((0.85 - off) * np.float32(radius), 0.6)


def _step(distance: np.ndarray, soft: float) -> np.ndarray:
    """0 outside, 1 inside, smooth over ± `soft`."""
    t = np.clip(distance * np.float32(0.5 / soft) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _ramp(distance: np.ndarray, half: np.ndarray | float) -> np.ndarray:
    return np.clip(distance / (2 * half) + 0.5, 0, 1)


def _bell(distance: np.ndarray, width: float) -> np.ndarray:
    """A bump of height 1 with bounded support, close to a Gaussian of the given width."""
    t = np.clip(1 - (distance * np.float32(0.42 / width)) ** 2, 0, 1)
    return t * t * t
