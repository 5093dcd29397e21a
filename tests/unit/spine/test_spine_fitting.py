"""Fits that are cut short and go on: the same weights to the last bit, and states that are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.errors import CheckpointError, TrainingDivergedError
from workbench.spine import fitting
from workbench.spine.fitting import FitSettings, StateFile, fit, seed_of

SETTINGS = FitSettings(steps=30, learning_rate=1e-2)


class Killed(Exception):
    """What stands for the end of the process."""


@pytest.fixture(autouse=True)
def _save_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_SAVE_SECONDS", -1.0)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))


def loss_of(
    model: nn.Module, killed_at: int | None = None, wrong_at: int | None = None
) -> Callable[[torch.Generator], Tensor]:
    calls = 0

    def loss(generator: torch.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        if calls - 1 == killed_at:
            raise Killed
        x = torch.randn(8, 3, generator=generator)
        value = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return value * float("nan") if calls - 1 == wrong_at else value

    return loss


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def plain_fit(settings: FitSettings = SETTINGS) -> nn.Module:
    model = network()
    fit("toy", model, loss_of(model), settings, StateFile(None, "run"), progress=False)
    return model


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    first = plain_fit()
    torch.rand(5)
    assert same(first, plain_fit())
    assert not same(first, plain_fit(FitSettings(30, 1e-2, seed=1)))
    assert not first.training


@pytest.mark.parametrize("killed_at", [1, 17, 29])
def test_a_fit_that_was_killed_ends_as_one_that_was_not(tmp_path: Path, killed_at: int) -> None:
    path, model = tmp_path / "run.state", network()
    with pytest.raises(Killed):
        fit("toy", model, loss_of(model, killed_at), SETTINGS, StateFile(path, "run"), progress=False)
    again = network()
    taken = fit("toy", again, loss_of(again), SETTINGS, StateFile(path, "run"), progress=False)
    assert taken == 30
    assert same(again, plain_fit())


def test_a_kill_before_the_last_save_repeats_the_steps_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = tmp_path / "run.state", network()
    state = StateFile(path, "run")
    with pytest.raises(Killed):
        fit("toy", model, loss_of(model, 9), SETTINGS, state, progress=False)
    monkeypatch.setattr(fitting, "_SAVE_SECONDS", 1e9)
    for killed_at in (4, 12):
        model = network()
        with pytest.raises(Killed):
            fit("toy", model, loss_of(model, killed_at), SETTINGS, StateFile(path, "run"), progress=False)
    again = network()
    fit("toy", again, loss_of(again), SETTINGS, StateFile(path, "run"), progress=False)
    assert same(again, plain_fit())


def test_the_state_of_one_fit_is_not_taken_for_another(tmp_path: Path) -> None:
    path, model = tmp_path / "run.state", network()
    with pytest.raises(Killed):
        fit("first", model, loss_of(model, 9), SETTINGS, StateFile(path, "run"), progress=False)
    other = network()
    fit("toy", other, loss_of(other), SETTINGS, StateFile(path, "run"), progress=False)
    assert same(other, plain_fit())


def test_what_is_finished_is_kept_and_nothing_is_under_way_then(tmp_path: Path) -> None:
    path, model = tmp_path / "run.state", network()
    state = StateFile(path, "run")
    state.save_step("toy", model, torch.optim.AdamW(model.parameters()), 3)
    state.finish("part", [torch.arange(3), {"a": torch.ones(2)}])
    found = StateFile(path, "run")
    assert torch.equal(found.done["part"][0], torch.arange(3))
    assert found.resume("toy", model, torch.optim.AdamW(model.parameters())) == 0


def test_nothing_is_written_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain_fit()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_state_is_refused(tmp_path: Path, share: float) -> None:
    path, model = tmp_path / "run.state", network()
    StateFile(path, "run").save_step("toy", model, torch.optim.AdamW(model.parameters()), 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        CheckpointError, match=r"run.state is not a complete training state; delete it to start anew"
    ):
        StateFile(path, "run")


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x02K\x01.", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(200)]
)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.state"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="delete it to start anew"):
        StateFile(path, "run")


@pytest.mark.parametrize("saved", [{"network": torch.ones(2)}, [1, 2], torch.ones(3)])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, saved: object) -> None:
    path = tmp_path / "run.state"
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match="is not the state of a training run"):
        StateFile(path, "run")


def test_nothing_in_a_state_is_run(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    torch.save({"identity": "run", "done": {"x": Path("/")}, "under_way": None}, path)
    with pytest.raises(CheckpointError, match="delete it to start anew"):
        StateFile(path, "run")


def test_the_state_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    StateFile(path, "run").finish("part", 1)
    with pytest.raises(CheckpointError, match=r"belongs to another run \(other data or settings\)"):
        StateFile(path, "other run")
    assert StateFile(path, "run").done == {"part": 1}


def test_a_loss_that_is_not_finite_ends_the_fit_and_keeps_the_state(tmp_path: Path) -> None:
    path, model = tmp_path / "run.state", network()
    with pytest.raises(TrainingDivergedError, match=r"toy: the loss is nan at step 11; .* \(now 0\.01\)"):
        fit("toy", model, loss_of(model, wrong_at=11), SETTINGS, StateFile(path, "run"), progress=False)
    again = network()
    fit("toy", again, loss_of(again), SETTINGS, StateFile(path, "run"), progress=False)
    assert same(again, plain_fit())


def test_every_fiftieth_step_and_the_last_are_reported() -> None:
    model, rows = network(), list[Mapping[str, float]]()
    state = StateFile(None, "run")
    fit("toy", model, loss_of(model), FitSettings(120, 1e-2), state, rows.append, progress=False)
    assert [row["step"] for row in rows] == [50, 100, 120]
    assert rows[2]["loss"] < rows[0]["loss"]


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    settings = FitSettings(200, 1e-3)
    rates = np.array([settings.rate(step) for step in range(200)])
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == pytest.approx(1e-3)
    assert rates.max() == rates[10] == 1e-3
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] < 1e-6
    assert FitSettings(1).rate(0) == 1e-3


def test_a_deadline_ends_a_fit_early() -> None:
    model = network()
    settings = FitSettings(10**7, 1e-2)
    taken = fit("toy", model, loss_of(model), settings, StateFile(None, "run"), progress=False, deadline=0.2)
    assert 1 < taken < 10**6
    assert not model.training


def test_seeds_differ_by_each_part() -> None:
    seeds = {
        seed_of(*parts)
        for parts in [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1), (0, "a"), ("0", "a")]
    }
    assert len(seeds) == 6
    assert seed_of(0, "centres 1", 25) == 58815680622003556
