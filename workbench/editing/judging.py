"""Judge edits of one model: which failures they put right, and which predictions they change.

An evaluation starts at the last block that the edit allows, from tokens that are computed once per set of images; the
unedited model's predictions are computed once. Source: specification, sections 1.1 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.data.images import check_images
from workbench.editing.edit import Edit
from workbench.editing.metrics import EditScores, edit_scores, predictions
from workbench.errors import CheckpointError, InvalidInputError
from workbench.models import PrefixCache, SplitViT, TokenStore, check_vit, fingerprint
from workbench.models.prefix_cache import Images
from workbench.models.split import Entry, reads_prefix_tokens_only

#: An edit, or several that are put in one after the other. The first was made on the judged model, a later one on
#: it as well or on the model with all earlier ones in it.
Edits = Edit | Sequence[Edit]


class Judge:
    """Judges edits of one model; the model itself is never changed.

    Args:
        model: A timm vision transformer, in evaluation mode.
        protected: Images in [0, 1] whose predictions should stay: (m, 3, H, W), or batches that can be gone through
            more than once, such as a loader; may be empty.
        cache: Keeps the prefix tokens; one cache may serve many judges. None for one of the judge's own.
        batch_size: Images that are evaluated together; more are no faster on a processor.
        prefix_dtype: Type that the prefix runs in, for accelerators (see `SplitViT`).

    Example:
        >>> judge = Judge(model, sensitive_set(model).images)
        >>> judge.scores(trajectory.edit, group.images, group.targets, edited=0, sr=trajectory.reliability)
        EditScores(sr=1.0, gr=0.75, gr_published=0.6, lr=0.84)
    """

    def __init__(
        self,
        model: nn.Module,
        protected: Images,
        cache: PrefixCache | None = None,
        batch_size: int = 8,
        prefix_dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(protected, Tensor) and len(protected):
            check_images(protected)
        self.model: Any = check_vit(model)
        self.base = fingerprint(model)
        self.protected, self.batch_size, self.prefix_dtype = protected, batch_size, prefix_dtype
        self.cache = PrefixCache() if cache is None else cache
        self._before: Tensor | None = None
        self._tokens: dict[
            tuple[int, str], TokenStore
        ] = {}  # of the protected images, by where a tail starts

    @property
    def before(self) -> Int[Tensor, " images"]:
        """The unedited model's predictions on the protected images."""
        self._check_model()
        return self._unedited()

    def scores(
        self,
        edit: Edits,
        group: Float[Tensor, "n 3 height width"],
        targets: Sequence[int] | Int[Tensor, " n"],
        edited: int | None,
        sr: float,
    ) -> EditScores:
        """Reliability, generalization and locality of an edit, or of several in a row.

        Args:
            edit: What is judged.
            group: Failures that the edit should put right, the edited image among them; may be empty.
            targets: Their right classes.
            edited: Position of the edited image in the group; None where it is not among them.
            sr: Whether the edited image itself is right (`EditResult.reliability`).

        Raises:
            InvalidInputError: not one target an image, or images that are not ones.
            CheckpointError: the edit was made on another model, or the model has been changed.
        """
        if len(targets) != len(group):
            raise InvalidInputError(
                f"the group has {len(group)} images but {len(targets)} targets; give one target an image"
            )
        self._check_model()
        tail = self._tail(edit)
        after, before = self._after(tail), self._unedited()
        wanted = torch.as_tensor(targets, dtype=torch.long)
        return edit_scores(self._predict(tail, group), wanted, edited, before, after, sr)

    def changed(self, edit: Edits) -> Bool[Tensor, " images"]:
        """Which protected images are predicted otherwise than by the unedited model."""
        self._check_model()
        after = self._after(self._tail(edit))
        return after != self._unedited()

    def predictions(self, edit: Edits, images: Images) -> Int[Tensor, " images"]:
        """Most likely classes of images, by the model with an edit in it, or with several in a row.

        Raises:
            InvalidInputError: images that are not ones, or edits that do not fit the model or each other.
            CheckpointError: the edit was made on another model, or the model has been changed.
        """
        self._check_model()
        return self._predict(self._tail(edit), images)

    def _after(self, tail: _Tail | None) -> Tensor:
        """Predictions on the protected images; those before an edit, where they are missing, cost a tail only."""
        if tail is None:
            return self._unedited()
        split, place = tail.split, (tail.split.first_block, tail.split.entry)
        if place not in self._tokens:
            self._tokens[place] = self.cache.tokens(split, self.protected, self.base)
        tokens = self._tokens[place]
        if self._before is None:
            self._before = predictions(split, tokens, None, self.batch_size)
        return predictions(split, tokens, tail.weights, self.batch_size)

    def _unedited(self) -> Tensor:
        if self._before is None:
            self._before = self._predict(None, self.protected)
        return self._before

    def _predict(self, tail: _Tail | None, images: Images) -> Tensor:
        if tail is not None:
            tokens = self.cache.tokens(tail.split, images, self.base)
            return predictions(tail.split, tokens, tail.weights, self.batch_size)
        # Nothing changes: no tokens are kept, since hardly an edit starts where this does.
        split = self._split(len(self.model.blocks) - 1, "attention")
        batches = [images] if isinstance(images, Tensor) else images
        parts = [
            predictions(split, tokens)
            for batch in batches
            if len(batch)
            for tokens in split.prefix_batches(batch, self.batch_size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)

    def _split(self, first_block: int, entry: Entry) -> SplitViT:
        return SplitViT(
            self.model, first_block, entry, reads_prefix_tokens_only(self.model), self.prefix_dtype
        )

    def _tail(self, edits: Edits) -> _Tail | None:
        """Where the edited model begins to differ, and its weights there; None where nothing changes."""
        listed = [edits] if isinstance(edits, Edit) else list(edits)
        if listed and listed[0].base != self.base:
            raise CheckpointError(
                f"this edit was made on a model with fingerprint {listed[0].base[:12]}…, the judge's model has "
                f"{self.base[:12]}…; judge it with Judge(the model it was made on, …)"
            )
        composed = reduce(Edit.compose, (replace(e, base=self.base) for e in listed), Edit(self.base, {}))
        if composed.first_block is None:
            return None
        return _Tail(self._split(composed.first_block, composed.entry), composed.weights(self.model))

    def _check_model(self) -> None:
        if fingerprint(self.model) != self.base:
            raise CheckpointError(
                "the model has been changed since the judge was made; revert the edit that is in it, or make a new "
                "judge of the changed model"
            )


@dataclass(frozen=True)
class _Tail:
    """The part of the model that an edit reaches, and the weights that it replaces there."""

    split: SplitViT
    weights: Mapping[str, Tensor]
