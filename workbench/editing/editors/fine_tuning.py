"""Fine-tuning of the feed-forward matrices, held near the start by a penalty on the change or by a clamp.

Plain fine-tuning is a mask of ones and lives with the masked editors. Source: specification, sections 6.1 (penalties)
and 6.3 (clamp).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.editing.changes import Change, WeightChange
from workbench.editing.editor import EditRequest
from workbench.editing.editors._base import EditorEntry
from workbench.editing.editors._optimise import Course, check_classifier, check_count, check_positive
from workbench.editing.editors.masked import PAPER
from workbench.editing.space import DEFAULT_BLOCKS, EditSpace
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError
from workbench.models import SplitViT, fingerprint
from workbench.models.split import reads_prefix_tokens_only

#: One update: the mean cross-entropy with its graph, and the number of the step, from 1.
Update = Callable[[Tensor, int], None]

#: The published weights of both penalties, from gentle to strong.
PENALTIES = (0.1, 0.05, 0.025, 0.01, 0.005, 0.001, 0.0)

#: Weights that the L2 penalty needs besides: squares of changes of 1e-4 are too small to be felt at the published ones.
STRONGER_PENALTIES = (300.0, 100.0, 30.0, 10.0)

#: Largest change of a weight, from gentle to strong; 5e-4 is EasyEdit's.
CLAMPS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4)


class PenalisedFineTuning(ABC):
    """Fine-tuning with ``strength`` times a norm of the change added to the loss: see `L1FineTuning`, `L2FineTuning`.

    The penalty has no gradient at the start, so the published first step is plain gradient descent; RMSprop takes
    over from the second. The stop rule looks at the cross-entropy alone.

    Args:
        model: A timm vision transformer with a head, in evaluation mode; it is never changed.
        strength: Weight of the penalty, at least 0.
        learning_rate: Of both optimisers (published: 2e-5).
        max_steps: Updates at most (published: 100).
        stop_loss: Stop when every image is right and the mean cross-entropy is at or below this.
        blocks: Edited blocks, 0-based.

    Raises:
        InvalidInputError: a setting out of range, or a model that cannot be edited.

    Example:
        >>> L2FineTuning(model, strength=0.01).edit(EditRequest(image, target=3)).outcome()
        "edited 'bug' to 'mammal' in 8 steps (loss 0.009)"
    """

    name: ClassVar[str]

    def __init__(
        self,
        model: nn.Module,
        strength: float = 0.01,
        learning_rate: float = 2e-5,
        max_steps: int = 100,
        stop_loss: float = 0.01,
        blocks: Iterable[int] = DEFAULT_BLOCKS,
    ) -> None:
        if not 0 <= strength < math.inf:
            raise InvalidInputError(f"strength is {strength}; it must be a finite number, 0 or above")
        check_positive(learning_rate=learning_rate)
        self.strength, self.learning_rate = strength, learning_rate
        self._tail = _Tail(model, blocks, max_steps, stop_loss)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit until the request is met or the steps are used up."""
        settings = {"strength": self.strength, "learning_rate": self.learning_rate}
        return self._tail.edit(request, self._updates, self.name, settings)

    @staticmethod
    @abstractmethod
    def slope(change: Tensor) -> Tensor:
        """Gradient of the norm with respect to the change."""

    def _updates(self, change: Mapping[str, Tensor]) -> Update:
        leaves = list(change.values())
        first = torch.optim.SGD(leaves, lr=self.learning_rate)
        later = torch.optim.RMSprop(leaves, lr=self.learning_rate)

        def update(loss: Tensor, step: int) -> None:
            for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                leaf.grad = gradient.add(self.slope(leaf.detach()), alpha=self.strength)
            (first if step == 1 else later).step()

        return update


class L1FineTuning(PenalisedFineTuning):
    """`PenalisedFineTuning` with ``strength`` · Σ|W − W0|."""

    name = "ft-l1"

    @staticmethod
    def slope(change: Tensor) -> Tensor:
        """The sign of the change."""
        return change.sign()


class L2FineTuning(PenalisedFineTuning):
    """`PenalisedFineTuning` with ``strength`` · ½ Σ(W − W0)²."""

    name = "ft-l2"

    @staticmethod
    def slope(change: Tensor) -> Tensor:
        """The change itself."""
        return change


class ClampedFineTuning:
    """Fine-tuning by Adam in which no weight may move further than ``clamp`` (L∞).

    Args:
        model: A timm vision transformer with a head, in evaluation mode; it is never changed.
        clamp: Largest change of a weight, above 0 (EasyEdit: 5e-4).
        learning_rate: Adam's (EasyEdit: 5e-4). Where it is above the clamp, as there, the first step already takes
            every weight to the clamp, and the later ones only choose its sign.
        max_steps: Updates at most (EasyEdit: 25).
        stop_loss: Stop when every image is right and the mean cross-entropy is at or below this.
        blocks: Edited blocks, 0-based.

    Raises:
        InvalidInputError: a setting out of range, or a model that cannot be edited.

    Example:
        >>> ClampedFineTuning(model, clamp=1e-4).edit(EditRequest(image, target=3)).edit
    """

    def __init__(
        self,
        model: nn.Module,
        clamp: float = 5e-4,
        learning_rate: float = 5e-4,
        max_steps: int = 25,
        stop_loss: float = 0.01,
        blocks: Iterable[int] = DEFAULT_BLOCKS,
    ) -> None:
        check_positive(clamp=clamp, learning_rate=learning_rate)
        self.clamp, self.learning_rate = clamp, learning_rate
        self._tail = _Tail(model, blocks, max_steps, stop_loss)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit until the request is met or the steps are used up."""
        settings = {"clamp": self.clamp, "learning_rate": self.learning_rate}
        return self._tail.edit(request, self._updates, "ft-linf", settings)

    def _updates(self, change: Mapping[str, Tensor]) -> Update:
        leaves = list(change.values())
        optimiser = torch.optim.Adam(leaves, lr=self.learning_rate)

        def update(loss: Tensor, step: int) -> None:
            for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                leaf.grad = gradient
            optimiser.step()
            for leaf in leaves:
                leaf.detach().clamp_(-self.clamp, self.clamp)

        return update


class _Tail:
    """The part of a model that fine-tuning runs, and the loop on it.

    What is optimised is the change, not the weight: a clamp on it is exact, the edit is what was optimised, and the
    tiny first step of the penalties is not rounded away.
    """

    def __init__(self, model: nn.Module, blocks: Iterable[int], max_steps: int, stop_loss: float) -> None:
        check_count(max_steps=max_steps)
        check_positive(stop_loss=stop_loss)
        self.space = EditSpace.of(check_classifier(model), blocks)
        self.max_steps, self.stop_loss = max_steps, stop_loss
        self.split = SplitViT(model, self.space.blocks[0], pooled_only=reads_prefix_tokens_only(model))
        self.base = fingerprint(model)

    def edit(
        self,
        request: EditRequest,
        updates: Callable[[Mapping[str, Tensor]], Update],
        name: str,
        settings: Mapping[str, float],
    ) -> EditResult:
        course = Course(self.split.model, request, self.stop_loss)
        tokens = self.split.prefix(course.images)
        start = {a: w.detach() for a, w in self.space.weights(self.split.model).items()}
        change = {a: torch.zeros_like(w, requires_grad=True) for a, w in start.items()}

        def logits() -> Float[Tensor, "batch classes"]:
            return self.split.tail(tokens, {a: w + change[a] for a, w in start.items()})

        course.run(logits, updates(change), self.max_steps)
        shared = {"max_steps": self.max_steps, "stop_loss": self.stop_loss, "blocks": self.space.blocks}
        return course.result(self.base, _changes(self.space, change), name, {**settings, **shared})


def _changes(space: EditSpace, change: Mapping[str, Tensor]) -> dict[str, WeightChange]:
    """Whole rows of fc1 and columns of fc2; those that never moved are left out."""
    found: dict[str, WeightChange] = {}
    for address, full in change.items():
        axis = space.axis(address)
        rows = full.detach() if axis == 0 else full.detach().T
        index = (rows != 0).any(dim=1).nonzero().flatten()
        if len(index):
            found[address] = Change(axis, index.cpu(), rows[index].cpu())
    return found


ENTRIES = (
    EditorEntry(
        "ft-l1",
        "Fine-tuning + L1",
        "fine-tuning",
        "fine-tunes the six matrices, with the absolute change of every weight added to the loss",
        "published",
        PAPER,
        tuple({"strength": strength} for strength in PENALTIES),
        L1FineTuning,
    ),
    EditorEntry(
        "ft-l2",
        "Fine-tuning + L2",
        "fine-tuning",
        "fine-tunes the six matrices, with half the squared change of every weight added to the loss",
        "published",
        PAPER,
        tuple({"strength": strength} for strength in (*STRONGER_PENALTIES, *PENALTIES)),
        L2FineTuning,
    ),
    EditorEntry(
        "ft-linf",
        "Fine-tuning + L∞",
        "fine-tuning",
        "fine-tunes the six matrices; no weight moves further than a limit",
        "port",
        "Zhu et al.: Modifying Memories in Transformer Models. 2020; settings of EasyEdit",
        tuple({"clamp": clamp} for clamp in CLAMPS),
        ClampedFineTuning,
    ),
)
