"""Families of scoliotic curves: where the tilt of the vertebrae turns, and how it runs in between.

The tilt alternates between extremes that sit on the end vertebrae of a proximal thoracic, a main thoracic and a
lumbar curve; the differences are the curves' Cobb angles. Source: specification, section 7.3, steps 1, 2 and 8; the
shares of the types, the secondary curves and the tilts of T1 and L5 are fitted to the statistics of section 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from workbench.data.vertebrae import VERTEBRAE
from workbench.errors import UnknownNameError

Kind = Literal["1", "2", "3", "4", "5", "6", "mild"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Levels = Float[np.ndarray, " 17"]

#: How often each kind is drawn.
_SHARES = (0.20, 0.10, 0.08, 0.03, 0.26, 0.18, 0.15)

#: Proximal thoracic, main thoracic and lumbar curve of each kind, as ranges of the major Cobb angle.
_FRACTIONS: dict[Kind, tuple[tuple[float, float], ...]] = {
    "1": ((0.20, 0.75), (1.0, 1.0), (0.45, 0.80)),
    "2": ((0.60, 0.90), (1.0, 1.0), (0.45, 0.80)),
    "3": ((0.20, 0.75), (1.0, 1.0), (0.70, 0.95)),
    "4": ((0.60, 0.90), (1.0, 1.0), (0.70, 0.95)),
    "5": ((0.15, 0.70), (0.50, 0.80), (1.0, 1.0)),
    "6": ((0.15, 0.70), (0.70, 0.95), (1.0, 1.0)),
    "mild": ((0.30, 0.80), (0.60, 1.0), (0.60, 1.0)),
}

#: Steepest mean change of tilt within a curve, degrees a level.
_STEEPEST = 11.0


@dataclass(frozen=True, eq=False)
class Curves:
    """The extremes of the tilt along a spine.

    Args:
        kind: Lenke type of the family, or ``"mild"``.
        levels: Levels from T1 (0) to L5 (16) at which the tilt turns, increasing.
        values: Tilts there in degrees, positive clockwise on the screen.
    """

    kind: Kind
    levels: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]

    def mirrored(self) -> Curves:
        """The same curves with every bulge on the other side."""
        return Curves(self.kind, self.levels, -self.values)

    def tilts(self) -> Levels:
        """Tilts of all vertebrae: half a cosine between the extremes, which so sit on vertebrae exactly."""
        piece, way = self._places()
        start, end = self.values[piece], self.values[piece + 1]
        return start + (end - start) * (1 - np.cos(np.pi * way)) / 2

    def rotations(self, share: float) -> Levels:
        """Axial rotations: `share` of each Cobb angle at the middle of its curve, none at the ends.

        Positive turns the vertebra's front to the image's right, the side to which a curve of rising tilt bulges.
        """
        piece, way = self._places()
        return share * (self.values[piece + 1] - self.values[piece]) * np.sin(np.pi * way)

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """For each vertebra the curve it belongs to, and how far down that curve it lies, in [0, 1]."""
        at = np.arange(VERTEBRAE)
        piece = np.clip(np.searchsorted(self.levels, at, side="right") - 1, 0, len(self.levels) - 2)
        start, end = self.levels[piece], self.levels[piece + 1]
        return piece, (at - start) / (end - start)


def draw_curves(rng: np.random.Generator, kind: Kind | None = None, *, straight: bool = False) -> Curves:
    """Curves of a right thoracic spine (its main curve bulges to the image's left).

    Args:
        rng: Source of all randomness.
        kind: The family, or None to draw one.
        straight: Whether the spine stays below 10°; its kind is ``"mild"`` then.

    Raises:
        UnknownNameError: another kind.
    """
    if kind is not None and kind not in KINDS:
        raise UnknownNameError("kind of curve", kind, KINDS)
    chosen: Kind = "mild" if straight else kind or KINDS[int(rng.choice(len(KINDS), p=_SHARES))]
    ends = _draw_ends(rng, chosen)
    cobb = _draw_cobb(rng, chosen, straight=straight)
    curves = cobb * np.array([rng.uniform(*span) for span in _FRACTIONS[chosen]])
    curves = np.minimum(curves, _STEEPEST * np.diff(ends))
    tilts = np.cumsum([0.0, *(curves * [1, -1, 1])])
    # Above and below the end vertebrae the spine turns back, at L5 often by much of the lumbar curve.
    first = tilts[0] + min(curves[0] * rng.uniform(0.0, 0.5), _STEEPEST * ends[0])
    last = tilts[3] - min(curves[2] * rng.uniform(0.2, 0.9), _STEEPEST * (VERTEBRAE - 1 - ends[3]))
    levels, which = np.unique([0, *ends, VERTEBRAE - 1], return_index=True)
    return Curves(chosen, levels, np.array([first, *tilts, last])[which])


def _draw_ends(rng: np.random.Generator, kind: Kind) -> np.ndarray:
    """The four end vertebrae; major lumbar curves lie lower than the rest and reach L5 at times."""
    low = kind in ("5", "6")
    junction = rng.integers(10, 12) if low else rng.integers(9, 13)
    bottom = rng.integers(15, 17) if low else rng.integers(14, 16)
    return np.array([rng.integers(0, 3), rng.integers(4, 6), junction, bottom])


def _draw_cobb(rng: np.random.Generator, kind: Kind, *, straight: bool) -> float:
    """The major Cobb angle in degrees."""
    if straight:
        return float(np.clip(rng.lognormal(np.log(3.0), 0.5), 0.5, 7.0))
    if kind == "mild":
        return float(rng.uniform(6.0, 15.0))
    return float(np.clip(rng.lognormal(np.log(32.0), 0.5), 6.0, 85.0))
