"""Meta-train the hypernetwork: search masks for CutMix pseudo-failures, then teach the network to predict them.

Everything random in iteration i comes from (seed, i) alone, so a run that was killed and resumed gives the same
result as one that was not. Source: specification, sections 3 and 10.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.data.images import check_images
from workbench.editing.cutmix import cutmix
from workbench.editing.hypernetwork import TRAINING_EPS, MaskHypernetwork, MaskNetwork
from workbench.editing.losses import distillation
from workbench.editing.mask_search import (
    SampleLosses,
    SearchResult,
    SearchSettings,
    samples_within,
    search_masks,
)
from workbench.editing.space import DEFAULT_BLOCKS, EditSpace
from workbench.errors import InvalidInputError, TrainingDivergedError, UnknownNameError
from workbench.models import SplitViT, fingerprint
from workbench.training_log import TrainingLog
from workbench.training_state import read_state, write_state

#: Images of one iteration in [0, 1], hosts first, then as many donors; a pure function of the iteration number.
ImageSource = Callable[[int], Tensor]

#: Bytes for the weights of samples that are searched together. On two cores more of them are no faster.
SEARCH_MEMORY = 1 << 29

#: Label entries that differ by more than this from those of another sample count as specific to the sample.
_SPECIFIC = 0.2


@dataclass(frozen=True)
class MetaTrainingSettings:
    """How a hypernetwork is trained; the defaults are the corrected variant.

    Args:
        iterations: Batches of pairs (the published run uses its 7,000th of 10,000).
        pairs: Hosts (and donors) an iteration.
        blocks: Edited blocks, 0-based.
        depth: Transformer blocks of the hypernetwork.
        learning_rate: RMSprop's, with a cosine schedule over `schedule` iterations.
        schedule: Length of the cosine; None for `iterations` (published: 20,000, of which half are run).
        label_steps: Steps on each batch of labels.
        replay_steps: Further steps an iteration, each on `replay_batch` labels of all iterations so far. Labels
            depend on the base model and the image alone, never on the hypernetwork, and are what costs time: used
            once they are wasted (published: 0).
        replay_batch: Labels a replayed step.
        loss_scale: Factor on the cross-entropy.
        search: How the masks are searched.
        sides: Sides of the CutMix rectangles in patches; None scales the published 3 to 8 of 14.
        reach_last: Let rectangles reach the last row and column.
        pooled_only: Skip what the class token does not need in the last block (equal up to rounding).
        seed: Seed of everything random.
    """

    iterations: int = 7000
    pairs: int = 8
    blocks: tuple[int, ...] = DEFAULT_BLOCKS
    depth: int = 3
    learning_rate: float = 1e-4
    schedule: int | None = None
    label_steps: int = 4
    replay_steps: int = 4
    replay_batch: int = 64
    loss_scale: float = 0.1
    search: SearchSettings = field(default_factory=SearchSettings)
    sides: tuple[int, int] | None = None
    reach_last: bool = True
    pooled_only: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "pairs", "depth", "label_steps"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> MetaTrainingSettings:
        """``"corrected"`` (the defaults) or ``"published"`` (specification, section 12), with changes.

        Example:
            >>> MetaTrainingSettings.preset("published").reach_last
            False
        """
        if name not in META_PRESETS:
            raise UnknownNameError("preset", name, META_PRESETS)
        return replace(META_PRESETS[name], **changes)


META_PRESETS: Mapping[str, MetaTrainingSettings] = {
    "corrected": MetaTrainingSettings(),
    "published": MetaTrainingSettings(schedule=20_000, reach_last=False, pooled_only=False, replay_steps=0),
}


def train_hypernetwork(
    model: nn.Module,
    images: ImageSource,
    settings: MetaTrainingSettings | None = None,
    log: Path | None = None,
    state: Path | None = None,
    save_every: int = 25,
    progress: bool = True,
    memory: int = SEARCH_MEMORY,
) -> MaskHypernetwork:
    """Train a hypernetwork for `model`, which is not changed.

    Args:
        model: The classifier whose failures will be edited.
        images: Gives the 2 · pairs images of an iteration.
        settings: See `MetaTrainingSettings`.
        log: CSV file, one row an iteration: losses, densities, how specific the masks are.
        state: File that holds the state every `save_every` iterations; an existing one is continued.
        save_every: Iterations between two saves.
        progress: Show a progress bar.
        memory: Bytes for the samples' own weights: as many samples are searched together as fit, at least one. It
            changes labels by rounding alone, and no state file asks for it. Give an accelerator more.

    Raises:
        TrainingDivergedError: a value is not finite; the message names the iteration, the last state is kept.
        CheckpointError: the state file belongs to another model or other settings.
    """
    settings = settings or MetaTrainingSettings()
    run = MetaTraining(model, images, settings, memory)
    start = run.load(state) if state is not None and state.exists() else 0
    rows = TrainingLog(log, keep=start)
    bar = tqdm(
        range(start, settings.iterations),
        initial=start,
        total=settings.iterations,
        desc="meta-training",
        disable=not progress,
        mininterval=5,
    )
    for iteration in bar:
        row = run.step(iteration)
        rows.append(row)
        bar.set_postfix(kl=f"{row['kl']:.4f}", density=f"{row['label_density']:.3f}", bce=f"{row['bce']:.4f}")
        if state is not None and ((iteration + 1) % save_every == 0 or iteration + 1 == settings.iterations):
            run.save(state, iteration + 1)
    return MaskHypernetwork(run.network, run.space, fingerprint(model))


class MetaTraining:
    """One training run: its network, optimiser and the work of one iteration."""

    def __init__(
        self,
        model: nn.Module,
        images: ImageSource,
        settings: MetaTrainingSettings,
        memory: int = SEARCH_MEMORY,
    ) -> None:
        self.images, self.settings = images, settings
        self.space = EditSpace.of(model, settings.blocks)
        self.split = SplitViT(model, self.space.blocks[0], pooled_only=settings.pooled_only)
        self.base = self.space.weights(model)
        self.together = samples_within(memory, self.base)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.network = MaskNetwork(self.space, depth=settings.depth).to(next(model.parameters()).device)
        self.optimiser = torch.optim.RMSprop(self.network.parameters(), lr=settings.learning_rate)
        self.memory = _Memory()
        self.identity = {"base": fingerprint(model), "settings": repr(replace(settings, iterations=1))}

    def step(self, iteration: int) -> dict[str, float]:
        """One iteration: mix, search labels, teach. Returns the row of the log."""
        began = time.perf_counter()
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + iteration)
        failures = self._pseudo_failures(iteration, generator)
        features = self.split.class_token(failures.tokens)
        shape = (self.settings.pairs, *self.space.shape)
        start = (torch.rand(shape, generator=generator) * 2 - 1).to(features.device)
        found = self._search(failures, start)
        _require_finite(iteration, {"kl": found.losses, "labels": found.labels})
        predicted, bce = self._teach(features, found.labels, iteration)
        self._replay(features, found.labels, generator, iteration)
        _require_finite(iteration, dict(self.network.named_parameters()))
        return {
            "iteration": float(iteration),
            "kl": float(found.losses[-1].mean()),
            "kl_start": float(found.losses[0].mean()),
            "label_density": float(found.labels.mean()),
            "mask_density": float(predicted.mean()),
            "bce": bce,
            "label_specific": _specificity(found.labels),
            "mask_specific": _specificity(predicted),
            "learning_rate": self._rate(iteration),
            "seconds": time.perf_counter() - began,
        }

    def _pseudo_failures(self, iteration: int, generator: torch.Generator) -> _PseudoFailures:
        hosts, donors = hosts_and_donors(self.images, iteration, self.settings.pairs)
        patch = self.split.model.patch_embed.patch_size
        mixed = cutmix(hosts, donors, patch, generator, self.settings.sides, self.settings.reach_last)
        with torch.no_grad():
            clean = self.split(hosts)
        return _PseudoFailures(self.split, self.split.prefix(mixed.images), clean)

    def _search(self, failures: _PseudoFailures, start: Tensor) -> SearchResult:
        """Labels of all samples, a few at a time."""
        parts = [slice(i, i + self.together) for i in range(0, len(start), self.together)]
        found = [
            search_masks(failures.losses(part), self.base, self.space, start[part], self.settings.search)
            for part in parts
        ]
        labels, losses = torch.cat([f.labels for f in found]), torch.cat([f.losses for f in found], dim=1)
        return SearchResult(labels, losses)

    def _teach(self, features: Tensor, labels: Tensor, iteration: int) -> tuple[Tensor, float]:
        """A few steps of cross-entropy towards the labels; returns the prediction and loss before them."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(iteration)
        with torch.no_grad():
            before = self.network(features, eps=TRAINING_EPS)
        for _ in range(self.settings.label_steps):
            self._fit(features, labels, iteration)
        return before, float(F.binary_cross_entropy(before, labels))

    def _replay(self, features: Tensor, labels: Tensor, generator: torch.Generator, iteration: int) -> None:
        if self.settings.replay_steps == 0:
            return
        self.memory.add(features, labels)
        for _ in range(self.settings.replay_steps):
            sample = self.memory.sample(self.settings.replay_batch, generator, features.device)
            self._fit(*sample, iteration)

    def _fit(self, features: Tensor, labels: Tensor, iteration: int) -> None:
        predicted = self.network(features, eps=TRAINING_EPS)
        _require_finite(iteration, {"masks": predicted})
        loss = F.binary_cross_entropy(predicted, labels)
        self.optimiser.zero_grad()
        (self.settings.loss_scale * loss).backward()
        self.optimiser.step()

    def _rate(self, iteration: int) -> float:
        length = self.settings.schedule or self.settings.iterations
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * iteration / length))

    def save(self, path: Path, iteration: int) -> None:
        """Write the state after `iteration` iterations, atomically."""
        write_state(
            path,
            {
                "identity": self.identity,
                "iteration": iteration,
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "memory": self.memory.state(),
            },
        )

    def load(self, path: Path) -> int:
        """Continue from a state file; returns the next iteration."""
        saved = read_state(path, self.identity)
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.memory = _Memory(*saved["memory"])
        return int(saved["iteration"])


def hosts_and_donors(images: ImageSource, iteration: int, pairs: int) -> tuple[Tensor, Tensor]:
    """The images of an iteration, each (pairs, 3, H, W).

    Raises:
        InvalidInputError: not so many, or images that are not ones; the message names the iteration.
    """
    found = images(iteration)
    if len(found) != 2 * pairs:
        raise InvalidInputError(
            f"iteration {iteration} gave {len(found)} images; {pairs} pairs need {2 * pairs}"
        )
    try:
        check_images(found)
    except InvalidInputError as error:
        raise InvalidInputError(f"iteration {iteration}: {error}") from error
    return found[:pairs], found[pairs:]


@dataclass(frozen=True)
class _PseudoFailures:
    """Mixed images as tokens, and what the base model says of the clean ones."""

    split: SplitViT
    tokens: Tensor
    clean: Tensor

    def losses(self, part: slice) -> SampleLosses:
        """Loss of some of the samples, each under its own weights."""
        tokens, clean = self.tokens[part], self.clean[part]
        return lambda weights: distillation(clean, self.split.tail(tokens, weights))


class _Memory:
    """All labels so far, in half precision, and the features they belong to."""

    def __init__(self, features: Tensor | None = None, labels: Tensor | None = None) -> None:
        self._features = [] if features is None else [features]
        self._labels = [] if labels is None else [labels]

    def add(self, features: Tensor, labels: Tensor) -> None:
        self._features.append(features.cpu())
        self._labels.append(labels.cpu().half())

    def sample(self, count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """`count` of the labels, drawn with replacement."""
        sizes = [len(part) for part in self._features]
        starts = torch.tensor([0, *sizes]).cumsum(0)
        chosen = torch.randint(int(starts[-1]), (count,), generator=generator)
        part = torch.searchsorted(starts, chosen, right=True) - 1
        where = list(zip(part.tolist(), (chosen - starts[part]).tolist(), strict=True))
        features = torch.stack([self._features[p][i] for p, i in where])
        labels = torch.stack([self._labels[p][i] for p, i in where])
        return features.to(device), labels.float().to(device)

    def state(self) -> tuple[Tensor, ...]:
        if not self._features:
            return ()
        return torch.cat(self._features), torch.cat(self._labels)


def describe(settings: MetaTrainingSettings) -> dict[str, Any]:
    """The settings as plain values, for a card."""
    return asdict(settings)


def _require_finite(iteration: int, values: Mapping[str, Tensor]) -> None:
    bad = [name for name, value in values.items() if not torch.isfinite(value).all()]
    if bad:
        raise TrainingDivergedError(
            f"{', '.join(bad[:3])} not finite at iteration {iteration}; the last saved state is kept. "
            "Lower the learning rates, or look at the images of that iteration"
        )


def _specificity(masks: Tensor) -> float:
    """Share of entries that differ by more than 0.2 between a sample and its mirror in the batch."""
    return float(((masks - masks.flip(0)).abs() > _SPECIFIC).float().mean())
