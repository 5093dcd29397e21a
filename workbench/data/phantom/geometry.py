"""Spines in the frontal plane with exact angles: vertebral chain, wedged bodies, axial rotation.

All lengths are millimetres, x to the image's right, y down, the centre of T1 at the origin. The tilt of a vertebra is
the angle of its mid-line from the left to the right side, positive when turned clockwise on the screen. Side mid-points
lie on the mid-line exactly, so the official angle between vertebrae k and l is |τ_k − τ_l|. Body sizes follow the
ratios measured on the AASCE labels. Source: specification, sections 1.4, 7.2 and 7.3; the irregularities of tilt,
wedge and size are fitted to the statistics of section 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from workbench.data.phantom.curves import Kind, Levels, draw_curves
from workbench.data.vertebrae import VERTEBRAE, Centres, Corners
from workbench.errors import InvalidInputError, UnknownNameError

Side = Literal["right", "left"]
Mix = Literal["aasce", "screening"]

Gaps = Float[np.ndarray, " 16"]

#: Widths, heights and disc gaps below in 1/10,000 of the arc, upper over lower width in 1/1000, T1 to L5.
_WIDTHS = [668, 651, 613, 598, 608, 627, 659, 695, 725, 773, 835, 886, 940, 997, 1047, 1071, 1097]
_HEIGHTS = [348, 362, 380, 398, 417, 424, 434, 440, 451, 478, 516, 557, 579, 581, 604, 608, 511]
_DISCS = [111, 119, 114, 113, 114, 112, 119, 126, 131, 145, 163, 181, 209, 236, 232, 202]
_TAPERS = [881, 909, 950, 942, 922, 929, 955, 967, 927, 901, 893, 926, 952, 936, 919, 941, 957]
_ARC = 412.0  # mm from T1's to L5's centre along the spine


@dataclass(frozen=True, eq=False)
class SpineGeometry:
    """One spine in the frontal plane.

    Args:
        corners: TL, TR, BL, BR of each body outline, (17, 4, 2) mm.
        centres: Centres of the chain, (17, 2) mm; the mean of the corners lies within a few tenths of a millimetre.
        tilts: Mid-line tilt of each vertebra, (17,) degrees, positive clockwise on the screen.
        wedges: Angle of the lower against the upper endplate, (17,) degrees (nominal; see `endplate_tilts`).
        upper_widths: Width of the upper endplates, (17,) mm.
        lower_widths: Width of the lower endplates, (17,) mm.
        heights: Body heights on the axis, (17,) mm.
        discs: Gaps below T1 to L4, (16,) mm.
        rotations: Axial rotation, (17,) degrees; positive turns the front of the body to the image's right.
        kind: Lenke type of the curve that was drawn, or ``"mild"``.
        side: The patient's side to which the main thoracic curve bulges; right is the image's left.
    """

    corners: Corners
    centres: Centres
    tilts: Levels
    wedges: Levels
    upper_widths: Levels
    lower_widths: Levels
    heights: Levels
    discs: Gaps
    rotations: Levels
    kind: Kind = "mild"
    side: Side = "right"

    @property
    def angle_matrix(self) -> Float[np.ndarray, "17 17"]:
        """The exact official angles |τ_k − τ_l| in degrees."""
        return np.abs(self.tilts[:, None] - self.tilts[None, :])

    @property
    def major_cobb(self) -> float:
        """Greatest official angle in degrees: the difference of the extreme tilts."""
        return float(np.ptp(self.tilts))

    @property
    def endplate_tilts(self) -> Float[np.ndarray, "17 2"]:
        """Exact tilts of the upper and lower endplates, degrees; τ ∓ ω/2 where both are equally wide."""
        rise = (self.upper_widths + self.lower_widths) / 2 * np.tan(np.radians(self.wedges / 2))
        upper = self.tilts - np.degrees(np.arctan2(rise, self.upper_widths))
        lower = self.tilts + np.degrees(np.arctan2(rise, self.lower_widths))
        return np.stack([upper, lower], axis=1)

    @property
    def arc(self) -> float:
        """Sum of the distances between neighbouring centres, mm."""
        return float(np.linalg.norm(np.diff(self.centres, axis=0), axis=1).sum())


def chain(tilts: Levels, heights: Levels, discs: Gaps) -> Centres:
    """Centres (17, 2) of vertebrae stacked along their axes, T1 at (0, 0): half a body, the disc, half a body.

    Source: specification, section 7.3, step 3.

    Example:
        >>> chain(np.zeros(17), np.full(17, 20.0), np.full(16, 6.0))[1]
        array([ 0., 26.])
    """
    body = _down(tilts) * np.asarray(heights)[:, None] / 2
    between = _down((tilts[:-1] + tilts[1:]) / 2) * np.asarray(discs)[:, None]
    return np.vstack([np.zeros(2), np.cumsum(body[:-1] + between + body[1:], axis=0)])


def build(
    tilts: Levels | float,
    wedges: Levels | float,
    upper_widths: Levels | float,
    lower_widths: Levels | float,
    heights: Levels | float,
    discs: Gaps | float,
    rotations: Levels | float | None = None,
    *,
    kind: Kind = "mild",
    side: Side = "right",
) -> SpineGeometry:
    """Assemble a spine from tilts (degrees) and sizes (mm); numbers may stand for equal levels.

    Raises:
        InvalidInputError: a wrong count, numbers that are not finite, or a size of zero or less.

    Example:
        >>> build(np.linspace(15, -14, 17), 0, 36, 36, 20, 6).major_cobb
        29.0
    """
    τ, ω = _levels("tilts", tilts), _levels("wedges", wedges)
    upper = _levels("upper_widths", upper_widths, positive=True)
    lower = _levels("lower_widths", lower_widths, positive=True)
    h = _levels("heights", heights, positive=True)
    gaps = _levels("discs", discs, VERTEBRAE - 1, positive=True)
    centres = chain(τ, h, gaps)
    corners = centres[:, None] + _outlines(τ, ω, upper, lower, h)
    turned = _levels("rotations", 0.0 if rotations is None else rotations)
    return SpineGeometry(corners, centres, τ, ω, upper, lower, h, gaps, turned, kind, side)


def balance(tilts: Levels, heights: Levels, discs: Gaps, offset: float = 0.0) -> Levels:
    """Tilts less a constant, such that L5's centre lies `offset` mm to the right of T1's; differences stay.

    Source: specification, section 7.3, step 4.
    """
    length = float(np.sum(heights) + np.sum(discs))
    for _ in range(20):
        error = chain(tilts, heights, discs)[-1, 0] - offset
        tilts = tilts + np.degrees(error / length)
    return tilts


def draw_geometry(rng: np.random.Generator, *, kind: Kind | None = None, mix: Mix = "aasce") -> SpineGeometry:
    """Draw a spine; the same generator state gives the same spine.

    Args:
        rng: Source of all randomness.
        kind: Lenke type of the curve, ``"1"`` to ``"6"`` or ``"mild"``; drawn by the mix where None.
        mix: ``"aasce"`` for the curves of scoliosis clinics, ``"screening"`` for mostly straight spines.

    Raises:
        UnknownNameError: a kind or mix that is not known.

    Example:
        >>> draw_geometry(np.random.default_rng(0), kind="5").corners.shape
        (17, 4, 2)
    """
    if mix not in ("aasce", "screening"):
        raise UnknownNameError("mix", mix, ["aasce", "screening"])
    straight = mix == "screening" and kind is None and rng.random() > 0.03
    curves = draw_curves(rng, kind, straight=straight)
    side: Side = "right" if rng.random() < 0.9 else "left"
    curves = curves if side == "right" else curves.mirrored()
    sizes = _draw_sizes(rng)
    uneven = curves.tilts() + rng.normal(0, 0.5 if straight else 1.0, VERTEBRAE)
    tilts = balance(uneven, sizes[2], sizes[3], rng.normal(0, 10.0))
    wedges = 0.44 * np.gradient(uneven) + rng.normal(0, 2.0, VERTEBRAE)
    rotations = curves.rotations(rng.uniform(0.25, 0.4))
    return build(tilts, wedges, *sizes, rotations, kind=curves.kind, side=side)


def _draw_sizes(rng: np.random.Generator) -> tuple[Levels, Levels, Levels, Gaps]:
    """Upper widths, lower widths, heights and discs in mm: one scale, one slenderness, noise along the spine."""
    scale = _ARC * np.clip(rng.normal(1, 0.06), 0.8, 1.2)
    slender = np.clip(rng.normal(1, 0.07), 0.8, 1.2)
    width = np.array(_WIDTHS) * 1e-4 * scale * slender * _along(rng, 0.05)
    height = np.array(_HEIGHTS) * 1e-4 * scale * _along(rng, 0.1)
    disc = np.array(_DISCS) * 1e-4 * scale * _along(rng, 0.25)[:-1]
    ratio = np.array(_TAPERS) * 1e-3 + rng.normal(0, 0.02, VERTEBRAE)
    return width * 2 * ratio / (1 + ratio), width * 2 / (1 + ratio), height, disc


def _along(rng: np.random.Generator, spread: float, memory: float = 0.6) -> Levels:
    """Factors about 1 that change slowly from level to level, within 2.5 spreads."""
    steps = rng.normal(0, 1, VERTEBRAE)
    for k in range(1, VERTEBRAE):
        steps[k] = memory * steps[k - 1] + np.sqrt(1 - memory**2) * steps[k]
    return 1 + spread * np.clip(steps, -2.5, 2.5)


def _outlines(tilts: Levels, wedges: Levels, upper: Levels, lower: Levels, heights: Levels) -> Corners:
    """Corners about each centre, (17, 4, 2): each side is symmetric about the mid-line."""
    rise = (upper + lower) / 2 * np.tan(np.radians(wedges / 2))
    left, right = (heights - rise) / 2, (heights + rise) / 2
    x = np.stack([-upper, upper, -lower, lower], axis=1) / 2
    y = np.stack([-left, -right, left, right], axis=1)
    across = np.stack([np.cos(np.radians(tilts)), np.sin(np.radians(tilts))], axis=1)
    return x[..., None] * across[:, None] + y[..., None] * _down(tilts)[:, None]


def _down(tilts: np.ndarray) -> np.ndarray:
    """Unit vectors down the axis of tilted vertebrae, (…, 2)."""
    angle = np.radians(tilts)
    return np.stack([-np.sin(angle), np.cos(angle)], axis=-1)


def _levels(name: str, values: object, count: int = VERTEBRAE, *, positive: bool = False) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in ((), (count,)):
        raise InvalidInputError(f"{name} has shape {array.shape}; expected one number or ({count},)")
    if not np.isfinite(array).all() or (positive and (array <= 0).any()):
        raise InvalidInputError(
            f"{name} must be finite{' and positive' if positive else ''}; given {array.tolist()}"
        )
    return np.broadcast_to(array, count).copy()
