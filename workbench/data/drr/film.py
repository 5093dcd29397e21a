"""From attenuation to the grey values of a film: scatter, noise, and the processing that films are shown with.

Source: specification, section 7.4 (physics, display and the grey levels measured on real films).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

Grey = Float[np.ndarray, "height width"]

_SCATTER_WIDTH = 50.0  # mm
_LARGE, _MIDDLE, _FINE = 25.0, 8.0, 1.2  # mm, scales of the local contrasts
_COARSE = 8  # wide blurs are formed on every eighth pixel


@dataclass(frozen=True)
class Film:
    """How a film was taken and is shown.

    Attributes:
        photons: Quanta per pixel of the open field.
        scatter: Scattered radiation as a part of the direct.
        heel: Change of intensity from top to bottom, as a part.
        blur: Sigma of the detector's blur, px.
        flattened: How much of the large shapes is taken away, 0 to 1.
        detailed: How much shapes of the size of a vertebra are raised, 0 for not at all.
        sharpened: How much the fine detail is raised.
        slope: Steepness of the sigmoid from film density to grey.
        middle: Where on the range of densities, 0 to 1, grey is 1/2.
        gamma: Exponent of the grey.
    """

    photons: float = 2e4
    scatter: float = 0.3
    heel: float = 0.0
    blur: float = 0.6
    flattened: float = 0.35
    detailed: float = 1.5
    sharpened: float = 0.8
    slope: float = 5.0
    middle: float = 0.7
    gamma: float = 1.3


def draw_film(rng: np.random.Generator) -> Film:
    """A film within the ranges of the specification, section 7.4."""
    return Film(
        photons=10 ** rng.uniform(3.9, 4.7),
        scatter=rng.uniform(0.15, 0.5),
        heel=rng.uniform(-0.1, 0.1),
        blur=rng.uniform(0.4, 0.8),
        flattened=rng.uniform(0.2, 0.5),
        detailed=rng.uniform(1.0, 2.5),
        sharpened=rng.uniform(0.3, 0.9),
        slope=rng.uniform(4, 6),
        middle=rng.uniform(0.62, 0.76),
        gamma=rng.uniform(1.1, 1.6),
    )


def develop(
    attenuation: Grey, spacing: float, film: Film, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width"]:
    """A film, bones bright, of summed attenuation (no unit).

    Args:
        attenuation: Sum along the ray of every pixel.
        spacing: Millimetres between pixels.
        film: How it is taken and shown.
        rng: Where the noise comes from.
    """
    density = _exposed(attenuation, spacing, film, rng)
    large, middle = (_wide(density, scale / spacing) for scale in (_LARGE, _MIDDLE))
    fine = ndimage.gaussian_filter(density, _FINE / spacing)
    shown = density - film.flattened * large
    shown += film.detailed * (fine - middle) + film.sharpened * (density - fine)
    low, high = np.percentile(shown, (0.5, 99.5))
    shown = (shown - low) / max(high - low, 1e-6)
    grey = _sigmoid(film.slope * (shown - film.middle))
    dark, bright = _sigmoid(film.slope * (np.array([0.0, 1.0]) - film.middle))
    grey = np.clip((grey - dark) / (bright - dark), 0, 1) ** film.gamma
    return np.asarray(np.rint(255 * grey), dtype=np.uint8)


def _exposed(attenuation: Grey, spacing: float, film: Film, rng: np.random.Generator) -> Grey:
    """Density of the film: minus the logarithm of what arrives."""
    direct = np.exp(-attenuation.astype(np.float64))
    arriving = direct + film.scatter * _wide(direct, _SCATTER_WIDTH / spacing)
    heel = 1 + film.heel * np.linspace(-1, 1, len(direct))[:, None]
    arriving = ndimage.gaussian_filter(arriving * heel, film.blur)
    quanta = rng.poisson(film.photons * arriving)
    return np.asarray(-np.log(np.maximum(quanta, 0.5) / film.photons))


def _wide(values: Grey, sigma: float) -> Grey:
    """A wide Gaussian blur."""
    coarse = ndimage.gaussian_filter(
        ndimage.uniform_filter(values, _COARSE)[::_COARSE, ::_COARSE], sigma / _COARSE
    )
    rows, columns = (np.arange(n) / _COARSE for n in values.shape)
    grid = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(coarse, grid, order=1, mode="nearest"))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-values)))
