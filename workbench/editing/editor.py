"""Edit a model so that it gets one image (or a few) right, changing only what a mask lets through.

Source: specification, section 4. The update is RMSprop on the selected rows and columns alone: outside them nothing
is computed, so nothing can change.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Integral
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.images import check_images
from workbench.editing.changes import Change, WeightChange
from workbench.editing.edit import Edit
from workbench.editing.hypernetwork import MaskHypernetwork
from workbench.editing.masks import BinaryMask, TopK
from workbench.editing.metrics import EvaluationSet
from workbench.editing.space import DEFAULT_BLOCKS, EditSpace
from workbench.editing.trajectory import EditTrajectory, StepEvaluation
from workbench.editing.where import FullMask, LearnedMask, Where
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.models import SplitViT, fingerprint
from workbench.models.preprocessing import class_count, class_names


@dataclass(frozen=True)
class EditSettings:
    """How an edit is optimised.

    Args:
        learning_rate: RMSprop's (published: 2e-5).
        max_steps: Updates at most (published: 100).
        stop_loss: Stop when every image is right and the mean cross-entropy is at or below this (0.01).
        alpha: Decay of RMSprop's squared gradient (0.99).
        eps: Added to its root (1e-8).
        blocks: Edited blocks, 0-based.
        preset: Name of the variant, kept in every result.
    """

    learning_rate: float = 2e-5
    max_steps: int = 100
    stop_loss: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    blocks: tuple[int, ...] = DEFAULT_BLOCKS
    preset: str = "corrected"

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise InvalidInputError(
                f"learning_rate is {self.learning_rate}; it must be above 0, for example 2e-5"
            )
        if self.max_steps < 1:
            raise InvalidInputError(f"max_steps is {self.max_steps}; it must be at least 1")

    @property
    def topk(self) -> TopK:
        """How a learned mask is binarised under this preset."""
        return "published" if self.preset == "published" else "exact"

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> EditSettings:
        """``"corrected"`` or ``"published"``, with changes.

        The optimiser is the same; the two differ in how a learned mask is binarised, which `Editor.learned` heeds.
        """
        if name not in EDIT_PRESETS:
            raise UnknownNameError("preset", name, EDIT_PRESETS)
        return replace(EDIT_PRESETS[name], **changes)


EDIT_PRESETS: Mapping[str, EditSettings] = {
    "corrected": EditSettings(),
    "published": EditSettings(preset="published"),
}


@dataclass(frozen=True)
class EditRequest:
    """What is wrong: an image (or a few) and the class each should have.

    Args:
        images: (3, H, W) or (batch, 3, H, W), in [0, 1].
        target: The class wanted, or one an image.
    """

    images: Float[Tensor, "*batch 3 height width"]
    target: int | Sequence[int]

    def batch(self, classes: int) -> tuple[Tensor, Tensor]:
        """Images (batch, 3, H, W) and targets (batch,).

        Raises:
            InvalidInputError: shape, dtype or range of the images, number or range of the targets.
        """
        images = self.images[None] if self.images.ndim == 3 else self.images
        check_images(images)
        if isinstance(self.target, Integral):
            wanted = [int(self.target)] * len(images)
        else:
            wanted = list(cast(Sequence[int], self.target))
        if len(wanted) != len(images):
            raise InvalidInputError(
                f"{len(images)} images but {len(wanted)} targets; give one target, or one an image"
            )
        outside = [t for t in wanted if not 0 <= t < classes]
        if outside:
            raise InvalidInputError(
                f"target {outside[0]} is outside 0..{classes - 1}: the model has {classes} classes"
            )
        return images, torch.tensor(wanted, dtype=torch.long)


class Editor:
    """Edits a model; the model itself is never changed.

    Args:
        model: A timm vision transformer with a head, in evaluation mode.
        where: Chooses the mask: `LearnedMask`, `RandomMask`, `GradientMask`, `FullMask`, or a `BinaryMask`.
        settings: See `EditSettings`.
        pooled_only: Compute only what the class token needs in the last block (see `SplitViT`).

    Example:
        >>> hypernetwork = MaskHypernetwork.load("emoji_vit_s14")
        >>> editor = Editor.learned(model, hypernetwork, sparsity=0.9)
        >>> trajectory = editor.edit(EditRequest(image, target=3))
        >>> trajectory.outcome()
        "edited 'bug' to 'mammal' in 4 steps (loss 0.007)"
    """

    def __init__(
        self,
        model: nn.Module,
        where: Where | BinaryMask | None = None,
        settings: EditSettings | None = None,
        pooled_only: bool = False,
    ) -> None:
        self.settings = settings or EditSettings()
        self.space = EditSpace.of(model, self.settings.blocks)
        if class_count(model) < 2:
            raise InvalidInputError("the model has no classification head, so there is no prediction to edit")
        self.split = SplitViT(model, self.space.blocks[0], pooled_only=pooled_only)
        self.base = fingerprint(model)
        self.where: Where | BinaryMask = self._checked(where if where is not None else FullMask())

    @classmethod
    def learned(
        cls,
        model: nn.Module,
        hypernetwork: MaskHypernetwork,
        sparsity: float = 0.9,
        preset: str = "corrected",
        **changes: Any,
    ) -> Editor:
        """An editor guided by a hypernetwork, by preset.

        Args:
            model: The model that the hypernetwork was trained on.
            hypernetwork: Says where to edit.
            sparsity: Fraction of units that stay as they are, in [0, 1).
            preset: ``"corrected"``: exactly k units may change; ``"published"``: those strictly above the k-th value.
            changes: Other `EditSettings`.
        """
        settings = EditSettings.from_preset(preset, blocks=hypernetwork.space.blocks, **changes)
        return cls(model, LearnedMask(hypernetwork, sparsity, settings.topk), settings)

    def using(self, where: Where | BinaryMask) -> Editor:
        """An editor of the same model with another way to choose the mask."""
        other = copy.copy(self)
        other.where = self._checked(where)
        return other

    def _checked(self, where: Where | BinaryMask) -> Where | BinaryMask:
        if isinstance(where, LearnedMask):
            self._check_space("hypernetwork", where.hypernetwork.space)
            where.hypernetwork.check_base(self.base)
        elif isinstance(where, BinaryMask):
            self._check_space("mask", where.space)
        return where

    def _check_space(self, what: str, space: EditSpace) -> None:
        if space != self.space:
            raise InvalidInputError(f"the {what} speaks about {space}, the editor edits {self.space}")

    def edit(
        self, request: EditRequest, evaluate: EvaluationSet | None = None, record: bool = True
    ) -> EditTrajectory:
        """Edit until the request is met or the steps are used up.

        Args:
            request: Images and the classes wanted.
            evaluate: Where given, SR, GR and LR are measured at every step.
            record: Keep the change of every unit at every step (False: at none, for benchmarks).

        Returns:
            The trajectory; `succeeded` says whether it worked. An edit that does not work is a result, no error.
        """
        images, targets = request.batch(class_count(self.split.model))
        tokens = self.split.prefix(images)
        mask = self._mask(tokens, targets)
        course = _Course(self, tokens, targets, mask, evaluate, record)
        succeeded = course.run()
        info: dict[str, Any] = {
            "targets": targets.tolist(),
            "steps": len(course.losses) - 1,
            "succeeded": succeeded,
            "loss": course.losses[-1],
            "mask": mask.origin,
            "sparsity": round(mask.sparsity, 6),
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.settings).items()},
        }
        return EditTrajectory(
            images=images,
            targets=targets,
            class_names=class_names(self.split.model),
            mask=mask,
            losses=torch.tensor(course.losses),
            probabilities=torch.stack(course.probabilities),
            predictions=torch.stack(course.predictions),
            row_change=torch.stack(course.row_changes) if record else None,
            edit=Edit(self.base, course.rows.changes(), info),
            succeeded=succeeded,
            evaluation=course.evaluation(),
            settings=info["settings"],
        )

    def _mask(self, tokens: Tensor, targets: Tensor) -> BinaryMask:
        if isinstance(self.where, BinaryMask):
            return self.where
        return self.where.choose(self.split, self.space, tokens, targets)


class _Course:
    """The optimisation of one edit: the loop and what it records."""

    def __init__(
        self,
        editor: Editor,
        tokens: Tensor,
        targets: Tensor,
        mask: BinaryMask,
        evaluate: EvaluationSet | None,
        record: bool,
    ) -> None:
        self.split, self.settings = editor.split, editor.settings
        self.tokens, self.targets, self.evaluate, self.record = tokens, targets, evaluate, record
        self.rows = _Rows(editor.space, editor.space.weights(self.split.model), mask, editor.settings)
        self.losses: list[float] = []
        self.probabilities: list[Tensor] = []
        self.predictions: list[Tensor] = []
        self.row_changes: list[Tensor] = []
        self.group: list[Tensor] = []
        self.protected: list[Tensor] = []

    def run(self) -> bool:
        """The test comes before each update, so that the last update is followed by a test as well."""
        for step in range(self.settings.max_steps + 1):
            weights = self.rows.leaves()
            logits = self.split.tail(self.tokens, weights)
            loss = F.cross_entropy(logits, self.targets)
            self._note(logits.detach(), float(loss.detach()), weights)
            right = bool((logits.argmax(1) == self.targets).all())
            if right and self.losses[-1] <= self.settings.stop_loss:
                return True
            if step == self.settings.max_steps or not weights:
                break
            gradients = torch.autograd.grad(loss, list(weights.values()))
            self.rows.step(dict(zip(weights, gradients, strict=True)))
        return False

    def _note(self, logits: Tensor, loss: float, weights: Mapping[str, Tensor]) -> None:
        self.losses.append(loss)
        self.probabilities.append(logits.softmax(1).mean(0))
        self.predictions.append(logits.argmax(1))
        if self.record:
            self.row_changes.append(self.rows.norms())
        if self.evaluate is not None:
            group, protected = self.evaluate.predict(self.split, {a: w.detach() for a, w in weights.items()})
            self.group.append(group)
            self.protected.append(protected)

    def evaluation(self) -> StepEvaluation | None:
        if self.evaluate is None:
            return None
        scores = tuple(
            self.evaluate.scores(group, protected, float((found == self.targets).double().mean()))
            for group, protected, found in zip(self.group, self.protected, self.predictions, strict=True)
        )
        return StepEvaluation(torch.stack(self.group), torch.stack(self.protected), self.evaluate, scores)


class _Rows:
    """The selected rows and columns: their weights now, and RMSprop's state for them alone."""

    def __init__(
        self, space: EditSpace, base: Mapping[str, Tensor], mask: BinaryMask, settings: EditSettings
    ) -> None:
        self.space, self.settings = space, settings
        self.index = {a: rows for a in space.addresses if len(rows := mask.rows(a))}
        self.weights = {a: base[a].detach().clone() for a in self.index}
        self.start = {a: self._select(base[a].detach(), a) for a in self.index}
        self.now = {a: rows.clone() for a, rows in self.start.items()}
        self.square = {a: torch.zeros_like(rows) for a, rows in self.start.items()}

    def _select(self, weight: Tensor, address: str) -> Tensor:
        """Selected rows, or columns as rows: (k, width)."""
        rows = weight.index_select(self.space.axis(address), self.index[address])
        return rows if self.space.axis(address) == 0 else rows.T.contiguous()

    def leaves(self) -> dict[str, Tensor]:
        return {a: w.detach().requires_grad_(True) for a, w in self.weights.items()}

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        s = self.settings
        for a, gradient in gradients.items():
            g = self._select(gradient, a)
            self.square[a].mul_(s.alpha).addcmul_(g, g, value=1 - s.alpha)
            self.now[a].addcdiv_(g, self.square[a].sqrt().add_(s.eps), value=-s.learning_rate)
            axis = self.space.axis(a)
            self.weights[a].index_copy_(axis, self.index[a], self.now[a] if axis == 0 else self.now[a].T)

    def norms(self) -> Tensor:
        out = torch.zeros(self.space.shape)
        for a, index in self.index.items():
            out[self.space.index(a), index] = (self.now[a] - self.start[a]).norm(dim=1)
        return out

    def changes(self) -> dict[str, WeightChange]:
        """What differs from the start; units that never moved are left out."""
        found: dict[str, WeightChange] = {}
        for a, index in self.index.items():
            delta = self.now[a] - self.start[a]
            moved = (delta != 0).any(dim=1)
            if moved.any():
                found[a] = Change(self.space.axis(a), index[moved], delta[moved])
        return found
