"""A static picture of a prediction: the radiograph in grey, vertebrae with their names, and the largest angle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workbench.cli._spine_angles import angles_of
from workbench.data.radiographs import Radiograph
from workbench.data.vertebrae import LEVELS, Corners
from workbench.files import atomic_path
from workbench.spine.angles import CobbAngles
from workbench.spine.results import SpinePrediction

#: Longest side of the picture, and what smaller radiographs are brought to.
LONGEST, _LEAST = 1000, 700

#: Grey levels of the film in the picture's palette; few keep the file small, and noise hides the steps.
_GREYS = 64
_SKY, _ORANGE, _WHITE = (86, 180, 233), (255, 176, 0), (255, 255, 255)
_ROUND = [0, 1, 3, 2]
_OVERSAMPLED = 2  # lines are drawn larger and reduced: Pillow's have hard edges


def write_overlay(path: str | Path, film: Radiograph, prediction: SpinePrediction) -> Path:
    """Write the picture as a PNG with a palette, atomically."""
    with atomic_path(path) as temporary:
        overlay(film, prediction).save(temporary, format="PNG", optimize=True)
    return Path(path)


def overlay(film: Radiograph, prediction: SpinePrediction) -> Image.Image:
    """The picture; its longest side has at most 1000 pixels."""
    scale = _scale(film.pixels.shape)
    size = tuple(max(1, round(side * scale)) for side in film.pixels.shape[::-1])
    grey = Image.fromarray((film.pixels * 255).round().astype(np.uint8)).resize(
        size, Image.Resampling.LANCZOS
    )
    corners = _placed(film.from_original(prediction.visible_corners), scale * _OVERSAMPLED)
    lines = Image.new("RGBA", tuple(side * _OVERSAMPLED for side in size))
    _draw(ImageDraw.Draw(lines), corners, angles_of(prediction))
    picture = grey.convert("RGBA")
    picture.alpha_composite(lines.resize(size, Image.Resampling.BOX))
    return picture.convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)


def _scale(shape: Sequence[int]) -> float:
    longest = max(shape)
    return LONGEST / longest if longest > LONGEST else max(1.0, _LEAST / longest)


def _placed(corners: Corners, scale: float) -> Corners:
    """In pixels of a picture that is `scale` times as large; centres of pixels stay centres."""
    return (corners + 0.5) * scale - 0.5


def _draw(draw: ImageDraw.ImageDraw, corners: Corners, angles: CobbAngles | None) -> None:
    width, height = draw.im.size
    seen = [(level, four) for level, four in zip(LEVELS, corners, strict=True) if np.isfinite(four).all()]
    for _, four in seen:
        draw.polygon(_points(four[_ROUND]), outline=_SKY, width=3)
    for k in () if angles is None else angles.pairs[0]:
        draw.line(_points(_across(corners[k])), fill=_ORANGE, width=3)
    for level, four in seen:
        _draw_name(draw, level, four, width)
    _write(draw, (12, 8), _caption(angles), "la", _ORANGE)
    _write(draw, (12, height - 8), "research use, not for diagnosis", "ld", _WHITE)


def _caption(angles: CobbAngles | None) -> str:
    if angles is None:
        return "no angles"
    return f"an1 {angles.an1:.1f}°   an2 {angles.an2:.1f}°   an3 {angles.an3:.1f}°   {angles.branch}"


def _draw_name(draw: ImageDraw.ImageDraw, level: str, four: np.ndarray, width: int) -> None:
    """The level's name, right of the vertebra, or left of it at the picture's edge."""
    left, right = four[[0, 2]].mean(0), four[[1, 3]].mean(0)
    fits = right[0] + 60 < width
    place, anchor = ((right[0] + 12, right[1]), "lm") if fits else ((left[0] - 12, left[1]), "rm")
    _write(draw, place, level, anchor, _WHITE)


def _across(four: np.ndarray) -> np.ndarray:
    """The vertebra's mid-line, 1.6 times its length longer each way."""
    left, right = four[[0, 2]].mean(0), four[[1, 3]].mean(0)
    along = right - left
    return np.stack([left - 1.6 * along, right + 1.6 * along])


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    anchor: str,
    colour: tuple[int, int, int],
) -> None:
    font = ImageFont.load_default(size=22)
    draw.text(place, text, fill=colour, font=font, anchor=anchor, stroke_width=3, stroke_fill=(0, 0, 0))


def _points(points: np.ndarray) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points]


def _palette() -> Image.Image:
    """Greys, and the colours of the lines laid over black, grey and white at a few strengths."""
    colours = [(int(v), int(v), int(v)) for v in np.linspace(0, 255, _GREYS).round()]
    colours += list(_blends((_SKY, _ORANGE)))
    image = Image.new("P", (1, 1))
    image.putpalette([value for colour in colours for value in colour])
    return image


def _blends(colours: Iterable[tuple[int, int, int]]) -> Iterable[tuple[int, int, int]]:
    for colour in colours:
        for strength in (0.35, 0.7, 1.0):
            for behind in (0, 85, 170, 255) if strength < 1 else (0,):
                r, g, b = (round(strength * c + (1 - strength) * behind) for c in colour)
                yield r, g, b
