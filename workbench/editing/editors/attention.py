"""Fine-tuning of attention: the rivals of the feed-forward networks in the question which weights to edit.

Groups of attention layers were compared with groups of feed-forward networks; how they were parameterised is not known
(specification, section 1.4). Here all four projections of every block are tuned, as two matrices.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from workbench.editing.changes import Change, WeightChange
from workbench.editing.editor import EditRequest
from workbench.editing.editors._optimise import Course, check_classifier, check_count, check_positive
from workbench.editing.space import DEFAULT_BLOCKS, EditSpace
from workbench.editing.trajectory import EditResult
from workbench.models import SplitViT, fingerprint
from workbench.models.split import reads_prefix_tokens_only


class AttentionFineTuning:
    """Fine-tuning of ``attn.qkv`` and ``attn.proj`` of a few blocks by the published optimiser, without a mask.

    It is no editor of the registry, because the window search asks for it by its blocks; in all but the weights it is
    plain fine-tuning (``"ft"``).

    Args:
        model: A timm vision transformer with a head, in evaluation mode; it is never changed.
        learning_rate: RMSprop's (published: 2e-5).
        max_steps: Updates at most (published: 100).
        stop_loss: Stop when every image is right and the mean cross-entropy is at or below this.
        blocks: Edited blocks, 0-based.

    Raises:
        InvalidInputError: a setting out of range, a block the model does not have, or a model without predictions.

    Example:
        >>> AttentionFineTuning(model, blocks=(4, 5, 6)).edit(EditRequest(image, target=3)).edit.entry
        'attention'
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float = 2e-5,
        max_steps: int = 100,
        stop_loss: float = 0.01,
        blocks: Iterable[int] = DEFAULT_BLOCKS,
    ) -> None:
        check_count(max_steps=max_steps)
        check_positive(learning_rate=learning_rate, stop_loss=stop_loss)
        self.blocks = EditSpace.of(check_classifier(model), blocks).blocks
        self.learning_rate, self.max_steps, self.stop_loss = learning_rate, max_steps, stop_loss
        pooled = reads_prefix_tokens_only(model)
        self.split = SplitViT(model, self.blocks[0], entry="attention", pooled_only=pooled)
        self.base = fingerprint(model)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit until the request is met or the steps are used up."""
        model, course = self.split.model, Course(self.split.model, request, self.stop_loss)
        tokens = self.split.prefix(course.images)
        start = {a: model.get_parameter(f"{a}.weight").detach() for a in self.addresses}
        now = {a: w.clone().requires_grad_(True) for a, w in start.items()}
        optimiser = torch.optim.RMSprop(now.values(), lr=self.learning_rate)

        def update(loss: Tensor, step: int) -> None:
            for leaf, slope in zip(now.values(), torch.autograd.grad(loss, list(now.values())), strict=True):
                leaf.grad = slope
            optimiser.step()

        course.run(lambda: self.split.tail(tokens, now), update, self.max_steps)
        shared = {"max_steps": self.max_steps, "stop_loss": self.stop_loss, "blocks": self.blocks}
        settings = {"learning_rate": self.learning_rate, **shared}
        changes = {a: _rows(now[a].detach() - w) for a, w in start.items()}
        moved = {a: change for a, change in changes.items() if len(change.index)}
        return course.result(self.base, moved, "ft-attention", settings)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Module paths of the tuned matrices."""
        return tuple(f"blocks.{b}.attn.{part}" for b in self.blocks for part in ("qkv", "proj"))


def _rows(delta: Tensor) -> WeightChange:
    """The rows that have moved."""
    index = (delta != 0).any(dim=1).nonzero().flatten()
    return Change(0, index, delta[index])
