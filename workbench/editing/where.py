"""Ways to choose where to edit. Each says, before the edit, which hidden units may change.

`LearnedMask` asks the hypernetwork and sees only the image; `RandomMask` is the control of equal size; `FullMask`
is plain fine-tuning of the same matrices; `GradientMask` takes the units with the largest gradient and, unlike the
others, sees the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.editing.hypernetwork import MaskHypernetwork
from workbench.editing.masks import BinaryMask, TopK, check_sparsity, kept_units, top_units
from workbench.editing.space import EditSpace
from workbench.models import SplitViT
from workbench.models.split import Tokens


@runtime_checkable
class Where(Protocol):
    """Chooses a mask for an edit from the failing images' tokens."""

    def choose(self, split: SplitViT, space: EditSpace, tokens: Tokens, targets: Tensor) -> BinaryMask:
        """The mask; `tokens` are at the tail's entry, `targets` the classes wanted, (batch,)."""
        ...


@dataclass(frozen=True)
class LearnedMask:
    """The units a trained hypernetwork ranks highest; the label is not looked at.

    Args:
        hypernetwork: Trained for the model at hand.
        sparsity: Fraction of units that stay as they are, in [0, 1).
        topk: ``"exact"`` or ``"published"`` (see `workbench.editing.masks`).
    """

    hypernetwork: MaskHypernetwork
    sparsity: float = 0.9
    topk: TopK = "exact"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)

    def choose(self, split: SplitViT, space: EditSpace, tokens: Tokens, targets: Tensor) -> BinaryMask:
        """The hypernetwork's mask, averaged over the images, binarised."""
        return self.hypernetwork.from_features(split.class_token(tokens)).binarize(self.sparsity, self.topk)


@dataclass(frozen=True)
class RandomMask:
    """Units drawn uniformly, as many as a learned mask of the same sparsity has.

    Args:
        sparsity: Fraction of units that stay as they are, in [0, 1).
        seed: Seed of the draw; one seed gives nested masks over sparsities.
    """

    sparsity: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)

    def choose(self, split: SplitViT, space: EditSpace, tokens: Tokens, targets: Tensor) -> BinaryMask:
        """The same mask for every image."""
        order = torch.randperm(space.size, generator=torch.Generator().manual_seed(self.seed))
        bits = torch.zeros(space.size, dtype=torch.bool)
        bits[order[: kept_units(space.size, self.sparsity)]] = True
        return BinaryMask(bits.view(space.shape), space, "random")


@dataclass(frozen=True)
class FullMask:
    """Every unit: unmasked fine-tuning of the editable matrices."""

    def choose(self, split: SplitViT, space: EditSpace, tokens: Tokens, targets: Tensor) -> BinaryMask:
        """All ones."""
        return BinaryMask(torch.ones(space.shape, dtype=torch.bool), space, "full")


@dataclass(frozen=True)
class GradientMask:
    """The units whose weights have the largest loss gradient (Euclidean, per unit); it sees the label.

    Args:
        sparsity: Fraction of units that stay as they are, in [0, 1).
    """

    sparsity: float = 0.9

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)

    def choose(self, split: SplitViT, space: EditSpace, tokens: Tokens, targets: Tensor) -> BinaryMask:
        """Top units by gradient of the cross-entropy at the unedited weights."""
        leaves = {a: w.detach().requires_grad_(True) for a, w in space.weights(split.model).items()}
        loss = F.cross_entropy(split.tail(tokens, leaves), targets)
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        scores = space.per_unit({a: g.square() for a, g in gradients.items()})
        return BinaryMask(top_units(scores, self.sparsity), space, "gradient")
