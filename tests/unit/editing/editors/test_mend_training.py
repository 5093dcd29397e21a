"""Training MEND: it learns, its meta-gradient is right, and a stopped run goes on as if it had not been."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.editing.editors.mend_training import MendTraining, MendTrainingSettings, train_mend
from workbench.editing.meta_training import ImageSource
from workbench.errors import CheckpointError, InvalidInputError, TrainingDivergedError
from workbench.models import fingerprint

SETTINGS = MendTrainingSettings(
    iterations=6, pairs=3, blocks=(1, 2), rank=4, edit_rate=0.05, learning_rate=1e-3, statistics=2
)


@pytest.fixture
def source(image_maker: Callable[..., Tensor]) -> ImageSource:
    return lambda iteration: image_maker(6, seed=iteration)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_training_lowers_the_loss_it_trains_on(vit: nn.Module, image_maker: Callable[..., Tensor]) -> None:
    settings = replace(SETTINGS, edit_rate=0.003, learning_rate=3e-3)
    run = MendTraining(vit, lambda _: image_maker(6), settings)
    run.begin()
    seen = [run.step(0) for _ in range(25)]
    loss = [
        settings.edit_weight * r["edit_loss"] + settings.locality_weight * r["locality_loss"] for r in seen
    ]
    assert loss[-1] < 0.8 * loss[0]
    assert fingerprint(vit) == run.network.base


def test_the_model_is_left_alone_even_where_it_wants_gradients(vit: nn.Module, source: ImageSource) -> None:
    before = fingerprint(vit.requires_grad_(True))
    train_mend(vit, source, replace(SETTINGS, iterations=1), progress=False)
    assert fingerprint(vit) == before
    assert all(parameter.grad is None for parameter in vit.parameters())


def test_the_gradient_is_that_of_the_loss(vit: nn.Module, source: ImageSource) -> None:
    """Finite differences in the step sizes, through edit and locality losses of a whole batch."""
    settings = replace(SETTINGS, clip=1e9)

    def loss_at(shift: Tensor) -> tuple[float, Tensor]:
        run = MendTraining(vit, source, settings)
        run.begin()
        with torch.no_grad():
            run.network.log_rates.add_(shift)
        row = run.step(0)
        assert run.network.log_rates.grad is not None
        return (
            settings.edit_weight * row["edit_loss"] + settings.locality_weight * row["locality_loss"],
            run.network.log_rates.grad,
        )

    _, gradient = loss_at(torch.zeros(4))
    for position in range(4):
        shift = torch.zeros(4)
        shift[position] = 0.05
        slope = (loss_at(shift)[0] - loss_at(-shift)[0]) / 0.1
        assert slope == pytest.approx(float(gradient[position]), rel=0.02, abs=1e-5)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    vit: nn.Module, source: ImageSource, tmp_path: Path
) -> None:
    whole = train_mend(vit, source, SETTINGS, log=tmp_path / "whole.csv", progress=False)
    state, log = tmp_path / "state.pt", tmp_path / "log.csv"

    def breaks(iteration: int) -> Tensor:
        if iteration == 5:
            raise KeyboardInterrupt
        return source(iteration)

    with pytest.raises(KeyboardInterrupt):
        train_mend(vit, breaks, SETTINGS, log=log, state=state, save_every=2, progress=False)
    resumed = train_mend(vit, source, SETTINGS, log=log, state=state, save_every=2, progress=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert rows(log) == rows(tmp_path / "whole.csv")
    assert len(rows(log)) == 6


def test_a_finished_run_can_be_made_longer(vit: nn.Module, source: ImageSource, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    train_mend(vit, source, replace(SETTINGS, iterations=3), state=state, progress=False)
    longer = train_mend(vit, source, SETTINGS, state=state, progress=False)
    at_once = train_mend(vit, source, SETTINGS, progress=False)
    assert all(torch.equal(v, longer.state_dict()[k]) for k, v in at_once.state_dict().items())


def test_states_that_do_not_belong(
    vit: nn.Module, make_vit: Callable[..., nn.Module], source: ImageSource, tmp_path: Path
) -> None:
    state = tmp_path / "state.pt"
    train_mend(vit, source, replace(SETTINGS, iterations=1), state=state, progress=False)
    for model, settings in ((make_vit(seed=1), SETTINGS), (vit, replace(SETTINGS, rank=5))):
        with pytest.raises(CheckpointError, match="belongs to another model or other settings; delete it"):
            train_mend(model, source, settings, state=state, progress=False)
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="is not a complete training state; delete it to start anew"):
        train_mend(vit, source, SETTINGS, state=state, progress=False)


def test_a_sample_is_held_to_images_it_has_nothing_of(vit: nn.Module, source: ImageSource) -> None:
    run = MendTraining(vit, source, replace(SETTINGS, locality_images=4))
    batch = run._batch(0)
    for i in range(3):
        others = batch.others(i, 4).tolist()
        assert len(set(others)) == 4
        assert not {i, i + 3} & set(others)


def test_labels_are_what_the_model_sees_in_the_clean_host(vit: nn.Module, source: ImageSource) -> None:
    batch = MendTraining(vit, source, SETTINGS)._batch(0)
    assert torch.equal(batch.labels, batch.before[:3].argmax(1))
    assert batch.mixed.shape == batch.clean[:3].shape
    assert not torch.equal(batch.mixed, batch.clean[:3])


def test_it_stops_at_values_that_are_not_finite(vit: nn.Module, source: ImageSource, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    run = MendTraining(vit, source, SETTINGS)
    run.begin()
    run.step(0)
    run.save(state, 1)
    kept = state.read_bytes()
    with torch.no_grad():
        run.network.log_rates.fill_(math.inf)
    with pytest.raises(
        TrainingDivergedError, match="not finite at iteration 1; the last saved state is kept"
    ):
        run.step(1)
    assert state.read_bytes() == kept


def test_wrong_images_are_named_by_their_iteration(
    vit: nn.Module, image_maker: Callable[..., Tensor]
) -> None:
    with pytest.raises(InvalidInputError, match="iteration 0 gave 4 images; 3 pairs need 6"):
        train_mend(vit, lambda _: image_maker(4), SETTINGS, progress=False)
    with pytest.raises(InvalidInputError, match="iteration 0: "):
        train_mend(vit, lambda _: image_maker(6) + 1, SETTINGS, progress=False)


def test_settings_out_of_range() -> None:
    with pytest.raises(InvalidInputError, match="pairs is 1; it must be at least 2"):
        MendTrainingSettings(pairs=1)
    with pytest.raises(InvalidInputError, match="locality_images is 5; 3 pairs have 4 other images"):
        MendTrainingSettings(pairs=3, locality_images=5)
    with pytest.raises(InvalidInputError, match="edit_rate is 0; it must be a finite number above 0"):
        MendTrainingSettings(edit_rate=0)
