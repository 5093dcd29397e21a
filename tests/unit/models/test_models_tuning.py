"""Tuning a backbone into a classifier: what is trained, that it learns, and that it resumes exactly."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.errors import CheckpointError, InvalidInputError, TrainingDivergedError
from workbench.models import logits_of
from workbench.models.tuning import TuningSettings, tune_classifier

FAST = {"batch_size": 8, "bfloat16": False, "learning_rate": 1e-3, "head_learning_rate": 1e-2, "epochs": 4}


def epoch_data(epoch: int) -> tuple[Tensor, Tensor]:
    """Three classes, told apart by which colour is bright; a pure function of the epoch."""
    generator = torch.Generator().manual_seed(epoch)
    targets = torch.arange(30) % 3
    images = 0.4 * torch.rand(30, 3, 32, 32, generator=generator)
    images[torch.arange(30), targets] += 0.5
    return images, targets


@pytest.fixture
def backbone(make_vit: Callable[..., nn.Module]) -> nn.Module:
    return make_vit(num_classes=3)


def tuned(backbone: nn.Module, **changes: object) -> dict[str, Tensor]:
    return tune_classifier(backbone, epoch_data, TuningSettings(**{**FAST, **changes}))


def test_a_linear_probe_changes_the_head_alone(backbone: nn.Module) -> None:
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    found = tuned(backbone, method="linear-probe")
    assert set(found) == {"head.weight", "head.bias"}
    changed = {n for n, v in backbone.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"head.weight", "head.bias"}


def test_the_last_blocks_and_the_head_change_and_the_rest_stays(backbone: nn.Module) -> None:
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    found = tuned(backbone, first_block=3)
    wanted = {n for n in before if n.startswith(("head.", "blocks.3.", "blocks.4."))}
    assert set(found) == wanted
    assert {n for n, v in backbone.state_dict().items() if not torch.equal(v, before[n])} == wanted
    assert all(torch.equal(backbone.state_dict()[n], v) for n, v in found.items())


@pytest.mark.parametrize("method", ["linear-probe", "last-blocks"])
@pytest.mark.parametrize("average", [0.0, 0.99])
def test_it_learns(backbone: nn.Module, method: str, average: float) -> None:
    tuned(backbone, method=method, first_block=3, epochs=12, average=average)
    images, targets = epoch_data(999)
    assert (logits_of(backbone, images).argmax(1) == targets).double().mean() > 0.9


def test_bfloat16_keeps_the_weights_in_single_precision(backbone: nn.Module) -> None:
    assert all(v.dtype == torch.float32 for v in tuned(backbone, bfloat16=True, epochs=1).values())


def test_the_average_of_the_weights_is_kept_only_where_asked(make_vit: Callable[..., nn.Module]) -> None:
    last = tuned(make_vit(num_classes=3), average=0.0)
    averaged = tuned(make_vit(num_classes=3), average=0.99)
    assert not torch.equal(last["head.weight"], averaged["head.weight"])


class Killed(BaseException):
    """Stands for the end of a process."""


def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, make_vit: Callable[..., nn.Module]
) -> None:
    settings = TuningSettings(**FAST, first_block=3)
    whole = tune_classifier(make_vit(num_classes=3), epoch_data, settings, log=tmp_path / "whole.csv")

    def killed_at_2(epoch: int) -> tuple[Tensor, Tensor]:
        if epoch == 2:
            raise Killed
        return epoch_data(epoch)

    log, state = tmp_path / "log.csv", tmp_path / "state.pt"
    with pytest.raises(Killed):
        tune_classifier(make_vit(num_classes=3), killed_at_2, settings, log=log, state=state)
    resumed = tune_classifier(make_vit(num_classes=3), epoch_data, settings, log=log, state=state)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert log.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    rows = list(csv.DictReader(log.open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert list(rows[0]) == ["epoch", "loss", "accuracy"]


def test_the_seed_decides(make_vit: Callable[..., nn.Module]) -> None:
    first, again = tuned(make_vit(num_classes=3)), tuned(make_vit(num_classes=3))
    other = tuned(make_vit(num_classes=3), seed=1)
    assert torch.equal(first["head.weight"], again["head.weight"])
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_loss_that_is_not_finite_names_epoch_and_step(tmp_path: Path, backbone: nn.Module) -> None:
    def poisoned(epoch: int) -> tuple[Tensor, Tensor]:
        images, targets = epoch_data(epoch)
        return (images * torch.nan if epoch == 1 else images), targets

    state = tmp_path / "state.pt"
    with pytest.raises(
        TrainingDivergedError, match=r"the loss is nan at epoch 2, step 0; lower learning_rate"
    ):
        tune_classifier(backbone, poisoned, TuningSettings(**FAST), state=state)
    saved = torch.load(state, weights_only=True)
    assert saved["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in saved["weights"].values())


def test_an_unknown_method() -> None:
    with pytest.raises(InvalidInputError, match="method 'all' is neither 'linear-probe' nor 'last-blocks'"):
        TuningSettings(method="all")  # type: ignore[arg-type]


def test_a_state_of_other_settings_or_another_model_is_refused(
    tmp_path: Path, make_vit: Callable[..., nn.Module]
) -> None:
    state = tmp_path / "state.pt"
    tune_classifier(make_vit(num_classes=3), epoch_data, TuningSettings(**FAST, first_block=3), state=state)
    belongs = r"state\.pt belongs to another model or other settings; delete it to start anew"
    with pytest.raises(CheckpointError, match=belongs):
        tune_classifier(
            make_vit(num_classes=3), epoch_data, TuningSettings(**FAST, first_block=4), state=state
        )
    with pytest.raises(CheckpointError, match=belongs):
        tune_classifier(
            make_vit(num_classes=3, depth=6), epoch_data, TuningSettings(**FAST, first_block=3), state=state
        )


def test_more_epochs_continue_a_finished_run(tmp_path: Path, make_vit: Callable[..., nn.Module]) -> None:
    state, seen = tmp_path / "state.pt", []

    def watched(epoch: int) -> tuple[Tensor, Tensor]:
        seen.append(epoch)
        return epoch_data(epoch)

    for epochs in (2, 2, 3):
        settings = TuningSettings(**{**FAST, "epochs": epochs})
        tune_classifier(make_vit(num_classes=3), watched, settings, state=state)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"not a state", None])
def test_a_damaged_state_is_refused(tmp_path: Path, backbone: nn.Module, content: bytes | None) -> None:
    state = tmp_path / "state.pt"
    if content is None:
        tune_classifier(backbone, epoch_data, TuningSettings(**{**FAST, "epochs": 1}), state=state)
        content = state.read_bytes()[:-500]
    state.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt is not a complete training state; delete it"):
        tune_classifier(backbone, epoch_data, TuningSettings(**FAST), state=state)
