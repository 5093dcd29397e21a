"""Cobb angles as a clinician names them: curves between inflection points, apex, convexity, severity, Lenke type.

A curve runs between two vertebrae at which the tilt turns; its Cobb angle is taken from the upper endplate of the
upper one to the lower endplate of the lower one, and its name follows from its apex. A turn of less than 5° counts as
reading error, of the size of one reader's limits of agreement. Everything is read from one standing film: true Lenke
types need bending films, so the type here is an approximation by a threshold. Research use, not for diagnosis.
Source: specification, sections 5.4 and 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from workbench.data.vertebrae import LEVELS, centres_of, check_corners, visible
from workbench.errors import InvalidInputError
from workbench.spine.angles import FEWEST, endplate_tilts_of, tilts_of

Name = Literal["PT", "MT", "TL"]
Severity = Literal["none", "mild", "moderate", "severe"]
Lenke = Literal["1", "2", "3", "4", "5", "6"]

#: A tilt must turn back by this much, degrees, before a curve ends.
TURN = 5.0
#: Cobb angle from which a curve counts for the Lenke type, degrees.
STRUCTURAL = 25.0

_LAST_PT, _LAST_MT = LEVELS.index("T5"), LEVELS.index("T11")


@dataclass(frozen=True)
class Curve:
    """One curve of the spine.

    Args:
        name: By the apex: ``"PT"`` proximal thoracic (to T5), ``"MT"`` main thoracic (T6 to T11), ``"TL"``
            thoracolumbar or lumbar (from T12).
        cobb: Angle between the end vertebrae's outer endplates, degrees.
        upper: Upper end vertebra, 0-based level.
        lower: Lower end vertebra.
        apex: Vertebra farthest from the line between the end vertebrae.
        convexity: Side of the *image* to which the curve bulges; as films are shown, the patient's other side.
    """

    name: Name
    cobb: float
    upper: int
    lower: int
    apex: int
    convexity: Literal["left", "right"]


@dataclass(frozen=True)
class ClinicalAngles:
    """The curves of a spine from top to bottom, at most one of each name.

    Args:
        curves: The greatest curve of each name, in the order of their apices.
        severity: By the greatest Cobb angle: below 10° ``"none"``, below 25° ``"mild"``, below 40° ``"moderate"``.
        lenke: Type by the 25° threshold, or None where no type fits.
    """

    curves: tuple[Curve, ...]
    severity: Severity
    lenke: Lenke | None

    def cobb(self, name: Name) -> float:
        """The Cobb angle of a curve in degrees, 0 where there is none of this name."""
        return max((curve.cobb for curve in self.curves if curve.name == name), default=0.0)


def clinical_angles(corners: np.ndarray) -> ClinicalAngles:
    """Curves, severity and Lenke type of a spine; vertebrae that are not seen are passed over.

    Args:
        corners: (17, 4, 2) or (68, 2) in pixels of the original image, NaN where not seen.

    Raises:
        InvalidInputError: fewer than three vertebrae are visible.

    Example:
        >>> [(curve.name, round(curve.cobb)) for curve in clinical_angles(corners).curves]
        [('PT', 12), ('MT', 38), ('TL', 24)]
    """
    array = check_corners(corners)
    levels = np.flatnonzero(visible(array))
    if len(levels) < FEWEST:
        raise InvalidInputError(f"{len(levels)} vertebrae are visible; curves need at least {FEWEST}")
    ends = turning_points(tilts_of(array[levels]))
    found = [
        _curve(array, levels[upper : lower + 1])
        for upper, lower in pairwise(ends)
        if lower - upper >= 2  # a step between neighbours has no apex
    ]
    greatest = [
        max((c for c in found if c.name == name), key=_size, default=None) for name in ("PT", "MT", "TL")
    ]
    curves = tuple(curve for curve in greatest if curve is not None)
    cobb = {curve.name: curve.cobb for curve in curves}
    lenke = lenke_type(cobb.get("PT", 0.0), cobb.get("MT", 0.0), cobb.get("TL", 0.0))
    return ClinicalAngles(curves, severity_of(max(cobb.values(), default=0.0)), lenke)


def turning_points(tilts: np.ndarray, turn: float = TURN) -> tuple[int, ...]:
    """Indices between which the tilt rises or falls by at least `turn` without turning back by as much.

    Consecutive ones are the ends of a curve, so straight stretches above the first and below the last are left out.
    A spine without such a rise or fall has none.

    Example:
        >>> turning_points(np.array([3.0, 12.0, 0.0, -13.0, -11.0, -4.0]))
        (0, 1, 3, 5)
    """
    tilts = np.round(tilts, 6)  # so that a straight stretch is one
    ends: list[int] = []
    low = high = direction = 0
    for k, tilt in enumerate(tilts):
        low = k if tilt < tilts[low] or (not ends and tilt == tilts[low]) else low
        high = k if tilt > tilts[high] or (not ends and tilt == tilts[high]) else high
        if direction <= 0 and tilt - tilts[low] >= turn:
            ends, high, direction = [*ends, low], k, 1
        elif direction >= 0 and tilts[high] - tilt >= turn:
            ends, low, direction = [*ends, high], k, -1
    return (*ends, high if direction > 0 else low) if ends else ()


def severity_of(cobb: float) -> Severity:
    """The band of a Cobb angle in degrees: none below 10, mild below 25, moderate below 40, severe from there."""
    bands: tuple[tuple[float, Severity], ...] = ((10.0, "none"), (25.0, "mild"), (40.0, "moderate"))
    return next((name for limit, name in bands if cobb < limit), "severe")


def lenke_type(pt: float, mt: float, tl: float, threshold: float = STRUCTURAL) -> Lenke | None:
    """Lenke type 1 to 6 from three Cobb angles in degrees; a curve counts from `threshold` on.

    None where no curve counts, or only the proximal thoracic one.

    Example:
        >>> lenke_type(12, 48, 30)
        '3'
    """
    proximal, main, lumbar = pt >= threshold, mt >= threshold, tl >= threshold
    if proximal and lumbar:
        return "4"
    if main and lumbar:
        return "3" if mt >= tl else "6"
    if lumbar:
        return "5"
    if main:
        return "2" if proximal else "1"
    return None


def _curve(corners: np.ndarray, levels: np.ndarray) -> Curve:
    """The curve over some levels, from its upper to its lower end vertebra."""
    upper, lower = int(levels[0]), int(levels[-1])
    plates = endplate_tilts_of(corners)
    cobb = abs(float(plates[upper, 0] - plates[lower, 1]))
    centres = centres_of(corners[levels])
    chord = centres[-1] - centres[0]
    away = (centres - centres[0]) @ np.array([chord[1], -chord[0]])  # positive to the image's right
    apex = int(levels[int(np.abs(away).argmax())])
    return Curve(_name(apex), cobb, upper, lower, apex, "right" if away.sum() > 0 else "left")


def _name(apex: int) -> Name:
    return "PT" if apex <= _LAST_PT else "MT" if apex <= _LAST_MT else "TL"


def _size(curve: Curve) -> float:
    return curve.cobb
