"""Tune a backbone into a classifier as a practitioner would: a linear probe, or the last blocks and the head.

Every epoch draws one new view of every drawing. Training is deterministic by seed and resumes from a state file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.errors import InvalidInputError, TrainingDivergedError
from workbench.models.preprocessing import normalize
from workbench.training_log import TrainingLog
from workbench.training_state import read_state, write_state

Method = Literal["linear-probe", "last-blocks"]

#: An epoch's images in [0, 1] and their class indices; a pure function of the epoch number.
EpochData = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TuningSettings:
    """How a classifier is tuned.

    Args:
        method: Train the head alone, or the head and the blocks from `first_block` on.
        first_block: First trained block, 0-based.
        epochs: Passes, each over one new view of every drawing.
        batch_size: Images a step.
        learning_rate: Peak for the blocks (AdamW, linear warm-up over the first tenth, cosine to zero).
        head_learning_rate: Peak for the head.
        weight_decay: Decoupled weight decay of matrices.
        label_smoothing: Mass spread over all classes.
        average: Decay of the moving average of weights that is kept at the end; 0 keeps the last weights.
        bfloat16: Run the matrix products in bfloat16 (weights stay float32).
        seed: Order of images and initial head.
    """

    method: Method = "last-blocks"
    first_block: int = 7
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    average: float = 0.99
    bfloat16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("linear-probe", "last-blocks"):
            raise InvalidInputError(f"method {self.method!r} is neither 'linear-probe' nor 'last-blocks'")


def tune_classifier(
    model: nn.Module,
    data: EpochData,
    settings: TuningSettings,
    log: Path | None = None,
    state: Path | None = None,
) -> dict[str, Tensor]:
    """Train `model` (a timm ViT with a head) in place and return the trained tensors by name.

    Args:
        model: Its head is initialised here from the seed.
        data: Called once an epoch with the epoch number.
        settings: See `TuningSettings`.
        log: CSV file with epoch, loss, and accuracy on the views just trained on.
        state: File that holds the state after each epoch; an existing one is continued.

    Raises:
        TrainingDivergedError: the loss is not finite; the message names epoch and step.
        CheckpointError: the state file is damaged, or belongs to another model or other settings.
    """
    run = _Run(model, settings)
    start = run.load(state)
    rows = TrainingLog(log, keep=start)
    for epoch in range(start, settings.epochs):
        rows.append(run.epoch(epoch, *data(epoch)))
        run.save(state, epoch + 1)
    run.use_average()
    return {name: value.detach().clone() for name, value in run.trained.items()}


class _Run:
    """The state of one training run."""

    def __init__(self, model: nn.Module, settings: TuningSettings) -> None:
        self.model, self.settings = model, settings
        generator = torch.Generator().manual_seed(settings.seed)
        with torch.no_grad():
            model.get_parameter("head.weight").normal_(std=0.02, generator=generator)
            model.get_parameter("head.bias").zero_()
        self.trained = {n: p for n, p in model.named_parameters() if self._is_trained(n)}
        model.requires_grad_(False)
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self.average = {n: p.detach().clone() for n, p in self.trained.items()}
        self.optimiser = torch.optim.AdamW(self._groups())
        self.peaks = [group["lr"] for group in self.optimiser.param_groups]
        self.steps = 0
        self.identity = repr((replace(settings, epochs=1), sorted(self.trained)))

    def _is_trained(self, name: str) -> bool:
        if name.startswith("head."):
            return True
        if self.settings.method == "linear-probe":
            return False
        return name.startswith("blocks.") and int(name.split(".")[1]) >= self.settings.first_block

    def _groups(self) -> list[dict[str, object]]:
        s = self.settings
        groups = []
        for is_head, lr in ((False, s.learning_rate), (True, s.head_learning_rate)):
            for is_matrix, decay in ((True, s.weight_decay), (False, 0.0)):
                members = [
                    p
                    for n, p in self.trained.items()
                    if n.startswith("head.") == is_head and (p.ndim > 1) == is_matrix
                ]
                if members:
                    groups.append({"params": members, "lr": lr, "weight_decay": decay})
        return groups

    def epoch(self, epoch: int, images: Tensor, targets: Tensor) -> dict[str, float]:
        order = torch.randperm(
            len(images), generator=torch.Generator().manual_seed(1000 * self.settings.seed + epoch)
        )
        batches = order.split(self.settings.batch_size)
        total, right = 0.0, 0
        bar = tqdm(batches, desc=f"epoch {epoch + 1}/{self.settings.epochs}", leave=False)
        for step, batch in enumerate(bar):
            self._schedule((epoch + step / len(batches)) / self.settings.epochs)
            loss, logits = self._step(images[batch], targets[batch])
            if not math.isfinite(loss):
                raise TrainingDivergedError(
                    f"the loss is {loss} at epoch {epoch + 1}, step {step}; lower learning_rate"
                )
            total += loss * len(batch)
            right += int((logits.argmax(1) == targets[batch]).sum())
            bar.set_postfix(loss=f"{loss:.3f}")
        return {"epoch": epoch + 1, "loss": total / len(images), "accuracy": right / len(images)}

    def _step(self, images: Tensor, targets: Tensor) -> tuple[float, Tensor]:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.settings.bfloat16):
            logits = self.model(normalize(self.model, images)).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self.settings.label_smoothing)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        self.steps += 1
        # A young average forgets its start quickly.
        decay = min(self.settings.average, self.steps / (self.steps + 10))
        for name, parameter in self.trained.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)
        return float(loss.detach()), logits.detach()

    def _schedule(self, progress: float) -> None:
        warm = min(1.0, progress / 0.1)
        factor = warm * 0.5 * (1 + math.cos(math.pi * progress))
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor

    def use_average(self) -> None:
        if self.settings.average > 0:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(self.average[name])

    def save(self, path: Path | None, epoch: int) -> None:
        if path is None:
            return
        write_state(
            path,
            {
                "identity": self.identity,
                "epoch": epoch,
                "steps": self.steps,
                "weights": {n: p.detach() for n, p in self.trained.items()},
                "average": self.average,
                "optimiser": self.optimiser.state_dict(),
            },
        )

    def load(self, path: Path | None) -> int:
        if path is None or not path.exists():
            return 0
        saved = read_state(path, self.identity)
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(saved["weights"][name])
        self.average, self.steps = saved["average"], saved["steps"]
        self.optimiser.load_state_dict(saved["optimiser"])
        return int(saved["epoch"])
