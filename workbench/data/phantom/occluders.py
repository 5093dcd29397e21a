"""What spoils a film: implants, braces, electrodes, aprons, letters, inversion. Source: specification, section 7.4."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workbench.data.phantom.scene import ROWS, Body, Scene, across, down
from workbench.data.phantom.sheet import Sheet, ellipse

#: What a film may have, and how often, by level of difficulty.
CLEAN = {"letters": 0.2, "shutter": 0.15}
HARD = {
    "loose crop": 0.4,
    "low dose": 0.35,
    "inverted": 0.12,
    "rods and screws": 0.2,
    "brace buckles": 0.25,
    "electrodes": 0.3,
    "bar": 0.3,
    "apron": 0.2,
    "letters": 0.6,
    "shutter": 0.3,
}


def choose_occluders(rng: np.random.Generator, *, hard: bool) -> tuple[str, ...]:
    """Names of what one phantom has; at least one where it is to be hard."""
    names = tuple(name for name, share in (HARD if hard else CLEAN).items() if rng.random() < share)
    return names or (("bar",) if hard else ())


def add_metal(total: np.ndarray, scene: Scene, rng: np.random.Generator, names: tuple[str, ...]) -> None:
    """Add what absorbs X-rays to a map of attenuation (rows, columns)."""
    sheet, strength = Sheet(scene), rng.uniform(2.0, 4.0)
    drawn = [draw(sheet, scene, rng) for name, draw in _METAL.items() if name in names]
    if drawn:
        total += np.float32(strength) * sheet.array(0.5)


def _implants(sheet: Sheet, scene: Scene, rng: np.random.Generator) -> None:
    """Two rods beside the midline with pedicle screws from one level to another."""
    first = int(rng.integers(1, 9))
    last = int(rng.integers(first + 4, 17))
    for s in (-1, 1):
        rod = []
        for k in range(first, last + 1):
            rod.append(_screw(sheet, scene.body(k), rng, s))
        sheet.line(np.array(rod), 5.5, 0.85)


def _screw(sheet: Sheet, body: Body, rng: np.random.Generator, s: int) -> np.ndarray:
    """Draw most of a rod's pedicle screws; where the rod passes, (2,) mm."""
    e, n = across(body.tilt), down(body.tilt)
    aside = s * 0.3 * body.width - 25 * np.sin(body.rotation)
    head = body.centre + e * aside - n * 0.1 * body.height
    if rng.random() < 0.75:
        tip = head - e * s * 0.14 * body.width + n * rng.normal(0, 1.5)
        sheet.line(np.stack([head, tip]), 5.5, 0.55)
        sheet.line(np.stack([head - n * 5, head + n * 5]), 9, 0.8)
    return head


def _brace(sheet: Sheet, scene: Scene, rng: np.random.Generator) -> None:
    """Buckles and strips of a brace."""
    for _ in range(rng.integers(2, 6)):
        y = scene.height_of(rng.uniform(4, 16))
        x = float(scene.middle_at(np.array(y))) + rng.uniform(-70, 70)
        w, h = rng.uniform(8, 18), rng.uniform(6, 14)
        box = np.array([[-w, -h], [w, -h], [w, h], [-w, h], [-w, -h]]) / 2 + [x, y]
        sheet.line(box, 2.5, rng.uniform(0.3, 0.8))
        sheet.line(np.array([[x - w, y], [x - w - rng.uniform(20, 60), y + rng.normal(0, 6)]]), 8, 0.05)
    for _ in range(rng.integers(0, 3)):
        x = float(scene.middle_at(np.array(0.0))) + rng.uniform(-80, 80)
        ends = np.array([[x, scene.height_of(4.0)], [x + rng.normal(0, 15), scene.height_of(15.0)]])
        sheet.line(ends, rng.uniform(6, 15), 0.12)


def _electrodes(sheet: Sheet, scene: Scene, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 5)):
        y = scene.height_of(rng.uniform(0, 15))
        x = float(scene.middle_at(np.array(y))) + rng.uniform(-70, 70)
        sheet.polygon(ellipse((6, 6), 20, (x, float(y))), rng.uniform(0.2, 0.6))
        a = np.linspace(0, 1, 12)
        wave = rng.uniform(10, 40) * np.sin(a * rng.uniform(2, 6))
        run = np.array([rng.uniform(-120, 120), rng.uniform(-200, 200)])
        sheet.line(np.array([x, y]) + a[:, None] * run + wave[:, None] * [1, 0.3], 1.4, 0.35)


def _bar(sheet: Sheet, scene: Scene, rng: np.random.Generator) -> None:
    """A ruler, a stand or a tube across the picture."""
    y = scene.height_of(rng.uniform(0, 16))
    at = np.array([float(scene.axis_at(np.array(y))) + rng.uniform(-45, 45), y])
    angle = rng.uniform(0, np.pi)
    along = rng.uniform(40, 260) * np.array([np.cos(angle), np.sin(angle)])
    sheet.line(np.stack([at - along, at + along]), rng.uniform(3, 16), rng.uniform(0.06, 0.5))


def _apron(sheet: Sheet, scene: Scene, rng: np.random.Generator) -> None:
    """The edge of a lead apron or gonad shield reaching in from below or from a side."""
    y = float(scene.height_of(rng.uniform(15.5, 18)))
    x = float(scene.axis_at(np.array(y)))
    corners = _shield(rng, x, y) if rng.random() < 0.5 else _skirt(rng, x, y)
    sheet.polygon(np.array(corners), rng.uniform(0.3, 0.9))


def _shield(rng: np.random.Generator, x: float, y: float) -> list[list[float]]:
    side = rng.choice([-1, 1])
    near, far = x + side * rng.uniform(20, 60), 250 * side
    top = y - rng.uniform(20, 120)
    return [[near, y + 200], [near + side * 10, top], [near + far, top - 20], [near + far, y + 200]]


def _skirt(rng: np.random.Generator, x: float, y: float) -> list[list[float]]:
    dip, middle = rng.normal(0, 12), [x, y + rng.uniform(-4, 12)]
    return [[x - 200, y - dip], middle, [x + 200, y + dip], [x + 200, y + 300], [x - 200, y + 300]]


#: What absorbs X-rays, in the order of drawing.
_METAL = {
    "rods and screws": _implants,
    "brace buckles": _brace,
    "electrodes": _electrodes,
    "bar": _bar,
    "apron": _apron,
}


def add_overlay(
    grey: np.ndarray, scene: Scene, rng: np.random.Generator, names: tuple[str, ...]
) -> np.ndarray:
    """Letters on the picture, and black and white exchanged."""
    if "letters" in names:
        grey = _letters(grey, scene, rng)
    if "inverted" in names:
        grey = 1 - grey
    return _shutter(grey, scene, rng) if "shutter" in names else grey


def _shutter(grey: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Black margins beside the field that was exposed."""
    spine = scene.pixels(scene.geometry.corners)[..., 0]
    room = np.array([spine.min(), grey.shape[1] - spine.max()]) - 12
    wide = np.minimum(grey.shape[1] * rng.uniform(0, 0.12, 2), room) * (rng.random(2) < 0.7)
    left, right = (max(int(w), 0) for w in wide)
    grey = grey.copy()
    grey[:, :left] = 0
    grey[:, grey.shape[1] - right :] = 0
    return grey


def _letters(grey: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    layer = Image.new("L", (scene.columns, ROWS), 0)
    draw = ImageDraw.Draw(layer)
    for _ in range(rng.integers(1, 4)):
        text = str(rng.choice(["R", "L", "PA", "AP", "STANDING", "A. B. 12", "ERECT", "14:05", "cm"]))
        font = ImageFont.load_default(size=int(rng.integers(10, 34)))
        at = (float(rng.uniform(0, scene.columns - 30)), float(rng.uniform(0, ROWS - 30)))
        draw.text(at, text, fill=int(rng.integers(150, 256)), font=font)
    return np.maximum(grey, np.asarray(layer, dtype=np.float32) / 255)
