"""Training one network for a number of steps, so that a run that is killed and goes on ends as one that was not.

Everything random in a step comes from (seed, name, step) alone.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.errors import TrainingDivergedError
from workbench.training_state import read_state, write_state

#: Loss of one step; the generator is the step's own.
StepLoss = Callable[[torch.Generator], Tensor]

_WARM_UP = 0.05
_SAVE_SECONDS = 60.0
_LOG_STEPS = 50


@dataclass(frozen=True)
class FitSettings:
    """How a network is trained: AdamW, a linear warm-up, then a cosine to zero.

    Args:
        steps: How many.
        learning_rate: Its highest value.
        weight_decay: AdamW's.
        seed: Seed of everything random.
    """

    steps: int
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm = max(1, round(self.steps * _WARM_UP))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def fit(
    name: str,
    network: nn.Module,
    loss: StepLoss,
    settings: FitSettings,
    state: StateFile,
    report: Callable[[Mapping[str, float]], None] = lambda row: None,
    progress: bool = True,
    deadline: float | None = None,
) -> int:
    """Train a network in place; a run that was cut short in it goes on where it was.

    Args:
        name: Of this fit within the run.
        network: What is trained.
        loss: Loss of a step.
        settings: How.
        state: Where the run keeps its state.
        report: Told of every fiftieth step: step, loss, learning rate.
        progress: Show a progress bar.
        deadline: Seconds of processor time after which this fit stops early, the rate having fallen with time instead
            of steps; for comparisons at equal time. Such a fit is not reproducible.

    Returns:
        The number of steps taken.

    Raises:
        TrainingDivergedError: a loss is not finite; the last saved state is kept.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    start = state.resume(name, network, optimiser)
    network.train()
    began, saved = time.process_time(), time.monotonic()
    recent: list[float] = []
    taken = start
    bar = tqdm(
        range(start, settings.steps),
        initial=start,
        total=settings.steps,
        desc=name,
        disable=not progress,
        mininterval=5,
    )
    for step in bar:
        elapsed = time.process_time() - began
        if deadline is not None and elapsed >= deadline:
            break
        virtual = step if deadline is None else int(elapsed / deadline * settings.steps)
        recent.append(_step(name, network, optimiser, loss, settings, step, settings.rate(virtual)))
        if (step + 1) % _LOG_STEPS == 0 or step + 1 == settings.steps:
            mean = sum(recent) / len(recent)
            report({"step": float(step + 1), "loss": mean, "learning_rate": settings.rate(virtual)})
            bar.set_postfix(loss=f"{mean:.5f}")
            recent = []
        if time.monotonic() - saved > _SAVE_SECONDS:
            state.save_step(name, network, optimiser, step + 1)
            saved = time.monotonic()
        taken = step + 1
    network.eval()
    return taken


def _step(
    name: str,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: StepLoss,
    settings: FitSettings,
    step: int,
    rate: float,
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = rate
    seed = seed_of(settings.seed, name, step)
    torch.manual_seed(seed)  # dropout draws from the global generator
    value = loss(torch.Generator().manual_seed(seed))
    if not torch.isfinite(value):
        raise TrainingDivergedError(
            f"{name}: the loss is {value.item()} at step {step}; the last saved state is kept. Lower the learning rate "
            f"(now {settings.learning_rate:g}), or look at the radiographs"
        )
    optimiser.zero_grad(set_to_none=True)
    value.backward()
    optimiser.step()
    return value.item()


def seed_of(*parts: object) -> int:
    """A seed from anything that has a repr, the same in every process.

    Example:
        >>> seed_of(0, "centres 1", 25) == seed_of(0, "centres 1", 25)
        True
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


class StateFile:
    """The state of a run in one file: what is finished, and the fit that is under way.

    Args:
        path: The file; None keeps nothing.
        identity: What the run is; a file of another run is refused.

    Raises:
        CheckpointError: the file is damaged, or belongs to another run.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path, self.identity = path, identity
        self.done: dict[str, Any] = {}
        self._under_way: dict[str, Any] | None = None
        if path is not None and path.exists():
            saved = read_state(path, identity, "another run (other data or settings)")
            self.done, self._under_way = saved["done"], saved["under_way"]

    def resume(self, name: str, network: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Put a fit where it was cut short; returns its next step."""
        found = self._under_way
        if found is None or found["name"] != name:
            return 0
        network.load_state_dict(found["network"])
        optimiser.load_state_dict(found["optimiser"])
        return int(found["step"])

    def save_step(self, name: str, network: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Keep a fit that is under way."""
        self._under_way = {
            "name": name,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
        }
        self._write()

    def finish(self, name: str, value: Any) -> None:
        """Keep what a finished part of the run gave: tensors, numbers, and dictionaries and lists of them."""
        self.done[name], self._under_way = value, None
        self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        state = {"identity": self.identity, "done": self.done, "under_way": self._under_way}
        write_state(self.path, state)
