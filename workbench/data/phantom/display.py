"""From attenuation to an 8-bit picture: scatter, heel effect, blur, quantum noise, processing, look-up table, JPEG.

Source: specification, section 7.4.
"""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage

from workbench.data.phantom.scene import Scene


@cache
def noise_tile(kind: str) -> np.ndarray:
    """A fixed tile (1024, 1024) of noise of SD 1: "smooth" for organs, "bone" for trabeculae."""
    rng = np.random.default_rng(20190701)
    white = rng.standard_normal((1024, 1024), dtype=np.float32)
    if kind == "bone":
        fine = ndimage.gaussian_filter(white, (1.9, 0.75), mode="wrap")
        noise = fine / fine.std() + 0.7 * _scaled(ndimage.gaussian_filter(white, 3.5, mode="wrap"))
    else:
        noise = sum(
            weight * _scaled(ndimage.gaussian_filter(white, width, mode="wrap"))
            for width, weight in ((2.5, 0.35), (6, 0.6), (16, 1.0))
        )
    tile = _scaled(noise)
    tile.flags.writeable = False
    return tile


def _scaled(noise: np.ndarray) -> np.ndarray:
    return (noise - noise.mean()) / noise.std()


def cut(rng: np.random.Generator, kind: str, rows: int, columns: int) -> np.ndarray:
    """A random piece (rows, columns) of a noise tile, perhaps flipped."""
    tile = noise_tile(kind)
    y, x = rng.integers(0, 1024 - rows + 1), rng.integers(0, 1024 - columns + 1)
    piece = tile[y : y + rows, x : x + columns]
    return piece[:: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]


def expose(total: np.ndarray, scene: Scene, rng: np.random.Generator, *, low_dose: bool) -> np.ndarray:
    """What the detector sees, as −log of the relative signal: scatter, heel effect, blur and noise added."""
    primary = np.exp(-total)
    signal = primary + _scatter(primary, scene, rng)
    signal *= _heel(signal.shape, rng)
    blur = rng.uniform(0.4, 0.7) if rng.random() < 0.8 else rng.uniform(0.7, 1.1)
    signal = ndimage.gaussian_filter(signal, blur, truncate=2.5)
    # The exposure follows the patient: so much noise, as a share of the signal, where the trunk is thick.
    share = np.exp(rng.uniform(*np.log((0.045, 0.09) if low_dose else (0.018, 0.05))))
    photons = np.float32(1 / (share**2 * np.percentile(signal[::8, ::8], 25)))
    grain = rng.standard_normal(signal.shape, dtype=np.float32)
    signal += grain * np.sqrt(signal / photons)
    return -np.log(np.maximum(signal, 2e-4))


def _scatter(primary: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    step = 8
    height, width = primary.shape[0] // step, primary.shape[1] // step
    small = Image.fromarray(primary).resize((width, height), Image.Resampling.BOX)
    spread = rng.uniform(40, 60) / 2.355 / scene.pitch / step
    soft = ndimage.gaussian_filter(np.asarray(small), spread, mode="nearest")
    wide = Image.fromarray(soft).resize(primary.shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(wide) * np.float32(rng.uniform(0.12, 0.45))


def _heel(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] * np.float32(rng.uniform(-0.1, 0.1))
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)[None] * np.float32(rng.uniform(-0.05, 0.05))
    return 1 + rows + columns


def develop(film: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The film −log signal as grey levels (rows, columns) in [0, 1], bones bright."""
    film = _local_contrast(film, rng)
    if rng.random() < 0.08:  # two exposures joined
        film[int(rng.integers(220, 480)) :] += np.float32(rng.normal(0, 0.08))
    dark, bright = _anchors(film, scene)
    low = _logit(np.exp(rng.uniform(np.log(0.020), np.log(0.15))))
    high = _logit(rng.uniform(0.54, 0.75) if rng.random() < 0.9 else rng.uniform(0.75, 0.88))
    slope = (high - low) / max(bright - dark, 0.5)
    grey = 1 / (1 + np.exp(-(low + slope * (film - dark))))
    return grey ** np.float32(np.exp(np.clip(rng.normal(0, 0.14), -0.35, 0.35)))


def _local_contrast(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Raise fine and middle structures, as radiography consoles do."""
    fine = film - ndimage.gaussian_filter(film, rng.uniform(1.2, 3), truncate=2.5)
    size = (film.shape[1] // 4, film.shape[0] // 4)
    small = np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BOX))
    soft = ndimage.gaussian_filter(small, rng.uniform(5, 11), mode="nearest", truncate=2.5)
    middle = film - np.asarray(Image.fromarray(soft).resize(film.shape[::-1], Image.Resampling.BILINEAR))
    strong = rng.uniform(0.0, 0.8) if rng.random() < 0.85 else rng.uniform(0.8, 1.8)
    return film + np.float32(rng.uniform(0.5, 2.2)) * fine + np.float32(strong) * middle


def _anchors(film: np.ndarray, scene: Scene) -> tuple[float, float]:
    """Film values beside the upper thoracic and on the lower spine: what automatic exposure would look at."""
    smooth = film[::2, ::2]
    centres = scene.pixels(scene.geometry.centres) / 2
    beside = [float(_near(smooth, centres[k] + [s * 24, 0])) for k in range(1, 5) for s in (-1, 1)]
    spine = [float(_near(smooth, centres[k])) for k in range(11, 15)]
    return float(np.median(beside)), float(np.median(spine))


def _near(film: np.ndarray, at: np.ndarray) -> np.ndarray:
    x, y = int(np.clip(at[0], 4, film.shape[1] - 5)), int(np.clip(at[1], 4, film.shape[0] - 5))
    return np.median(film[y - 4 : y + 5, x - 4 : x + 5])


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def store(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey levels in [0, 1] as uint8 after a trip through JPEG."""
    pixels = np.clip(grey * 255 + 0.5, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(rng.integers(70, 96)))
    buffer.seek(0)
    return np.array(Image.open(buffer))
