"""Reliability, generalization and locality, as fractions in [0, 1]; None where undefined.

The published generalization counts the edited image in the group's size but not among the successes: a perfect edit
of a group of n scores (n − 1)/n. `variant="published"` reproduces that; the clean form is the mean over the other
images of the group. Source: specification, section 1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import InvalidInputError
from workbench.models import SplitViT, TokenStore
from workbench.models.split import Tokens, Weights

Variant = Literal["clean", "published"]


@dataclass(frozen=True)
class EditScores:
    """The three quantities of one edit.

    Args:
        sr: Reliability: 1 if the edited image is right, else 0.
        gr: Generalization: share of the group's other failures that are right (clean).
        gr_published: The published, biased form; None without a group.
        lr: Locality: share of protected images whose prediction has not changed.
    """

    sr: float
    gr: float | None
    gr_published: float | None
    lr: float | None


def reliability(prediction: int, target: int) -> float:
    """1.0 where the edited image is predicted right, else 0.0."""
    return float(prediction == target)


def generalization(right: Tensor, edited: int, variant: Variant = "clean") -> float | None:
    """Share of a group of failures that an edit puts right.

    Args:
        right: Whether each image of the group is right after the edit, (n,), bool.
        edited: Position of the edited image in the group.
        variant: ``"clean"`` leaves the edited image out of both counts; ``"published"`` is (right − 1) / n.

    Returns:
        None for a group of fewer than two images.

    Example:
        >>> generalization(torch.tensor([True, True, False]), edited=0)
        0.5
    """
    n = len(right)
    if not 0 <= edited < n:
        raise InvalidInputError(f"the edited image's position {edited} is outside the group of {n}")
    if n < 2:
        return None
    successes = int(right.sum())
    if variant == "published":
        return (successes - 1) / n
    return (successes - int(right[edited])) / (n - 1)


def locality(before: Int[Tensor, " n"], after: Int[Tensor, " n"]) -> float | None:
    """Share of images whose prediction has not changed; labels play no part. None for no images."""
    return float((before == after).double().mean()) if len(before) else None


def edit_scores(
    group: Int[Tensor, " n"],
    targets: Int[Tensor, " n"],
    edited: int | None,
    before: Int[Tensor, " m"],
    after: Int[Tensor, " m"],
    sr: float,
) -> EditScores:
    """The three quantities of one edit from predictions.

    Args:
        group: Predictions on the group's failures after the edit.
        targets: Their right classes.
        edited: Position of the edited image in the group; None where it is not among them.
        before: The unedited model's predictions on the protected images.
        after: Those after the edit.
        sr: Whether the edited image itself is right.
    """
    right = group == targets
    return EditScores(
        sr=sr,
        gr=_mean(right) if edited is None else generalization(right, edited),
        gr_published=None if edited is None else generalization(right, edited, "published"),
        lr=locality(before, after),
    )


@dataclass(frozen=True)
class EvaluationSet:
    """What an edit is judged on: its group of failures and the protected images, as prefix tokens.

    Args:
        group: Tokens of the group's failures at the tail's entry, the edited image among them.
        targets: Their right classes.
        edited: Position of the edited image in the group; None where it is not among them.
        protected: Tokens of the images whose predictions should stay; a store of them need not be in memory.
        before: The unedited model's predictions on them.
    """

    group: Tokens
    targets: Int[Tensor, " n"]
    edited: int | None
    protected: Tokens | TokenStore
    before: Int[Tensor, " m"]

    @classmethod
    def build(
        cls,
        split: SplitViT,
        group: Tensor,
        targets: Sequence[int] | Tensor,
        edited: int | None,
        protected: Tensor,
    ) -> EvaluationSet:
        """Run the prefix and the unedited model once over images in [0, 1].

        Args:
            split: The model in two parts.
            group: Failures of the group, (n, 3, H, W); may be empty, (0, 3, H, W).
            targets: Their right classes, (n,).
            edited: Position of the edited image in the group, or None.
            protected: Images whose predictions should stay, (m, 3, H, W); may be empty.

        Raises:
            InvalidInputError: not one target an image, or images that are not ones.
        """
        if len(targets) != len(group):
            raise InvalidInputError(
                f"the group has {len(group)} images but {len(targets)} targets; give one target an image"
            )
        tokens = _prefix(split, protected)
        return cls(
            _prefix(split, group),
            torch.as_tensor(targets, dtype=torch.long),
            edited,
            tokens,
            predictions(split, tokens),
        )

    def for_edited(self, position: int) -> EvaluationSet:
        """The same set with another image of the group as the edited one."""
        return EvaluationSet(self.group, self.targets, position, self.protected, self.before)

    def predict(self, split: SplitViT, weights: Weights | None) -> tuple[Tensor, Tensor]:
        """Predictions on the group and on the protected images with some weights replaced."""
        return predictions(split, self.group, weights), predictions(split, self.protected, weights)

    def scores(self, group: Tensor, protected: Tensor, sr: float) -> EditScores:
        """The three quantities from predictions after an edit; `sr` comes from the edited image itself."""
        return edit_scores(group, self.targets, self.edited, self.before, protected, sr)


def predictions(
    split: SplitViT, tokens: Tokens | TokenStore, weights: Weights | None = None, batch_size: int = 8
) -> Int[Tensor, " batch"]:
    """Most likely classes from prefix tokens, without gradient, `batch_size` images at a time."""
    chunks = (tokens if isinstance(tokens, TokenStore) else TokenStore(tokens)).chunks(batch_size)
    with torch.no_grad():
        parts = [split.tail(chunk.to(split.device), weights).argmax(dim=1).cpu() for chunk in chunks]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)


def _prefix(split: SplitViT, images: Tensor) -> Tokens:
    if len(images) == 0:
        return torch.empty(0, 1, split.model.embed_dim)
    return torch.cat(list(split.prefix_batches(images)))


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None
