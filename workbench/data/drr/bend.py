"""Scoliosis by warping: each vertebra is turned about its centre on the film, and the film follows.

The chain of bodies keeps its lengths: centres move with the mean of their neighbours' turns. A thin-plate spline
with control points at the corners, before and after, moves the rest, so that landmarks are exact by construction.
Ribs and soft tissue beside the spine turn half as much. Source: specification, section 7.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import RBFInterpolator

from workbench.data.vertebrae import VERTEBRAE, Corners, centres_of, visible
from workbench.errors import InvalidInputError

#: Distance of the points beside the spine that steady the warp, mm.
_BESIDE = 75.0

#: How much of a vertebra's turn the points beside it follow.
_FOLLOW = 0.5

#: Part of the turn between neighbours that the bodies take, the discs take the rest. Source: section 7.3 (5).
_WEDGE = 0.44

#: Largest drawn turn between neighbours, degrees: more would close the patient's thin discs.
_LARGEST_STEP = 9.0

#: Distance of the points above and below the chain, mm.
_BEYOND = 40.0

Points = Float[np.ndarray, "*points 2"]


@dataclass(frozen=True)
class Bend:
    """A warp of the film's plane: `corners` (17, 4, 2) where they went, and the way back of any point."""

    corners: Corners
    spline: RBFInterpolator | None

    def back(self, points: Points) -> Points:
        """Where points of the bent film came from."""
        if self.spline is None:
            return points
        return np.asarray(self.spline(points.reshape(-1, 2)).reshape(points.shape))


def bend(corners: Corners, added: Float[np.ndarray, " 17"]) -> Bend:
    """Turn each visible vertebra by its angle in `added`, degrees clockwise on the film.

    Raises:
        InvalidInputError: an angle is not finite, or the film would fold over itself.
    """
    if added.shape != (VERTEBRAE,) or not np.isfinite(added).all():
        raise InvalidInputError(f"added tilts must be 17 finite angles in degrees, not {added!r}")
    seen = visible(corners)
    if not added[seen].any():
        return Bend(corners, None)
    turns = np.radians(added[seen])
    old, new = centres_of(corners[seen]), _chain(centres_of(corners[seen]), turns)
    moved = new[:, None] + _wedged(corners[seen] - old[:, None], turns)
    bent = np.full_like(corners, np.nan)
    bent[seen] = moved
    before = np.concatenate([corners[seen].reshape(-1, 2), _around(old, np.zeros_like(turns))])
    after = np.concatenate([moved.reshape(-1, 2), _around(new, turns)])
    made = Bend(bent, RBFInterpolator(after, before, kernel="thin_plate_spline", degree=1))
    _check_folds(made)
    return made


def draw_tilts(rng: np.random.Generator, *, largest: float = 50.0) -> Float[np.ndarray, " 17"]:
    """Tilts of two or three curves, degrees, T1 to L5; their mean over T1 to L2 is 0.

    Tilts have extremes of alternating sign at the end vertebrae and follow a half cosine between them. The largest
    curve is log-normal about 25°, between 6° and `largest`; nine in ten thoracic curves are convex to the patient's
    right, the film's left. Source: specification, section 7.3.
    """
    ends = np.array([rng.uniform(0, 2), rng.uniform(4, 5.5), rng.uniform(9, 12), rng.uniform(14, 15)])
    major = float(np.clip(rng.lognormal(np.log(25), 0.5), 6, largest))
    shares = np.array([rng.uniform(0.2, 0.6), 1.0, rng.uniform(0.3, 0.8)])
    if rng.random() < 0.25:  # the lower curve is the larger one
        shares[1:] = shares[:0:-1]
    side = 1 if rng.random() < 0.9 else -1
    steps = major * shares * np.array([1, -1, 1]) * side
    extremes = np.concatenate([[0.0], np.cumsum(steps)])
    levels = np.arange(VERTEBRAE)
    tilts = np.full(VERTEBRAE, extremes[-1])
    for a, b, low, high in zip(ends, ends[1:], extremes, extremes[1:], strict=False):
        part = (levels < b) & (levels >= a)
        tilts[part] = low + (high - low) * (1 - np.cos(np.pi * (levels[part] - a) / (b - a))) / 2
    tilts[levels < ends[0]] = 0.0
    tilts *= min(1.0, _LARGEST_STEP / np.abs(np.diff(tilts)).max())
    return np.asarray(tilts - tilts[:14].mean())


def _chain(centres: Float[np.ndarray, "n 2"], turns: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    links = _turned(np.diff(centres, axis=0)[:, None], (turns[1:] + turns[:-1]) / 2)[:, 0]
    chain = np.concatenate([[[0.0, 0.0]], np.cumsum(links, 0)])
    return np.asarray(chain - chain.mean(0) + centres.mean(0))


def _wedged(
    offsets: Float[np.ndarray, "n 4 2"], turns: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 4 2"]:
    """Corners about their centre, turned; end plates lean to the neighbours' turns, so that discs don't vanish."""
    wedge = _WEDGE / 2 * np.gradient(turns)
    plates = offsets.reshape(-1, 2, 2, 2)
    middles = plates.mean(2, keepdims=True)
    upper, lower = (plates - middles).transpose(1, 0, 2, 3)
    halves = np.stack([_turned(upper, turns - wedge), _turned(lower, turns + wedge)], 1)
    return (_turned(middles[:, :, 0], turns)[:, :, None] + halves).reshape(-1, 4, 2)


def _turned(
    offsets: Float[np.ndarray, "n k 2"], turns: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n k 2"]:
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    x, y = offsets[..., 0], offsets[..., 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos], -1)


def _around(centres: Float[np.ndarray, "n 2"], turns: Float[np.ndarray, " n"]) -> Float[np.ndarray, "m 2"]:
    """Points beside every vertebra, and beyond both ends."""
    beside = np.array([[-_BESIDE, 0.0], [_BESIDE, 0.0]])
    sides = centres[:, None] + _turned(np.tile(beside, (len(centres), 1, 1)), _FOLLOW * turns)
    ends = []
    for place, along in ((0, -_BEYOND), (-1, _BEYOND)):
        row = np.array([[-_BESIDE, along], [0.0, along], [_BESIDE, along]])
        ends.append(centres[place] + _turned(row[None], _FOLLOW * turns[[place]])[0])
    return np.concatenate([sides.reshape(-1, 2), *ends])


def _check_folds(made: Bend) -> None:
    """The way back must keep left of left and above of above over the whole film about the spine."""
    low, high = np.nanmin(made.corners, (0, 1)), np.nanmax(made.corners, (0, 1))
    x = np.arange(low[0] - _BESIDE, high[0] + _BESIDE, 4.0)
    y = np.arange(low[1] - 20, high[1] + 20, 4.0)
    back = made.back(np.stack(np.meshgrid(x, y), -1))
    across, along = np.gradient(back, 4.0, axis=1), np.gradient(back, 4.0, axis=0)
    area = across[..., 0] * along[..., 1] - across[..., 1] * along[..., 0]
    if area.min() <= 0:
        raise InvalidInputError("these tilts would fold the film over itself; use smaller ones")
