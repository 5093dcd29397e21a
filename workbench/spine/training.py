"""Train a cascade stage by stage: each stage learns to correct what the stages before it leave on held-out radiographs.

Stages over-fit, so what they leave on the radiographs they were trained on is too small. A part of the radiographs
is therefore held out (the *calibration* part), the cascade so far is run on it, and the next stage starts from the
truth plus residuals drawn from there: the residual covariance in training equals the held-out one. Source:
specification, section 4, rule (b).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from workbench.data.vertebrae import VERTEBRAE, flip_corners
from workbench.errors import InvalidInputError
from workbench.spine.augmentation import PlainViews, RandomViews
from workbench.spine.fitting import FitSettings, StateFile, fit, seed_of
from workbench.spine.frames import FRAME
from workbench.spine.local_frames import LocalFrames
from workbench.spine.network import CascadeNetwork, State
from workbench.spine.residuals import Residuals, started
from workbench.spine.samples import Samples
from workbench.spine.settings import CascadeSettings
from workbench.spine.shape_model import BOX, ShapeModel
from workbench.spine.stage_losses import centre_loss, corner_loss
from workbench.spine.stages import CentreStage, CornerStage, Limits, denormalise, normalise
from workbench.spine.views import Pyramid
from workbench.training_log import TrainingLog

#: Random views of each calibration radiograph from which residuals are taken, beside the plain one.
_CALIBRATION_VIEWS = 3
#: Random views of each training shape from which the shape models are fitted, beside the plain one.
_SHAPE_VIEWS = 3
#: So many radiographs must be left to train on.
_FEWEST = 4


def train_cascade(
    samples: Samples,
    settings: CascadeSettings | None = None,
    log: Path | None = None,
    state: Path | None = None,
    progress: bool = True,
) -> CascadeNetwork:
    """Train a cascade.

    Args:
        samples: Radiographs of which all 17 vertebrae are seen; a part of them is held out for calibration.
        settings: See `CascadeSettings`.
        log: CSV file: stage, step, loss, rate, seconds since the row before.
        state: File that holds the state; an existing one is continued. At most a minute of work is lost.
        progress: Show progress bars.

    Raises:
        InvalidInputError: too few radiographs, or vertebrae that are not seen.
        TrainingDivergedError: a loss is not finite; the last state is kept.
        CheckpointError: the state file belongs to other data or settings.

    Example:
        >>> network = train_cascade(phantom_samples("train", 2000, "mixed"), state=Path("spine.state"))
    """
    run = CascadeTraining(samples, settings or CascadeSettings(), log, state, progress)
    return run.run()


def split(samples: Samples, settings: CascadeSettings) -> tuple[Samples, Samples]:
    """The radiographs that a run holds out for calibration, and those that it trains on.

    Example:
        >>> held_out, trained_on = split(samples, CascadeSettings(calibration=0.1))
    """
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(settings.seed))
    held_out = _held_out(len(samples), settings)
    return samples[order[:held_out]], samples[order[held_out:]]


def _held_out(count: int, settings: CascadeSettings) -> int:
    return max(2, round(count * settings.calibration))


class CascadeTraining:
    """One training run: its data, the network so far, and the residuals that the next stage starts from."""

    def __init__(
        self,
        samples: Samples,
        settings: CascadeSettings,
        log: Path | None,
        state: Path | None,
        progress: bool,
    ) -> None:
        _check(samples, settings)
        self.settings, self.progress = settings, progress
        self.calibration, self.training = split(samples, settings)
        self.pyramid, self.held_out_pyramid = (
            Pyramid.of(self.training.images),
            Pyramid.of(self.calibration.images),
        )
        self.state = StateFile(state, repr((_digest(samples), settings)))
        self.log = TrainingLog(log, keep=self.state.done.get("rows", 0))
        self.rows = self.state.done.get("rows", 0)
        self.reported = time.process_time()
        self.network = self._empty_network()

    def run(self) -> CascadeNetwork:
        """Train what is not trained yet."""
        residuals = self._start_residuals()
        for i in range(self.settings.centre_stages):
            stage = self._stage(f"centres {i + 1}", self._new_centre_stage(i, residuals), residuals)
            self.network.centre_stages.append(stage)
            residuals = self._residuals(f"residuals of centres {i + 1}")
        if self.settings.points == "centres":
            self._fit_vertebra(residuals)
            residuals = self._local_start(residuals)
        for i in range(self.settings.corner_stage_count):
            stage = self._stage(f"corners {i + 1}", self._new_corner_stage(i, residuals), residuals)
            self.network.corner_stages.append(stage)
            residuals = self._residuals(f"residuals of corners {i + 1}")
        return self.network.eval()

    def _stage(
        self, name: str, stage: CentreStage | CornerStage, residuals: Residuals
    ) -> CentreStage | CornerStage:
        """The stage, trained, or as it was trained before."""
        if name in self.state.done:
            stage.load_state_dict(self.state.done[name])
            return stage.eval()
        steps, self.reported = _steps(self.settings, stage), time.process_time()
        with torch.random.fork_rng():
            fit(
                name,
                stage,
                lambda generator: self._loss(stage, residuals, generator),
                FitSettings(
                    steps, self.settings.learning_rate, self.settings.weight_decay, self.settings.seed
                ),
                self.state,
                lambda row: self._report(name, row),
                self.progress,
            )
        self.state.finish(name, stage.state_dict())
        return stage

    @property
    def seconds(self) -> float:
        """Seconds of processor time that the logged steps took, in this run and in those before it was cut short."""
        return float(self.state.done.get("seconds", 0.0))

    def _report(self, name: str, row: Mapping[str, float]) -> None:
        step, index = name.split()
        now = time.process_time()
        timed = {**row, "seconds": now - self.reported}
        self.state.done["seconds"] = self.seconds + timed["seconds"]
        self.log.append({"step_of_cascade": float(step == "corners"), "stage": float(index), **timed})
        self.reported = now
        self.rows += 1
        self.state.done["rows"] = self.rows  # a state that is saved within a stage has seen its rows

    def _loss(
        self, stage: CentreStage | CornerStage, residuals: Residuals, generator: torch.Generator
    ) -> Tensor:
        batch = self.settings.batch if isinstance(stage, CentreStage) else self.settings.corner_batch
        chosen = torch.randint(len(self.training), (batch,), generator=generator)
        pyramid, views = self.pyramid[chosen], RandomViews.draw(len(chosen), generator)
        truth = views.corners(self.training.corners[chosen])
        drawn = residuals.draw(len(chosen), generator)
        if isinstance(stage, CentreStage):
            return centre_loss(stage, self.network, views, pyramid, self._points(truth), drawn)
        return corner_loss(stage, self.network, views, pyramid, truth, drawn)

    def _points(self, corners: Tensor) -> Tensor:
        return corners.mean(2) if self.settings.points == "centres" else corners.flatten(1, 2)

    def _empty_network(self) -> CascadeNetwork:
        """The shape model and the joint one, from training shapes, their random views, and the flips of all."""
        generator = torch.Generator().manual_seed(seed_of(self.settings.seed, "shapes"))
        corners = [self.training.corners]
        for _ in range(_SHAPE_VIEWS):
            corners.append(RandomViews.draw(len(self.training), generator).corners(self.training.corners))
        every = torch.cat(corners).double()
        every = torch.cat([every, torch.from_numpy(flip_corners(every.numpy(), FRAME[1]))])
        shapes = normalise(self._points(every)).numpy()
        shape = ShapeModel.fit(shapes, variance=self.settings.centre_variance)
        joint = None
        if self.settings.corner_pca == "joint":
            everything = normalise(every.flatten(1, 2)).numpy()
            model = ShapeModel.fit(everything, components=self.settings.joint_components)
            joint = limits_of(model, self.settings.clamp)
        return CascadeNetwork(
            self.settings, limits_of(shape, self.settings.clamp), torch.zeros(VERTEBRAE, 8), joint
        )

    def _start_residuals(self) -> Residuals:
        """How far the truth is from the mean shape, in views of the calibration part."""
        return self._residuals("residuals of start")

    def _residuals(self, name: str) -> Residuals:
        """Residuals of the cascade so far on the calibration part, or what they were found to be before."""
        if name not in self.state.done:
            found = self._measure(name)
            self.state.finish(name, [found.points] + ([] if found.corners is None else [found.corners]))
        return Residuals(*self.state.done[name])

    def _measure(self, name: str) -> Residuals:
        generator = torch.Generator().manual_seed(seed_of(self.settings.seed, name))
        points, corners = [], []
        for i in range(1 + _CALIBRATION_VIEWS):
            for chosen in torch.arange(len(self.calibration)).split(32):
                views = RandomViews.draw(len(chosen), generator) if i else PlainViews()
                truth = views.corners(self.calibration.corners[chosen])
                states = self.network.trace(self.held_out_pyramid[chosen], views)
                residual = self._residual(truth, states)
                points.append(residual.points)
                corners += [] if residual.corners is None else [residual.corners]
        return Residuals(torch.cat(points), torch.cat(corners) if corners else None)

    def _residual(self, truth: Tensor, states: list[State]) -> Residuals:
        centre_stages = len(self.network.centre_stages)
        reached = states[min(centre_stages, len(states) - 1)]
        if self.settings.points == "corners":
            return Residuals(normalise(truth.flatten(1, 2)) - normalise(reached.corners.flatten(1, 2)))
        points = normalise(truth.mean(2)) - normalise(reached.centres)
        if not self.network.corner_stages:
            return Residuals(points)
        frames = LocalFrames.of(reached.centres)
        local = frames.to_local(truth) - frames.to_local(states[-1].corners)
        return Residuals(points, local.flatten(2))

    def _fit_vertebra(self, residuals: Residuals) -> None:
        """Mean corners of each level and the model of a vertebra, in frames as the first step leaves them."""
        self.network.means = self._local_corners(residuals).mean(0)

    def _local_corners(self, residuals: Residuals) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.settings.seed, "vertebra"))
        parts = []
        for _ in range(2):
            truth = RandomViews.draw(len(self.training), generator).corners(self.training.corners)
            drawn = residuals.draw(len(truth), generator)
            centres = started(truth, drawn)
            parts.append(LocalFrames.of(centres).to_local(truth).flatten(2))
        return torch.cat(parts)

    def _local_start(self, residuals: Residuals) -> Residuals:
        """Residuals of the mean corners, on the calibration part, before the second step has a stage."""
        truth = self.calibration.corners.repeat(1 + _CALIBRATION_VIEWS, 1, 1, 1)
        frames = LocalFrames.of(denormalise(normalise(truth.mean(2)) - residuals.points))
        return Residuals(residuals.points, frames.to_local(truth).flatten(2) - self.network.means)

    def _new_centre_stage(self, index: int, residuals: Residuals) -> CentreStage:
        shape, moves = self.network.shape, residuals.points
        points = len(shape.mean) // 2
        if self.settings.constrain == "none":
            limits, scale = shape, moves.std(0)
        elif self.settings.constrain == "offset":
            model = ShapeModel.fit(
                moves.double().numpy(), variance=self.settings.centre_variance, centre=False
            )
            limits = limits_of(model, self.settings.clamp)
            scale = limits.limits / BOX
        else:
            limits, scale = shape, (moves @ shape.basis).std(0)
        return self._seeded(
            lambda: CentreStage(index, self.settings, points, limits, scale), f"centres {index}"
        )

    def _new_corner_stage(self, index: int, residuals: Residuals) -> CornerStage:
        assert residuals.corners is not None
        if index == 0:
            self.vertebra = self._vertebra_model(residuals)
        moves = residuals.corners.flatten(0, 1)
        free = self.settings.free_last and index == self.settings.corner_stages - 1
        scale = moves.std(0) if free else (moves @ self.vertebra.basis).std(0)
        return self._seeded(
            lambda: CornerStage(index, self.settings, self.network.means, self.vertebra, scale),
            f"corners {index}",
        )

    def _vertebra_model(self, residuals: Residuals) -> Limits:
        deviations = (self._local_corners(replace(residuals, corners=None)) - self.network.means).flatten(
            0, 1
        )
        model = ShapeModel.fit(
            deviations.double().numpy(), variance=self.settings.corner_variance, centre=False
        )
        return limits_of(model, self.settings.clamp)

    def _seeded(self, make: Any, name: str) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(self.settings.seed, name))
            return make()


def limits_of(model: ShapeModel, clamp: str) -> Limits:
    """A shape model as stages use it."""
    radius = float(np.sqrt(chi2.ppf(0.997, model.components))) if clamp == "ellipsoid" else 0.0
    limits = torch.from_numpy(BOX * np.sqrt(model.variances))
    return Limits(torch.from_numpy(model.mean), torch.from_numpy(model.basis), limits, radius)


def _steps(settings: CascadeSettings, stage: CentreStage | CornerStage) -> int:
    if isinstance(stage, CentreStage):
        return settings.global_steps if stage.index == 0 else settings.point_steps
    return settings.crop_steps if stage.index == 0 else settings.patch_steps


def _check(samples: Samples, settings: CascadeSettings) -> None:
    if len(samples) < 8:
        raise InvalidInputError(f"{len(samples)} radiographs cannot train a cascade; it needs at least 8")
    if (left := len(samples) - _held_out(len(samples), settings)) < _FEWEST:
        raise InvalidInputError(
            f"calibration is {settings.calibration}: of {len(samples)} radiographs that leaves {left} to train on; "
            f"at least {_FEWEST} are needed, so give more, or a smaller calibration"
        )
    if not torch.isfinite(samples.corners).all():
        unseen = int((~torch.isfinite(samples.corners)).any(3).any(2).any(1).sum())
        raise InvalidInputError(f"{unseen} radiographs do not show all 17 vertebrae; train on those that do")


def _digest(samples: Samples) -> str:
    parts = (samples.images[:: max(1, len(samples) // 16)].numpy(), samples.corners.numpy())
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()[:16]
