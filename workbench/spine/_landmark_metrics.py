"""How good landmarks are: errors in pixels, levels taken for one another, wedges.

Predictions and truths are corners (…, 17, 4, 2) in pixels of the original image, one spine or a stack of them. A
vertebra that is NaN in either is left out of every mean, so a detector that leaves vertebrae out is not punished here:
look at `missed_rate` too. An image without any common vertebra gives NaN, and means over images pass over it. Errors
in angles are in the module beside. Source: specification, section 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from workbench.data.vertebrae import VERTEBRAE, centres_of
from workbench.errors import InvalidInputError
from workbench.spine.angles import endplate_tilts_of
from workbench.spine.frames import FRAME

Spines = Float[np.ndarray, "*n 17 4 2"]
#: Height and width of one image, or one row an image.
Sizes = tuple[int, int] | Sequence[tuple[int, int]] | np.ndarray


def distances(predicted: Spines, truth: Spines) -> Float[np.ndarray, "*n 17 4"]:
    """Distance of each landmark from its truth in pixels; NaN where either is missing.

    Raises:
        InvalidInputError: shapes that differ, or that do not end in (17, 4, 2).
    """
    predicted, truth = _pair(predicted, truth)
    return np.linalg.norm(predicted - truth, axis=-1)


def nmse(predicted: Spines, truth: Spines, size: Sizes) -> float:
    """Mean over landmarks of (Δx/W)² + (Δy/H)², then over images: the published "relative error".

    Args:
        predicted: (…, 17, 4, 2) pixels.
        truth: The same.
        size: (H, W) of the image, or (…, 2); W is the width *without* any padding, as in the group's code.

    Example:
        >>> nmse(truth + [3.0, 4.0], truth, size=(100, 50)) == (3 / 50) ** 2 + (4 / 100) ** 2
        True
    """
    return _mean(landmark_nmse(predicted, truth, size))


def landmark_nmse(predicted: Spines, truth: Spines, size: Sizes) -> np.ndarray:
    """The NMSE of each image, (…)."""
    predicted, truth = _pair(predicted, truth)
    return _per_image((((predicted - truth) / _width_height(size, 3)) ** 2).sum(-1), 2)


def centre_nmse(predicted: Spines, truth: Spines, size: Sizes) -> float:
    """The NMSE of the 17 centres."""
    predicted, truth = _pair(predicted, truth)
    apart = (centres_of(predicted) - centres_of(truth)) / _width_height(size, 2)
    return _mean(_per_image((apart**2).sum(-1), 1))


def mean_distance(predicted: Spines, truth: Spines, size: Sizes | None = None) -> float:
    """Mean distance of the landmarks in pixels, over each image and then over images.

    Pixels are those of the original images, or with `size` those of the 704 x 384 frame.
    """
    return _mean(_per_image(_scaled(distances(predicted, truth), size), 2))


def relative_distance(predicted: Spines, truth: Spines) -> float:
    """Mean distance over the width of the vertebra it belongs to, over each image and then over images."""
    width = np.linalg.norm(truth[..., [1, 3], :] - truth[..., [0, 2], :], axis=-1).mean(-1)
    return _mean(_per_image(distances(predicted, truth) / width[..., None], 2))


def outlier_ratio(predicted: Spines, truth: Spines, radius: float, size: Sizes | None = None) -> float:
    """Per cent of all landmarks more than `radius` pixels from their truth.

    The published OR₂₀ and OR₄₀ count pixels of the 704 x 384 frame: give `size` for those.

    Example:
        >>> outlier_ratio(predicted, truth, 20, size=(2500, 1000))
        1.47
    """
    return 100 - _within(_scaled(distances(predicted, truth), size), radius)


def detection_curve(
    predicted: Spines, truth: Spines, radii: Sequence[float] | np.ndarray, size: Sizes | None = None
) -> Float[np.ndarray, " radii"]:
    """Per cent of all landmarks at most each radius from their truth: 100 less the outlier ratio."""
    apart = _scaled(distances(predicted, truth), size)
    return np.array([_within(apart, radius) for radius in radii])


def level_errors(predicted: Spines, truth: Spines, size: Sizes | None = None) -> Float[np.ndarray, " 17"]:
    """Mean distance of each level's landmarks over images, T1 to L5; NaN for a level that is never seen."""
    apart = _scaled(distances(predicted, truth), size).reshape(-1, VERTEBRAE, 4)
    return np.array([_mean(apart[:, k]) for k in range(VERTEBRAE)])


def shifted(predicted: Spines, truth: Spines) -> Float[np.ndarray, "*n 17"]:
    """1 where a predicted centre lies nearer to another level's truth than to its own, else 0; NaN where missing."""
    predicted, truth = _pair(predicted, truth)
    apart = np.linalg.norm(
        centres_of(predicted)[..., :, None, :] - centres_of(truth)[..., None, :, :], axis=-1
    )
    own = np.diagonal(apart, axis1=-2, axis2=-1)
    nearest = np.where(np.isnan(apart), np.inf, apart).min(-1)
    return np.where(np.isnan(own), np.nan, nearest < own)


def level_shift_rate(predicted: Spines, truth: Spines) -> float:
    """Share of vertebrae, in [0, 1], whose centre lies nearer to another level's truth than to its own."""
    return _mean(shifted(predicted, truth))


def wedge_error(predicted: Spines, truth: Spines) -> float:
    """Mean absolute error of the wedge angles (lower against upper endplate) in degrees."""
    return _mean(np.abs(_turned(_wedges(predicted) - _wedges(truth))))


def missed_rate(predicted: Spines, truth: Spines) -> float:
    """Share of the visible vertebrae that were not predicted (NaN), in [0, 1]."""
    predicted, truth = _pair(predicted, truth)
    seen = ~np.isnan(truth).any((-1, -2))
    return _mean(np.isnan(predicted).any((-1, -2))[seen])


def frame_scale(size: Sizes) -> np.ndarray:
    """Frame pixels per image pixel, (…), for images of (H, W) laid into the 704 x 384 frame."""
    sizes = _sizes(size)
    return np.minimum(FRAME[0] / sizes[..., 0], FRAME[1] / sizes[..., 1])


def _wedges(corners: np.ndarray) -> np.ndarray:
    plates = endplate_tilts_of(corners)
    return _turned(plates[..., 1] - plates[..., 0])


def _turned(angle: np.ndarray) -> np.ndarray:
    """The same angle in [−180, 180)."""
    return (angle + 180) % 360 - 180


def _pair(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.shape != truth.shape or predicted.shape[-3:] != (VERTEBRAE, 4, 2):
        raise InvalidInputError(
            f"predicted and true corners have shapes {predicted.shape} and {truth.shape}; expected the same, ending "
            "in (17, 4, 2)"
        )
    return predicted, truth


def _sizes(size: Sizes) -> np.ndarray:
    sizes = np.asarray(size, dtype=np.float64)
    if sizes.shape[-1:] != (2,) or not (sizes > 0).all():
        raise InvalidInputError(
            f"size is {size}; expected (height, width) in pixels, or one such row an image"
        )
    return sizes


def _width_height(size: Sizes, axes: int) -> np.ndarray:
    """Sizes as (W, H) with room for `axes` − 1 axes before the coordinates."""
    sizes = _sizes(size)[..., ::-1]
    return sizes.reshape(*sizes.shape[:-1], *[1] * (axes - 1), 2)


def _scaled(apart: np.ndarray, size: Sizes | None) -> np.ndarray:
    return apart if size is None else apart * np.asarray(frame_scale(size))[..., None, None]


def _within(apart: np.ndarray, radius: float) -> float:
    return 100 * _mean(apart[~np.isnan(apart)] <= radius)


def _per_image(values: np.ndarray, axes: int) -> np.ndarray:
    """Mean over the last axes without NaN; NaN where nothing is left."""
    flat = values.reshape(*values.shape[: values.ndim - axes], -1)
    count = (~np.isnan(flat)).sum(-1)
    return np.where(count > 0, np.nansum(flat, axis=-1) / np.maximum(count, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(_per_image(np.asarray(values, dtype=np.float64).reshape(1, -1), 1)[0])
