"""What makes the vertebrae of one image alike, and one vertebra different from the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Look:
    """What all vertebrae of an image share: strengths in attenuation, widths in mm.

    Args:
        density: Mineral density against the usual.
        plate: Strength of the endplate lines.
        side: Strength of the side walls.
        ring: Strength of the pedicles' outlines.
        spinous: Strength of the spinous processes' outlines.
        grain: Contrast of the trabeculae.
        marrow: Strength of a ring's inside against its outline.
        waist: How much narrower the body is in its middle, as a share.
        rounded: Rounding of the corners.
        patchy: Unevenness of the endplate lines.
        hollow: Depth of the endplates' hollows.
        line: Half-width of lines.
        edge: Half-width of edges.
    """

    density: float
    plate: float
    side: float
    ring: float
    spinous: float
    grain: float
    marrow: float
    waist: float
    rounded: float
    patchy: float
    hollow: float
    line: float
    edge: float


@dataclass(frozen=True)
class Own:
    """What one vertebra has of its own; factors about 1 unless said otherwise.

    Args:
        density: Mineral density.
        plates: Strength of the upper and the lower endplate line.
        fades: How much each line fades to the left (above 0) or to the right.
        pedicles: Width, height and strength of the left and the right pedicle.
        process: Deviations of the left and the right processes, about 0.
        spinous: Length, width and strength of the spinous process.
        lean: Slant of the spinous process, about 0.
    """

    density: float
    plates: Float[np.ndarray, "ends=2"]
    fades: Float[np.ndarray, "ends=2"]
    pedicles: Float[np.ndarray, "sides=2 parts=3"]
    process: Float[np.ndarray, "sides=2 parts=4"]
    spinous: Float[np.ndarray, "parts=3"]
    lean: float


def draw_look(rng: np.random.Generator, density: float) -> Look:
    """Draw the look of an image's vertebrae."""
    return Look(
        density=density,
        plate=rng.uniform(0.19, 0.34),
        side=rng.uniform(0.06, 0.14),
        ring=rng.uniform(0.10, 0.24),
        spinous=rng.uniform(0.12, 0.30),
        grain=rng.uniform(0.08, 0.22),
        marrow=rng.uniform(0.1, 0.45),
        waist=rng.uniform(0.03, 0.08),
        rounded=rng.uniform(0.1, 1.0),
        patchy=rng.uniform(0.1, 0.35),
        hollow=rng.uniform(0.3, 2.2),
        line=rng.uniform(0.5, 0.8),
        edge=rng.uniform(0.45, 0.8),
    )


def draw_own(rng: np.random.Generator) -> Own:
    """Draw what one vertebra has of its own."""
    return Own(
        density=rng.uniform(0.8, 1.2),
        plates=rng.uniform(0.6, 1.3, 2),
        fades=rng.normal(0, 0.3, 2),
        pedicles=rng.uniform(0.85, 1.15, (2, 3)),
        process=rng.normal(0, 1, (2, 4)),
        spinous=rng.uniform(0.8, 1.2, 3),
        lean=rng.normal(0, 0.12),
    )
