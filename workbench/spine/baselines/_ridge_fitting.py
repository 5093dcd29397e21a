"""Fitting the ridge cascade: random starts, one closed form a stage, and errors made as large as on unseen images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from tqdm.auto import tqdm

from workbench.data.vertebrae import VERTEBRAE, centres_of, flip_corners
from workbench.spine.baselines._base import SCALE, check_samples
from workbench.spine.baselines._closed_form import Ridge
from workbench.spine.baselines._vertebra_shapes import VertebraShapes
from workbench.spine.baselines.gradients import FeatureMaps
from workbench.spine.baselines.ridge import (
    CENTRE_STEPS,
    CORNER_STEPS,
    centre_features,
    centres_at,
    corner_features,
    corners_at,
    turns,
)
from workbench.spine.frames import FRAME
from workbench.spine.local_frames import LocalFrames
from workbench.spine.shape_model import ShapeModel
from workbench.training_log import TrainingLog

if TYPE_CHECKING:
    from workbench.spine.samples import Samples

#: Share of the centres' variance that the shape model keeps.
_VARIANCE = 0.999
#: Starts an image beside the mean shape, and how many of all go on to the corners.
_OTHER_STARTS, _CORNER_STARTS = 6, 2
#: Standard deviations of the starts' jitter: shift over the frame's height, relative scale, turn in degrees.
_SHIFT, _STRETCH, _TURN = 0.02, 0.03, 4.0
#: Share of the images held out to choose penalties and to see how large errors really are.
_HELD_OUT = 0.15
#: Share of the errors, the smallest, that say how large errors are.
_USUAL = 0.9


@dataclass(frozen=True)
class _Views:
    """Training images and their mirror images, side by side, in random order; the last ones are held out."""

    images: UInt8[np.ndarray, "n 704 384"]
    corners: Float[np.ndarray, "views 17 4 2"]
    order: np.ndarray
    fitted: int

    @classmethod
    def of(cls, samples: Samples, rng: np.random.Generator) -> _Views:
        order = rng.permutation(len(samples.images))
        corners = check_samples(samples)[order]
        both = np.stack([corners, flip_corners(corners, FRAME[1])], 1).reshape(-1, VERTEBRAE, 4, 2)
        return cls(samples.images.numpy(), both, order, 2 * (len(order) - int(_HELD_OUT * len(order))))

    def __len__(self) -> int:
        return len(self.corners)

    def image(self, view: int) -> UInt8[np.ndarray, "704 384"]:
        image = self.images[self.order[view // 2]]
        return np.ascontiguousarray(image[:, ::-1]) if view % 2 else image


@dataclass(frozen=True)
class _Report:
    """Where progress and errors go."""

    log: TrainingLog
    quiet: bool

    def bar(self, views: _Views, what: str) -> Iterable[int]:
        return tqdm(range(len(views)), desc=f"ridge {what}", disable=self.quiet, mininterval=5, leave=False)

    def row(self, stage: int, away: np.ndarray, fitted: int) -> None:
        """Squared distances in normalised units, (views, …, 2), averaged over points."""
        errors = ((away / SCALE) ** 2).sum(-1).reshape(len(away), -1).mean(1)
        held = errors[fitted:].mean() if fitted < len(errors) else float("nan")
        self.log.append({"stage": stage, "nmse_fitted": errors[:fitted].mean(), "nmse_held_out": held})


def fit_stages(
    samples: Samples, seed: int, progress: bool, log: Path | None
) -> tuple[ShapeModel, VertebraShapes, tuple[Ridge, ...], tuple[Ridge, ...]]:
    """The models and maps of a `RidgeCascade`; arguments as in its `fit`."""
    rng = np.random.default_rng(seed)
    views = _Views.of(samples, rng)
    report = _Report(TrainingLog(log), quiet=not progress)
    shapes = ShapeModel.fit((centres_of(views.corners) / SCALE).reshape(len(views), -1), variance=_VARIANCE)
    centre_stages, state = _fit_centres(views, shapes, rng, report)
    vertebrae, corner_stages = _fit_corners(views, centres_at(shapes, state[:, :_CORNER_STARTS]), rng, report)
    return shapes, vertebrae, centre_stages, corner_stages


def _fit_centres(
    views: _Views, shapes: ShapeModel, rng: np.random.Generator, report: _Report
) -> tuple[tuple[Ridge, ...], Float[np.ndarray, "views starts k"]]:
    """The maps, and the coefficients that later stages start from."""
    centres = centres_of(views.corners)
    truth = shapes.project((centres / SCALE).reshape(len(views), 1, -1))
    state = _starts(shapes, centres, rng)
    stages = []
    for number, step in enumerate(CENTRE_STEPS, start=1):
        x = _collect(
            views, step, partial(_centre_rows, shapes, state), report.bar(views, f"centres {number}")
        )
        ridge = _fit(x, truth - state, views.fitted)
        state = shapes.clamp(state + ridge(x).reshape(state.shape))
        report.row(number, centres_at(shapes, state) - centres[:, None], views.fitted)
        state = shapes.clamp(_reinflated(state, truth, views.fitted, rng))
        stages.append(ridge)
    return tuple(stages), state


def _fit_corners(
    views: _Views, centres: Float[np.ndarray, "views starts 17 2"], rng: np.random.Generator, report: _Report
) -> tuple[VertebraShapes, tuple[Ridge, ...]]:
    """The vertebra's model in the frames that these centres make, and the maps."""
    frames = LocalFrames.of(torch.from_numpy(centres.reshape(-1, VERTEBRAE, 2)))
    corners = np.repeat(views.corners, centres.shape[1], axis=0)
    local = frames.to_local(torch.from_numpy(corners)).numpy()
    vertebrae = VertebraShapes.fit(local)
    by_view = (*centres.shape[:2], VERTEBRAE, vertebrae.modes)
    truth = vertebrae.project(local).reshape(by_view)
    state = np.zeros(by_view)
    stages = []
    for number, step in enumerate(CORNER_STEPS, start=1):
        points = corners_at(frames, vertebrae, state)
        rows = partial(_corner_rows, points, turns(frames).reshape(by_view[:3]), state)
        x = _collect(views, step, rows, report.bar(views, f"corners {number}"))
        ridge = _fit(x, truth - state, views.fitted)
        state = vertebrae.clamp(state + ridge(x).reshape(by_view))
        away = corners_at(frames, vertebrae, state) - views.corners[:, None]
        report.row(len(CENTRE_STEPS) + number, away, views.fitted)
        state = vertebrae.clamp(_reinflated(state, truth, views.fitted, rng))
        stages.append(ridge)
    return vertebrae, tuple(stages)


def _centre_rows(shapes: ShapeModel, state: np.ndarray, view: int, maps: FeatureMaps) -> np.ndarray:
    return centre_features(maps, shapes, state[view])


def _corner_rows(
    points: np.ndarray, turned: np.ndarray, state: np.ndarray, view: int, maps: FeatureMaps
) -> np.ndarray:
    return corner_features(maps, points[view], turned[view], state[view])


def _collect(
    views: _Views, step: float, rows: Callable[[int, FeatureMaps], np.ndarray], bar: Iterable[int]
) -> Float[np.ndarray, "rows features"]:
    """The rows of all views, in their order."""
    return np.concatenate([rows(view, FeatureMaps.of(views.image(view), step)) for view in bar])


def _fit(x: np.ndarray, change: np.ndarray, fitted: int) -> Ridge:
    """A ridge on rows that belong to views, the same number each."""
    targets = change.reshape(len(x), -1).astype(np.float32)
    return Ridge.fit(x, targets, fitted * (len(x) // len(change)))


def _starts(
    shapes: ShapeModel, centres: Float[np.ndarray, "views 17 2"], rng: np.random.Generator
) -> Float[np.ndarray, "views starts k"]:
    """Coefficients of the mean shape and of other views' shapes, moved, stretched and turned at random."""
    picks = rng.integers(len(centres), size=(len(centres), _OTHER_STARTS))
    others = centres[picks]
    middle = others.mean(-2, keepdims=True)
    normal = rng.standard_normal((4, *picks.shape))
    stretch, angle = 1 + _STRETCH * normal[0], np.deg2rad(_TURN) * normal[1]
    cos, sin = stretch * np.cos(angle), stretch * np.sin(angle)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    shift = _SHIFT * FRAME[0] * np.moveaxis(normal[2:], 0, -1)
    moved = np.einsum("vaij,vapj->vapi", turn, others - middle) + middle + shift[:, :, None]
    coefficients = shapes.project((moved / SCALE).reshape(*picks.shape, -1))
    mean = np.zeros((len(centres), 1, shapes.components))
    return np.concatenate([mean, shapes.clamp(coefficients)], 1)


def _reinflated(state: np.ndarray, truth: np.ndarray, fitted: int, rng: np.random.Generator) -> np.ndarray:
    """States whose errors have the held-out images' second moments, on the images fitted on too.

    A stage does better on the images it was fitted on, and the next one would learn from errors that are too small.
    """
    if fitted == len(state):
        return state
    modes = state.shape[-1]
    away = state - truth
    lacking = _moments(away[fitted:].reshape(-1, modes)) - _moments(away[:fitted].reshape(-1, modes))
    sizes, directions = np.linalg.eigh(lacking)
    noise = rng.standard_normal((*state[:fitted].shape[:-1], modes)) * np.sqrt(np.maximum(sizes, 0))
    return np.concatenate([state[:fitted] + noise @ directions.T, state[fitted:]])


def _moments(errors: Float[np.ndarray, "rows modes"]) -> Float[np.ndarray, "modes modes"]:
    """Second moments without the worst tenth: a few lost spines must not blur the others."""
    sizes = (errors**2 / np.maximum((errors**2).mean(0), 1e-300)).sum(1)
    usual = errors[sizes <= np.quantile(sizes, _USUAL)]
    return usual.T @ usual / len(usual)
