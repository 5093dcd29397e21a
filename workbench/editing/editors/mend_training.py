"""Meta-train a MEND network on CutMix pseudo-failures, those that hypernetworks learn from.

An iteration mixes a few pairs of images and takes the gradient of each mixed image's cross-entropy, with the class
that the model sees in the clean host as the label. The network turns it into an update of its own for each pair, and
learns to make the updates right (edit loss: the same cross-entropy after the update) and harmless (locality loss: how
far predictions on other clean images move). Labels are hard, as in an edit, so that gradients have the size they will
have there.

Everything random in iteration i comes from (seed, i) alone, so a run that was killed and resumed gives the same
result as one that was not. From the published training (on language models) come the weights of the two losses, 0.1 and
1, and Adam; the port is a design of ours (specification, section 6.3).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.editing.cutmix import cutmix
from workbench.editing.editors._optimise import check_count, check_positive
from workbench.editing.editors.mend_network import Factors, MendNetwork, gradient_factors
from workbench.editing.meta_training import ImageSource, hosts_and_donors
from workbench.editing.space import DEFAULT_BLOCKS, EditSpace
from workbench.errors import InvalidInputError, TrainingDivergedError
from workbench.models import SplitViT, fingerprint
from workbench.models.split import reads_prefix_tokens_only
from workbench.training_log import TrainingLog
from workbench.training_state import read_state, write_state


@dataclass(frozen=True)
class MendTrainingSettings:
    """How a MEND network is trained.

    Args:
        iterations: Batches of pairs.
        pairs: Hosts (and donors) an iteration, at least 2: the others' hosts are what a sample must leave alone.
        blocks: Edited blocks, 0-based.
        rank: Rank of the network's residual layers.
        edit_rate: Step size that each matrix starts with.
        learning_rate: Adam's on the network.
        rate_learning_rate: Adam's on the logarithms of the step sizes.
        edit_weight: Weight of the edit loss.
        locality_weight: Weight of the locality loss.
        locality_images: Clean images a sample, at most ``2 * pairs - 2``.
        clip: Largest norm of the gradient of one iteration.
        statistics: Iterations whose pseudo-failures give the means and deviations that pairs are normalised with.
        sides: Sides of the CutMix rectangles in patches; None scales the published 3 to 8 of 14.
        seed: Seed of everything random.
    """

    iterations: int = 1000
    pairs: int = 4
    blocks: tuple[int, ...] = DEFAULT_BLOCKS
    rank: int = 128
    edit_rate: float = 1e-3
    learning_rate: float = 3e-4
    rate_learning_rate: float = 1e-2
    edit_weight: float = 0.1
    locality_weight: float = 1.0
    locality_images: int = 2
    clip: float = 1.0
    statistics: int = 8
    sides: tuple[int, int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_count(
            iterations=self.iterations,
            rank=self.rank,
            statistics=self.statistics,
            locality_images=self.locality_images,
        )
        check_positive(
            edit_rate=self.edit_rate,
            learning_rate=self.learning_rate,
            rate_learning_rate=self.rate_learning_rate,
            clip=self.clip,
        )
        if self.pairs < 2:
            raise InvalidInputError(f"pairs is {self.pairs}; it must be at least 2")
        if self.locality_images > 2 * self.pairs - 2:
            raise InvalidInputError(
                f"locality_images is {self.locality_images}; {self.pairs} pairs have {2 * self.pairs - 2} other images"
            )


def train_mend(
    model: nn.Module,
    images: ImageSource,
    settings: MendTrainingSettings | None = None,
    log: Path | None = None,
    state: Path | None = None,
    save_every: int = 25,
    progress: bool = True,
) -> MendNetwork:
    """Train a MEND network for `model`, which is not changed.

    Args:
        model: The classifier whose failures will be edited.
        images: Gives the 2 · pairs images of an iteration.
        settings: See `MendTrainingSettings`.
        log: CSV file, one row an iteration: losses, success, step sizes.
        state: File that holds the state every `save_every` iterations; an existing one is continued.
        save_every: Iterations between two saves.
        progress: Show a progress bar.

    Raises:
        TrainingDivergedError: a value is not finite; the message names the iteration, the last state is kept.
        CheckpointError: the state file belongs to another model or other settings.
    """
    settings = settings or MendTrainingSettings()
    run = MendTraining(model, images, settings)
    start = run.load(state) if state is not None and state.exists() else run.begin()
    rows = TrainingLog(log, keep=start)
    bar = tqdm(
        range(start, settings.iterations),
        initial=start,
        total=settings.iterations,
        desc="training MEND",
        disable=not progress,
        mininterval=5,
    )
    for iteration in bar:
        row = run.step(iteration)
        rows.append(row)
        bar.set_postfix(edit=f"{row['edit_loss']:.3f}", locality=f"{row['locality_loss']:.4f}")
        if state is not None and ((iteration + 1) % save_every == 0 or iteration + 1 == settings.iterations):
            run.save(state, iteration + 1)
    return run.network.eval().requires_grad_(False)


@dataclass(frozen=True)
class _Batch:
    """The pseudo-failures of an iteration and the clean images around them, at the tail's entry."""

    mixed: Tensor
    labels: Tensor
    clean: Tensor
    before: Tensor

    def others(self, i: int, count: int) -> Tensor:
        """Positions of `count` clean images that sample `i` has nothing of: hosts and donors of the next ones."""
        pairs = len(self.labels)
        following = (torch.arange(count) // 2 + i + 1) % pairs
        return following + pairs * (torch.arange(count) % 2)


class MendTraining:
    """One training run: its network, optimiser and the work of one iteration."""

    def __init__(self, model: nn.Module, images: ImageSource, settings: MendTrainingSettings) -> None:
        self.images, self.settings = images, settings
        space = EditSpace.of(model, settings.blocks)
        self.split = SplitViT(model, space.blocks[0], pooled_only=reads_prefix_tokens_only(model))
        self.weights = {a: w.detach() for a, w in space.weights(model).items()}
        base = fingerprint(model)
        network = MendNetwork(space, settings.rank, settings.edit_rate, settings.seed, base)
        self.network = network.to(self.split.device)
        pairs = [p for name, p in self.network.named_parameters() if name != "log_rates"]
        self.optimiser = torch.optim.Adam(
            [
                {"params": pairs, "lr": settings.learning_rate},
                {"params": [self.network.log_rates], "lr": settings.rate_learning_rate},
            ]
        )
        self.identity = {"base": base, "settings": repr(replace(settings, iterations=1))}

    def begin(self) -> int:
        """Measure what pairs are normalised with; returns the first iteration."""
        seen: dict[str, list[Tensor]] = {a: [] for a in self.network.space.addresses}
        for iteration in range(self.settings.statistics):
            batch = self._batch(iteration)
            _, gradients = gradient_factors(self.split, self.network.space, batch.mixed, batch.labels)
            for address, pair in gradients.items():
                seen[address].append(torch.cat(pair, dim=-1).flatten(0, 1))
        for address, parts in seen.items():
            self.network.normalise(address, torch.cat(parts))
        return 0

    def step(self, iteration: int) -> dict[str, float]:
        """One iteration: pseudo-edits, their losses, one step of Adam. Returns the row of the log."""
        began = time.perf_counter()
        s, network = self.settings, self.network
        batch = self._batch(iteration)
        unedited, gradients = gradient_factors(self.split, network.space, batch.mixed, batch.labels)
        self.optimiser.zero_grad()
        rows = []
        for i in range(s.pairs):
            own = {a: Factors(pair.inputs[i], pair.errors[i]) for a, pair in gradients.items()}
            rows.append(self._sample(batch, i, own))
        norm = nn.utils.clip_grad_norm_(network.parameters(), s.clip)
        edit, locality, right, kept = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
        row = {
            "iteration": float(iteration),
            "edit_loss_before": float(F.cross_entropy(unedited, batch.labels)),
            "edit_loss": edit,
            "locality_loss": locality,
            "right_before": float((unedited.argmax(1) == batch.labels).float().mean()),
            "right": right,
            "kept": kept,
            "gradient_norm": float(norm),
        }
        self._require_finite(iteration, row)
        self.optimiser.step()
        rates = network.log_rates.detach().exp()
        return row | {
            "smallest_rate": float(rates.min()),
            "largest_rate": float(rates.max()),
            "seconds": time.perf_counter() - began,
        }

    def _sample(self, batch: _Batch, i: int, gradients: dict[str, Factors]) -> tuple[float, ...]:
        """Backward pass of one sample under its own weights, so that only one set of them is held at a time."""
        s = self.settings
        updates = self.network(gradients)
        weights = {a: self.weights[a] + u.errors.T @ u.inputs for a, u in updates.items()}
        others = batch.others(i, s.locality_images)
        logits = self.split.tail(torch.cat([batch.mixed[i : i + 1], batch.clean[others]]), weights)
        before = batch.before[others].log_softmax(1)
        edit = F.cross_entropy(logits[:1], batch.labels[i : i + 1])
        locality = F.kl_div(logits[1:].log_softmax(1), before, reduction="batchmean", log_target=True)
        loss = (s.edit_weight * edit + s.locality_weight * locality) / s.pairs
        loss.backward(
            inputs=list(self.network.parameters())  # the model's own may want gradients too
        )
        found = logits.detach().argmax(1)
        right, kept = found[0] == batch.labels[i], (found[1:] == before.argmax(1)).float().mean()
        return float(edit.detach()), float(locality.detach()), float(right), float(kept)

    def _batch(self, iteration: int) -> _Batch:
        """The pseudo-failures of an iteration; a pure function of it and the seed."""
        s = self.settings
        hosts, donors = hosts_and_donors(self.images, iteration, s.pairs)
        generator = torch.Generator().manual_seed(s.seed * 1_000_003 + iteration)
        patch = self.split.model.patch_embed.patch_size
        mixed = cutmix(hosts, donors, patch, generator, s.sides).images
        clean = self.split.prefix(torch.cat([hosts, donors]))
        with torch.no_grad():
            before = self.split.tail(clean)
        return _Batch(self.split.prefix(mixed), before[: s.pairs].argmax(1), clean, before)

    def save(self, path: Path, iteration: int) -> None:
        """Write the state after `iteration` iterations, atomically."""
        write_state(
            path,
            {
                "identity": self.identity,
                "iteration": iteration,
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
        )

    def load(self, path: Path) -> int:
        """Continue from a state file; returns the next iteration."""
        saved = read_state(path, self.identity)
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        return int(saved["iteration"])

    def _require_finite(self, iteration: int, row: Mapping[str, float]) -> None:
        bad = [name for name, value in row.items() if not math.isfinite(value)]
        if bad:
            raise TrainingDivergedError(
                f"{', '.join(bad)} not finite at iteration {iteration}; the last saved state is kept. "
                "Lower the edit rate or the learning rates"
            )
