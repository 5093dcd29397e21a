"""Lines and numbers that figures of a spine are made of: outlines, endplates, mid-lines, tilts, errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workbench.data.vertebrae import (
    CORNERS,
    LEVELS,
    VERTEBRAE,
    Centres,
    Corners,
    centres_of,
    check_corners,
    visible,
)
from workbench.errors import InvalidInputError
from workbench.spine.angles import CobbAngles, official_angles, tilts_of, visible_angles

#: Corners in the order in which an outline visits them.
_ROUND = [0, 1, 3, 2, 0]


def corners_of(result: Any) -> Corners:
    """The corners (17, 4, 2) of a prediction, a phantom, a stage, or of an array that holds them."""
    return check_corners(getattr(result, "corners", result))


def measured(corners: Corners, size: tuple[int, int], truth: Corners | None = None) -> Corners:
    """The corners that angles are taken from; the others are NaN.

    Vertebrae whose centre is outside the image (height, width) are left out, and those that a truth does not have, so
    that both are measured on the same vertebrae.
    """
    x, y = centres_of(corners).T
    height, width = size
    kept = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    if truth is not None:
        kept &= visible(truth)
    return np.where(kept[:, None, None], corners, np.nan)


def angles_of(corners: Corners, height: int, variant: Literal["official", "yi"] = "official") -> CobbAngles:
    """The official angles, or where vertebrae are missing those of the visible part."""
    if visible(corners).all():
        return official_angles(corners, height, variant)
    return visible_angles(corners, height)


def check_pair(prediction: Any, truth: Any) -> tuple[Corners, Corners]:
    """Both as corners; raises `InvalidInputError` where they share no vertebra."""
    found, true = corners_of(prediction), corners_of(truth)
    if not (visible(found) & visible(true)).any():
        raise InvalidInputError("prediction and truth have no visible vertebra in common; nothing to compare")
    return found, true


def outlines(corners: Corners) -> np.ndarray:
    """Closed outlines with gaps between them, (17 · 6, 2)."""
    return _broken(corners[:, _ROUND])


def endplates(corners: Corners, longer: float = 0.18) -> np.ndarray:
    """Upper and lower endplates, each longer than the vertebra by a share at both ends, (34 · 3, 2)."""
    ends = corners.reshape(34, 2, 2)
    return _broken(_extended(ends[:, 0], ends[:, 1], longer, longer))


def mid_points(corners: Corners) -> tuple[np.ndarray, np.ndarray]:
    """Left and right ends of the mid-lines, (17, 2) each."""
    return (corners[:, 0] + corners[:, 2]) / 2, (corners[:, 1] + corners[:, 3]) / 2


def mid_lines(corners: Corners, longer: float = 0.0) -> np.ndarray:
    """Mid-lines with gaps, (17 · 3, 2)."""
    return _broken(_extended(*mid_points(corners), longer, longer))


def widths(corners: Corners) -> np.ndarray:
    """Lengths of the mid-lines (17,), the body widths that errors are compared with."""
    left, right = mid_points(corners)
    return np.asarray(np.linalg.norm(right - left, axis=1))


def arrows(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Straight lines from points to points, with gaps."""
    return _broken(np.stack([start.reshape(-1, 2), end.reshape(-1, 2)], axis=1))


def _extended(start: np.ndarray, end: np.ndarray, before: float, after: float) -> np.ndarray:
    along = end - start
    return np.stack([start - before * along, end + after * along], axis=1)


def _broken(lines: np.ndarray) -> np.ndarray:
    """Polylines (n, m, 2) as one sequence of points with NaN after each."""
    gap = np.full((len(lines), 1, 2), np.nan)
    return np.concatenate([lines, gap], axis=1).reshape(-1, 2)


def xy(points: np.ndarray) -> dict[str, np.ndarray]:
    """Points (…, 2) as a trace's `x` and `y`, in tenths of a pixel at worst and few bytes."""
    flat = np.asarray(points, dtype=np.float32).reshape(-1, 2)
    return {"x": flat[:, 0], "y": flat[:, 1]}


@dataclass(frozen=True)
class Errors:
    """How far landmarks lie from the true ones, in pixels; NaN where a vertebra is not visible in both.

    Args:
        corners: (17, 4).
        centres: (17,).
        tilts: Predicted minus true mid-line tilt in degrees, (17,).
        widths: True body widths in pixels, (17,).
        millimetres: Corner errors in millimetres, (17, 4), where the spacing is known.
    """

    corners: np.ndarray
    centres: np.ndarray
    tilts: np.ndarray
    widths: np.ndarray
    millimetres: np.ndarray | None = None

    @classmethod
    def between(cls, prediction: Any, truth: Any) -> Errors:
        """Compare a prediction with the truth.

        Raises:
            InvalidInputError: no vertebra is visible in both.
        """
        found, true = check_pair(prediction, truth)
        spacing = getattr(prediction, "spacing_mm", None)
        off = found - true
        turned = (tilts_of(found) - tilts_of(true) + 180) % 360 - 180
        millimetres = None if spacing is None else np.linalg.norm(off * np.array(spacing)[::-1], axis=2)
        centred: Centres = centres_of(off)
        distances = np.linalg.norm(off, axis=2)
        return cls(distances, np.linalg.norm(centred, axis=1), turned, widths(true), millimetres)

    @property
    def levels(self) -> np.ndarray:
        """Mean corner error of each vertebra (17,)."""
        return np.asarray(self.corners.mean(1))

    def text(self, level: int, corner: int) -> str:
        """The error of a corner in pixels, body widths and, where they are known, millimetres."""
        pixels = self.corners[level, corner]
        if not np.isfinite(pixels):
            return ""
        parts = [f"{pixels:.1f} px", f"{pixels / self.widths[level]:.2f} body widths"]
        if self.millimetres is not None:
            parts.append(f"{self.millimetres[level, corner]:.1f} mm")
        return "<br>off by " + ", ".join(parts)


def corner_texts(errors: Errors | None, role: int) -> list[str]:
    """What is shown over one corner of each vertebra beside its place: level, role, error."""
    return [
        f"{LEVELS[k]} {CORNERS[role]}" + (errors.text(k, role) if errors else "") for k in range(VERTEBRAE)
    ]


def centre_texts(corners: Corners, errors: Errors | None) -> list[str]:
    """What is shown over the centre of each vertebra beside its place: level, tilt, error."""
    texts = [f"<b>{LEVELS[k]}</b><br>tilt {tilt:+.1f}°" for k, tilt in enumerate(tilts_of(corners))]
    if errors is None:
        return texts
    return [
        f"{text}<br>centre off by {pixels:.1f} px, tilt by {turn:+.1f}°" if np.isfinite(pixels) else text
        for text, pixels, turn in zip(texts, errors.centres, errors.tilts, strict=True)
    ]
