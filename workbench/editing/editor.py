"""Edit a model so that it gets one image (or a few) right, changing only what a mask lets through.

Source: specification, section 4. Gradients and RMSprop's state exist for the selected rows and columns alone: outside
them nothing is computed, so nothing can change.
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
from workbench.editing.edit import Edit
from workbench.editing.hypernetwork import MaskHypernetwork
from workbench.editing.masked_tail import MaskedTail
from workbench.editing.masks import BinaryMask, TopK
from workbench.editing.metrics import EvaluationSet
from workbench.editing.space import DEFAULT_BLOCKS, EditSpace
from workbench.editing.trajectory import EditTrajectory, StepEvaluation
from workbench.editing.where import FullMask, LearnedMask, Where
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.models import SplitViT, fingerprint
from workbench.models.partial_weight import PartialWeight
from workbench.models.preprocessing import class_count, class_names
from workbench.models.split import Tokens, reads_prefix_tokens_only


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

    @property
    def exact(self) -> bool:
        """Whether this preset follows the published computation operation by operation (see `Editor`)."""
        return self.preset == "published"

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> EditSettings:
        """``"corrected"`` or ``"published"``, with changes.

        The optimiser is the same. The two differ in how a learned mask is binarised, which `Editor.learned` heeds, and
        in whether `Editor` may compute equal up to rounding instead of exactly.
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
        exact: True follows the published computation operation by operation, attention included: losses and weights
            agree with it to about 1e-6. False is a quarter faster and equal up to rounding: it uses the model's own
            fused attention and leaves out what cannot change in the first edited block and what the class token does
            not need in the last. Losses then agree to about 1e-6, and weights too, except the few whose gradient is
            next to nothing (1e-4 at worst, at the published settings). None: as the preset says, exact for
            ``"published"``.
        prefix_dtype: Run the blocks before the edited ones in `torch.bfloat16`, say, on an accelerator; not with
            `exact` (see `SplitViT`). Edited weights are always kept in the model's own precision.

    Raises:
        InvalidInputError: a model without a classification head, or with blocks that cannot be edited; a mask or a
            hypernetwork of another space; `exact` together with a prefix of another precision.

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
        exact: bool | None = None,
        prefix_dtype: torch.dtype | None = None,
    ) -> None:
        self.settings = settings or EditSettings()
        self.exact = self.settings.exact if exact is None else exact
        if self.exact and prefix_dtype is not None:
            raise InvalidInputError(
                f"prefix_dtype={prefix_dtype} rounds what an exact edit computes in full precision; pass exact=False "
                "as well, or leave prefix_dtype out"
            )
        self.space = EditSpace.of(model, self.settings.blocks)
        if class_count(model) < 2:
            raise InvalidInputError("the model has no classification head, so there is no prediction to edit")
        pooled_only = not self.exact and reads_prefix_tokens_only(model)
        self.split = SplitViT(
            model,
            self.space.blocks[0],
            pooled_only=pooled_only,
            prefix_dtype=prefix_dtype,
            plain_attention=self.exact,
        )
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
        tokens, wanted = self.split.prefix(images), targets.to(self.split.device)
        mask = self._mask(tokens, wanted)
        course = _Course(self, tokens, wanted, mask, evaluate, record)
        succeeded = course.run()
        info: dict[str, Any] = {
            "targets": targets.tolist(),
            "steps": len(course.losses) - 1,
            "succeeded": succeeded,
            "loss": course.losses[-1],
            "mask": mask.origin,
            "sparsity": round(mask.sparsity, 6),
            "exact": self.exact,
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
            edit=Edit(self.base, course.tail.changes(), info),
            succeeded=succeeded,
            evaluation=course.evaluation(),
            settings=info["settings"],
        )

    def _mask(self, tokens: Tensor, targets: Tensor) -> BinaryMask:
        where = self.where
        mask = (
            where if isinstance(where, BinaryMask) else where.choose(self.split, self.space, tokens, targets)
        )
        return replace(mask, bits=mask.bits.cpu())


class _Course:
    """The optimisation of one edit: the loop and what it records."""

    def __init__(
        self,
        editor: Editor,
        tokens: Tokens,
        targets: Tensor,
        mask: BinaryMask,
        evaluate: EvaluationSet | None,
        record: bool,
    ) -> None:
        self.split, self.settings = editor.split, editor.settings
        self.targets, self.evaluate, self.record = targets, evaluate, record
        self.tail = MaskedTail(editor.split, tokens, mask, editor.exact)
        self.optimiser = _RMSprop(list(self.tail.parts.values()), editor.settings)
        self.losses: list[float] = []
        self.probabilities: list[Tensor] = []
        self.predictions: list[Tensor] = []
        self.row_changes: list[Tensor] = []
        self.group: list[Tensor] = []
        self.protected: list[Tensor] = []

    def run(self) -> bool:
        """The test comes before each update, so that the last update is followed by a test as well."""
        for step in range(self.settings.max_steps + 1):
            logits = self.tail.logits()
            loss = F.cross_entropy(logits, self.targets)
            self._note(logits.detach(), float(loss.detach()))
            right = bool((logits.argmax(1) == self.targets).all())
            if right and self.losses[-1] <= self.settings.stop_loss:
                return True
            if step == self.settings.max_steps or not self.tail.parts:
                break
            self.optimiser.step(loss)
        return False

    def _note(self, logits: Tensor, loss: float) -> None:
        self.losses.append(loss)
        self.probabilities.append(logits.softmax(1).mean(0).cpu())
        self.predictions.append(logits.argmax(1).cpu())
        if self.record:
            self.row_changes.append(self.tail.norms())
        if self.evaluate is not None:
            group, protected = self.evaluate.predict(self.split, self.tail.weights())
            self.group.append(group)
            self.protected.append(protected)

    def evaluation(self) -> StepEvaluation | None:
        if self.evaluate is None:
            return None
        right = [float((found == self.targets.cpu()).double().mean()) for found in self.predictions]
        scores = tuple(
            self.evaluate.scores(group, protected, sr)
            for group, protected, sr in zip(self.group, self.protected, right, strict=True)
        )
        return StepEvaluation(torch.stack(self.group), torch.stack(self.protected), self.evaluate, scores)


class _RMSprop:
    """RMSprop of the trained parts, computed as `torch.optim.RMSprop` does.

    That class imports torch's compiler, which takes longer than an edit and holds more memory than its state.
    """

    def __init__(self, parts: Sequence[PartialWeight], settings: EditSettings) -> None:
        self.parts, self.settings = parts, settings
        self.squares = [torch.zeros_like(part.trained) for part in parts]

    def step(self, loss: Tensor) -> None:
        s = self.settings
        gradients = torch.autograd.grad(loss, [part.trained for part in self.parts])
        with torch.no_grad():
            for part, square, gradient in zip(self.parts, self.squares, gradients, strict=True):
                square.mul_(s.alpha).addcmul_(gradient, gradient, value=1 - s.alpha)
                part.trained.addcdiv_(gradient, square.sqrt().add_(s.eps), value=-s.learning_rate)
                part.refresh()
