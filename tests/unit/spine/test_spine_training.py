"""Training a cascade: reproducible, resumable at any point, every variant of it, and what it refuses."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import settings

from workbench.data.vertebrae import flip_corners
from workbench.errors import CheckpointError, InvalidInputError, TrainingDivergedError, UnknownNameError
from workbench.spine import fitting
from workbench.spine import training as module
from workbench.spine.cascade import SpineCascade
from workbench.spine.network import CascadeNetwork
from workbench.spine.samples import Samples, phantom_samples
from workbench.spine.settings import CascadeSettings
from workbench.spine.stages import normalise
from workbench.spine.training import CascadeTraining, split, train_cascade

SHORT = settings(centre_stages=2, corner_stages=2)


class Killed(Exception):
    """What stands for the end of the process."""


def same(first: CascadeNetwork, second: CascadeNetwork) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def short(samples: Samples) -> CascadeNetwork:
    """What a run of `SHORT` gives that is not cut short."""
    return train_cascade(samples, SHORT, progress=False)


def change_losses(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[str, torch.Tensor], torch.Tensor]
) -> None:
    """Let every training step have the loss that `change` makes of the stage's name and its loss."""
    plain = module.fit

    def fit(name: str, network: Any, loss: fitting.StepLoss, *others: Any) -> int:
        return plain(name, network, lambda generator: change(name, loss(generator)), *others)

    monkeypatch.setattr(module, "fit", fit)


def kill_in_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the run end in the training step after `number`, counted over all stages."""
    calls = 0

    def counted(name: str, loss: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > number:
            raise Killed
        return loss

    change_losses(monkeypatch, counted)


def test_the_same_seed_gives_the_same_weights(samples: Samples, short: CascadeNetwork) -> None:
    torch.rand(3)
    assert same(train_cascade(samples, SHORT, progress=False), short)


def test_another_seed_gives_other_weights(samples: Samples, short: CascadeNetwork) -> None:
    other = train_cascade(samples, settings(centre_stages=1, corner_stages=1, seed=1), progress=False)
    name = "centre_stages.0.network.head.0.weight"
    assert not torch.equal(other.state_dict()[name], short.state_dict()[name])


def test_the_callers_random_numbers_are_left_alone(samples: Samples) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train_cascade(samples, settings(centre_stages=1, corner_stages=0), progress=False)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("killed_in", [1, 5])
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    samples: Samples, short: CascadeNetwork, tmp_path: Path, killed_in: int
) -> None:
    state, log = tmp_path / "spine.state", tmp_path / "spine.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_SAVE_SECONDS", -1.0)
        patch.setattr(fitting, "_LOG_STEPS", 1)
        kill_in_step(patch, killed_in)
        with pytest.raises(Killed):
            train_cascade(samples, SHORT, log, state, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_LOG_STEPS", 1)
        assert same(train_cascade(samples, SHORT, log, state, progress=False), short)
    with log.open(encoding="utf-8") as file:
        rows = [
            (float(r["step_of_cascade"]), float(r["stage"]), float(r["step"])) for r in csv.DictReader(file)
        ]
    assert rows == [(step, stage, n) for step in (0, 1) for stage in (1, 2) for n in (1, 2)]


def test_a_finished_run_is_read_and_not_trained_again(
    samples: Samples, short: CascadeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "spine.state"
    train_cascade(samples, SHORT, state=state, progress=False)
    kill_in_step(monkeypatch, 0)
    assert same(train_cascade(samples, SHORT, state=state, progress=False), short)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train_cascade(samples, settings(centre_stages=2, corner_stages=1), state=state, progress=False)
    darker = Samples(samples.images // 2, samples.corners, samples.sizes)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train_cascade(darker, SHORT, state=state, progress=False)
    state.write_bytes(state.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match="is not a complete training state"):
        train_cascade(samples, SHORT, state=state, progress=False)


def test_a_loss_that_is_not_finite_is_named_and_the_state_kept(
    samples: Samples, short: CascadeNetwork, tmp_path: Path
) -> None:
    state = tmp_path / "spine.state"
    with pytest.MonkeyPatch.context() as patch:
        change_losses(patch, lambda name, loss: loss * (float("inf") if name == "corners 1" else 1))
        with pytest.raises(TrainingDivergedError, match="corners 1: the loss is inf at step 0"):
            train_cascade(samples, SHORT, state=state, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        kill_in_step(patch, 4)  # the centre stages are not trained again
        assert same(train_cascade(samples, SHORT, state=state, progress=False), short)


def test_too_few_radiographs_are_refused(samples: Samples) -> None:
    with pytest.raises(InvalidInputError, match="7 radiographs cannot train a cascade; it needs at least 8"):
        train_cascade(samples[:7], SHORT, progress=False)


def test_a_calibration_part_that_leaves_too_few_is_refused(samples: Samples) -> None:
    with pytest.raises(
        InvalidInputError, match=r"calibration is 0\.9: of 8 radiographs that leaves 1 to train on"
    ):
        train_cascade(samples, settings(calibration=0.9), progress=False)


def test_missing_vertebrae_are_refused(samples: Samples) -> None:
    corners = samples.corners.clone()
    corners[[1, 4], 14:] = float("nan")
    cut = Samples(samples.images, corners, samples.sizes)
    with pytest.raises(InvalidInputError, match="2 radiographs do not show all 17 vertebrae"):
        train_cascade(cut, SHORT, progress=False)


def test_a_part_is_held_out(samples: Samples) -> None:
    held_out, trained_on = split(samples, settings(calibration=0.3))
    assert (len(held_out), len(trained_on)) == (2, 6)
    every = torch.cat([held_out.corners, trained_on.corners])[:, 0, 0, 0]
    assert sorted(every.tolist()) == sorted(samples.corners[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("points", ["centres", "corners"])
def test_the_shape_model_is_symmetric_under_flips(samples: Samples, points: Any) -> None:
    run = CascadeTraining(samples, settings(points=points), None, None, False)
    shape, corners = run.network.shape, samples.corners.numpy()
    flipped = torch.from_numpy(flip_corners(corners, 384))

    def rest(which: torch.Tensor) -> torch.Tensor:
        shapes = normalise(which.mean(2) if points == "centres" else which.flatten(1, 2))
        return (shapes - shape.reconstruct(shape.project(shapes))).norm(dim=1)

    torch.testing.assert_close(rest(samples.corners), rest(flipped), atol=2e-5, rtol=1e-2)


VARIANTS: dict[str, dict[str, Any]] = {
    "offset": {"constrain": "offset"},
    "none": {"constrain": "none"},
    "ellipsoid, few modes": {"clamp": "ellipsoid", "centre_variance": 0.9, "corner_variance": 0.8},
    "joint": {"corner_pca": "joint", "joint_components": 12},
    "one step": {"points": "corners", "constrain": "offset"},
    "free, each vertebra alone": {"free_last": True, "neighbours": False},
    "one stage a step": {"centre_stages": 1, "corner_stages": 1, "free_last": True},
    "centres alone": {"centre_stages": 5, "corner_stages": 0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_predicts(samples: Samples, name: str) -> None:
    changed = settings(**{"centre_stages": 2, "corner_stages": 2, **VARIANTS[name]})
    network = train_cascade(samples, changed, progress=False)
    again = CascadeNetwork.of_tensors(changed, network.state_dict())
    prediction = SpineCascade(again).predict(samples.images[0].numpy())
    corner_stages = changed.corner_stages if changed.points == "centres" else 0
    assert len(prediction.stages) == 1 + changed.centre_stages + corner_stages
    assert prediction.stages[-1].step == ("corners" if changed.corner_stages else "centres")
    assert np.isfinite(prediction.corners).all()
    assert prediction.angles().an1 >= 0
    widths = np.linalg.norm(prediction.corners[:, 1] - prediction.corners[:, 0], axis=-1)
    assert (widths > 5).all()
    if changed.corner_pca == "joint":
        shapes = normalise(torch.from_numpy(prediction.corners.reshape(1, 68, 2)).float())
        assert network.joint is not None
        torch.testing.assert_close(network.joint.constrain(shapes), shapes, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centre_stages": 0}, "centre_stages is 0; it must be at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"corner_stages": -1}, "corner_stages is -1; it must be at least 0"),
        ({"centre_variance": 0.0}, "centre_variance is 0.0; expected a share"),
        ({"corner_variance": 1.1}, "corner_variance is 1.1"),
        ({"calibration": 1.0}, "calibration is 1.0; expected a share"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        CascadeSettings(**change)


def test_unknown_choices_and_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown constrain 'shapes'; did you mean 'shape'"):
        CascadeSettings(constrain="shapes")  # type: ignore[arg-type]
    with pytest.raises(
        UnknownNameError, match="unknown setting 'centre_stage'; did you mean 'centre_stages'"
    ):
        CascadeSettings.from_dict({"centre_stage": 3})
    changed = settings(seed=4, clamp="ellipsoid")
    assert CascadeSettings.from_dict(changed.to_dict()) == changed


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute of processor time; more where others use it too
@pytest.mark.usefixtures("empty_cache")
def test_the_error_falls_over_the_stages() -> None:
    """Sixty phantoms and a minute: both steps end well below where they began, and no stage spoils the one before."""
    every = phantom_samples("tests-slow", 80, "clean", workers=2, progress=False)
    few = {"global_steps": 120, "point_steps": 60, "crop_steps": 120, "patch_steps": 60, "corner_batch": 8}
    changed = CascadeSettings(centre_stages=3, corner_stages=2, batch=16, calibration=0.2, **few)  # type: ignore[arg-type]
    network = train_cascade(every[:60], changed, progress=False)
    stages = SpineCascade(network).trace_frames(every[60:].images)
    truth, scale = every[60:].corners.numpy(), np.array([384, 704])

    def nmse(corners: np.ndarray, centres: bool = False) -> np.ndarray:
        error = ((corners.mean(2) - truth.mean(2)) if centres else (corners - truth)) / scale
        return (error**2).sum(-1).reshape(20, -1).mean(1)

    centres = [nmse(stage, centres=True).mean() for stage in stages[:4]]
    corners = [nmse(stage).mean() for stage in stages[3:]]
    worse = (nmse(stages[-1]) > nmse(stages[0])).mean()
    assert centres[-1] < 0.7 * centres[0]
    assert all(after < 1.05 * before for before, after in pairwise(centres))
    assert corners[-1] < 0.7 * corners[0]
    assert worse <= 0.1
