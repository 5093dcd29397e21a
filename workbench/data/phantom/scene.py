"""Where things lie in one phantom: pixel grid, the spine with its neighbours above T1 and below L5, body habitus.

Lengths are millimetres in the frame of the rotated geometry (x to the image's right, y down, T1's centre at the
origin); a level is a number along the spine, 0 at T1's centre and 16 at L5's, negative in the neck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.data.phantom.geometry import SpineGeometry, build

#: Pixels from top to bottom of every phantom.
ROWS = 704

#: Widths and heights of C7 up to C1 against T1's. Rough anatomy, they only have to look like neighbours.
_NECK_WIDTHS = np.array([0.97, 0.90, 0.84, 0.80, 0.78, 0.80, 0.95])
_NECK_HEIGHTS = np.array([0.93, 0.86, 0.84, 0.84, 0.86, 0.95, 0.70])

#: Forward lean in degrees by level: kyphosis between T1 and T12, lordosis below.
_LEAN_LEVELS = np.array([-7.0, -3.0, -1.0, 0.0, 2.0, 4.0, 7.0, 10.0, 12.0, 14.0, 15.0, 16.0, 17.0])
_LEAN = np.array([-4.0, 6.0, 18.0, 23.0, 21.0, 13.0, 2.0, -8.0, -9.0, -3.0, 7.0, 20.0, 36.0])

#: Levels and depths of the bodies, front to back, mm.
_DEPTHS = (np.array([0, 4, 8, 12, 16]), np.array([16, 20, 26, 31, 34]))


@dataclass(frozen=True)
class Body:
    """One vertebral body as the renderer needs it: mm and radians.

    Args:
        level: Level on the spine, −7 (C1) to 16 (L5).
        centre: Centre (2,) in mm.
        tilt: Tilt of the mid-line, clockwise on the screen.
        wedge: Angle of the lower against the upper endplate.
        upper: Width of the upper endplate.
        lower: Width of the lower endplate.
        height: Height on the axis.
        depth: Front to back.
        leans: Lean of the upper and lower endplate against the ray: opens them to ellipses.
        rotation: Axial rotation, positive turns the front to the image's right.
    """

    level: int
    centre: Float[np.ndarray, "xy=2"]
    tilt: float
    wedge: float
    upper: float
    lower: float
    height: float
    depth: float
    leans: tuple[float, float]
    rotation: float

    @property
    def width(self) -> float:
        """Mean of the two endplate widths."""
        return (self.upper + self.lower) / 2


@dataclass(frozen=True)
class Scene:
    """Everything that the layers share.

    Args:
        geometry: The spine, already turned with the image.
        columns: Width of the image in pixels; its height is `ROWS`.
        pitch: Millimetres per pixel.
        origin: Position (2,) of the centre of the upper left pixel.
        bodies: C1 to L5 from top to bottom.
        sacrum: Centre of the sacrum's upper endplate, (2,) mm.
        sacral_tilt: Tilt of the sacrum in radians.
        size: Body size against an arc of 412 mm.
        girth: Width of trunk and chest against the usual.
        mirrored: Whether the heart lies to the image's left.
        density: Mineral density against the usual.
    """

    geometry: SpineGeometry
    columns: int
    pitch: float
    origin: Float[np.ndarray, "xy=2"]
    bodies: tuple[Body, ...]
    sacrum: Float[np.ndarray, "xy=2"]
    sacral_tilt: float
    size: float
    girth: float
    mirrored: bool
    density: float

    @property
    def heart_side(self) -> int:
        """+1 where the heart lies to the image's right."""
        return -1 if self.mirrored else 1

    def body(self, level: int) -> Body:
        """The body of a level from −7 (C1) to 16 (L5)."""
        return self.bodies[level + 7]

    def rows_mm(self, step: int = 1) -> Float[np.ndarray, "rows 1"]:
        """y of the rows of a grid of every `step` pixels (block centres), as a column."""
        at = np.arange(ROWS // step, dtype=np.float32) * step + (step - 1) / 2
        return (self.origin[1] + at * self.pitch).astype(np.float32)[:, None]

    def columns_mm(self, step: int = 1) -> Float[np.ndarray, "1 columns"]:
        """x of the columns of a grid of every `step` pixels (block centres), as a row."""
        at = np.arange(-(-self.columns // step), dtype=np.float32) * step + (step - 1) / 2
        return (self.origin[0] + at * self.pitch).astype(np.float32)[None]

    def level_at(self, y: np.ndarray) -> np.ndarray:
        """Level on the spine at a height, continued evenly beyond its ends."""
        return np.interp(y, *self._levels()).astype(np.float32)

    def height_of(self, level: float | np.ndarray) -> np.ndarray:
        """y of a level."""
        heights, levels = self._levels()
        return np.interp(level, levels, heights)

    def axis_at(self, y: np.ndarray) -> np.ndarray:
        """x of the spine at a height."""
        points = np.array([body.centre for body in self.bodies] + [self.sacrum])
        return np.interp(y, points[:, 1], points[:, 0]).astype(np.float32)

    def middle_at(self, y: np.ndarray) -> np.ndarray:
        """x of the trunk's middle: it follows the curved spine by a third."""
        points = np.array([self.body(0).centre, self.sacrum])
        chord = np.interp(y, points[:, 1], points[:, 0])
        return (chord + 0.35 * (self.axis_at(y) - chord)).astype(np.float32)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Millimetres to pixels, (…, 2)."""
        return (np.asarray(points) - self.origin) / self.pitch

    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        heights = [float(body.centre[1]) for body in self.bodies]
        levels = [float(body.level) for body in self.bodies]
        top, bottom = heights[0] - 200 * self.size, float(self.sacrum[1])
        heights = [top, *heights, bottom, bottom + 330 * self.size]
        return np.array(heights), np.array([levels[0] - 11, *levels, 16.7, 16.7 + 9])


def draw_scene(geometry: SpineGeometry, rng: np.random.Generator, *, loose: bool, strong: bool) -> Scene:
    """Turn the spine, choose the crop, and draw the body around it.

    Args:
        geometry: The spine.
        rng: Source of all randomness.
        loose: Whether the image shows head and pelvis too.
        strong: Whether the patient may stand badly: more lean, more rotation, steeper angle.
    """
    turned = _turn(geometry, float(np.clip(rng.normal(0, 1.6 if not strong else 2.5), -4, 4)))
    pitch, columns, origin = _crop(turned, rng, loose=loose)
    size = turned.arc / 412
    bodies = _bodies(turned, rng, size, strong=strong)
    last = bodies[-1]
    tilt = 0.4 * last.tilt + np.radians(rng.normal(0, 2))
    gap = last.height / 2 + size * rng.uniform(4.0, 9.0)
    sacrum = last.centre + gap * down((last.tilt + tilt) / 2)
    return Scene(
        geometry=turned,
        columns=columns,
        pitch=pitch,
        origin=origin,
        bodies=bodies,
        sacrum=sacrum,
        sacral_tilt=float(tilt),
        size=size,
        girth=float(np.clip(rng.normal(1, 0.09), 0.82, 1.25)),
        mirrored=bool(rng.random() < 0.12),
        density=float(rng.uniform(0.65, 1.2)),
    )


def across(angle: float) -> Float[np.ndarray, "xy=2"]:
    """Unit vector along a mid-line tilted by an angle in radians."""
    return np.array([np.cos(angle), np.sin(angle)])


def down(angle: float) -> Float[np.ndarray, "xy=2"]:
    """Unit vector down the axis of something tilted by an angle in radians."""
    return np.array([-np.sin(angle), np.cos(angle)])


def _turn(geometry: SpineGeometry, degrees: float) -> SpineGeometry:
    return build(
        geometry.tilts + degrees,
        geometry.wedges,
        geometry.upper_widths,
        geometry.lower_widths,
        geometry.heights,
        geometry.discs,
        geometry.rotations,
        kind=geometry.kind,
        side=geometry.side,
    )


def _crop(
    geometry: SpineGeometry, rng: np.random.Generator, *, loose: bool
) -> tuple[float, int, Float[np.ndarray, "xy=2"]]:
    """Pitch, columns and origin. Source of the tight crop's numbers: specification, section 1.4."""
    if loose:
        top, bottom = rng.uniform(0.10, 0.30), rng.uniform(0.68, 0.84)
    else:
        top = np.clip(rng.normal(0.066, 0.015), 0.042, 0.14)
        bottom = np.clip(rng.normal(0.912, 0.023), 0.82, 0.945)
    ends = geometry.centres[[0, -1], 1]
    pitch = float(np.ptp(ends) / ((bottom - top) * (ROWS - 1)))
    columns = _columns(geometry, rng, pitch, loose=loose)
    spread = geometry.corners[..., 0]
    room = columns * pitch - np.ptp(spread)
    shift = np.clip(rng.normal(0.5, 0.13), 0.12, 0.88) * room
    return pitch, columns, np.array([spread.min() - shift, ends[0] - top * (ROWS - 1) * pitch])


def _columns(geometry: SpineGeometry, rng: np.random.Generator, pitch: float, *, loose: bool) -> int:
    needed = np.ptp(geometry.corners[..., 0]) / pitch + 24
    drawn = rng.uniform(290, 384) if loose else np.clip(rng.normal(298, 36), 230, 384)
    return int(np.clip(max(drawn, needed), 230, 384))


def _bodies(
    geometry: SpineGeometry, rng: np.random.Generator, size: float, *, strong: bool
) -> tuple[Body, ...]:
    """C1 to L5 with their lean against the ray and their rotation."""
    lean = np.radians(_LEAN * rng.uniform(0.6, 1.25) + rng.normal(0, 7 if strong else 4))
    extra = np.radians(rng.normal(0, 1.2, 24) + rng.normal(0, 9 if strong else 2.5))
    depth = size * rng.uniform(0.92, 1.1)
    spine = tuple(_body(geometry, k, depth, lean, float(extra[k + 7])) for k in range(17))
    return (*_neck(spine[0], float(geometry.discs[0]), rng, lean, extra), *spine)


def _body(geometry: SpineGeometry, k: int, depth: float, lean: np.ndarray, extra: float) -> Body:
    return Body(
        level=k,
        centre=geometry.centres[k],
        tilt=float(np.radians(geometry.tilts[k])),
        wedge=float(np.radians(geometry.wedges[k])),
        upper=float(geometry.upper_widths[k]),
        lower=float(geometry.lower_widths[k]),
        height=float(geometry.heights[k]),
        depth=depth * float(np.interp(k, *_DEPTHS)),
        leans=_leans(k, lean),
        rotation=float(np.radians(geometry.rotations[k])) + extra,
    )


def _leans(level: int, lean: np.ndarray) -> tuple[float, float]:
    """Lean of a level's upper and lower endplates."""
    upper, lower = np.interp([level - 0.35, level + 0.35], _LEAN_LEVELS, lean)
    return float(upper), float(lower)


def _neck(
    first: Body, gap: float, rng: np.random.Generator, lean: np.ndarray, extra: np.ndarray
) -> tuple[Body, ...]:
    """C1 to C7, each set on the one below; the neck turns upright within a few levels."""
    bodies: list[Body] = []
    below, straightening = first, rng.uniform(0.5, 0.95)
    for i in range(7):
        tilt = below.tilt * straightening + float(np.radians(rng.normal(0, 1.5)))
        below = _above(first, below, i, tilt, gap, rng, lean, float(extra[6 - i]))
        bodies.insert(0, below)
    return tuple(bodies)


def _above(
    first: Body,
    below: Body,
    i: int,
    tilt: float,
    gap: float,
    rng: np.random.Generator,
    lean: np.ndarray,
    rotation: float,
) -> Body:
    """The i-th body above T1, set on the one below it."""
    width, height = first.upper * _NECK_WIDTHS[i], first.height * _NECK_HEIGHTS[i]
    reach = below.height / 2 * down(below.tilt) + height / 2 * down(tilt)
    return Body(
        level=-1 - i,
        centre=below.centre - reach - gap * rng.uniform(0.85, 1.1) * down((below.tilt + tilt) / 2),
        tilt=tilt,
        wedge=float(np.radians(rng.normal(0, 1.5))),
        upper=width * 0.97,
        lower=width * 1.03,
        height=height,
        depth=first.depth,
        leans=_leans(-1 - i, lean),
        rotation=rotation,
    )
