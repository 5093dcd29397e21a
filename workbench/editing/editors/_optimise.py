"""What editors share: noting the states of an edit, the loop with the stop rule, and the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from workbench.editing.changes import WeightChange
from workbench.editing.edit import Edit
from workbench.editing.editor import EditRequest
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError
from workbench.models import check_vit
from workbench.models.preprocessing import class_count, class_names


class Course:
    """The states that an edit goes through, from the unedited model on, and what comes of them.

    An editor that optimises calls `run`; one that computes its change at once calls `note` before and after.

    Args:
        model: The model being edited, of which names and number of classes are read.
        request: Images and the classes wanted.
        stop_loss: The edit is done when every image is right and the mean cross-entropy is at or below this.

    Raises:
        InvalidInputError: the request does not fit the model.

    Example:
        >>> course = Course(model, request)
        >>> tokens = split.prefix(course.images)
        >>> course.run(lambda: split.tail(tokens, weights()), update, max_steps=100)
        >>> course.result(base, changes, "my-editor", settings)
    """

    def __init__(self, model: nn.Module, request: EditRequest, stop_loss: float = math.inf) -> None:
        self.images, self.targets = request.batch(class_count(model))
        self.stop_loss = stop_loss
        self._class_names = class_names(model)
        self._losses: list[float] = []
        self._probabilities: list[Tensor] = []
        self._predictions: list[Tensor] = []

    def note(self, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
        """Note a state by the logits of the images; gives its mean cross-entropy, with its graph."""
        loss = F.cross_entropy(logits, self.targets.to(logits.device))
        self._losses.append(float(loss.detach()))
        self._probabilities.append(logits.detach().softmax(1).mean(0).cpu())
        self._predictions.append(logits.detach().argmax(1).cpu())
        return loss

    @property
    def done(self) -> bool:
        """Whether the last state is good enough to stop: all images right, and sure enough."""
        return bool((self._predictions[-1] == self.targets).all()) and self._losses[-1] <= self.stop_loss

    def run(
        self,
        logits: Callable[[], Float[Tensor, "batch classes"]],
        update: Callable[[Float[Tensor, ""], int], None],
        max_steps: int,
    ) -> None:
        """Update until done. The test comes before each update, so that the last one is tested as well.

        Args:
            logits: Of the images at the parameters as they are, with a graph to these.
            update: ``update(loss, step)`` changes the parameters, given the mean cross-entropy with its graph;
                the first step is 1.
            max_steps: Updates at most. The run also ends at a loss that is not finite.
        """
        for step in range(1, max_steps + 2):
            loss = self.note(logits())
            if self.done or step > max_steps or not math.isfinite(self._losses[-1]):
                return
            update(loss, step)

    def result(
        self, base: str, changes: Mapping[str, WeightChange], editor: str, settings: Mapping[str, Any]
    ) -> EditResult:
        """The result of the edit as it stands.

        Args:
            base: Fingerprint of the model.
            changes: What changed at the last state, by address.
            editor: Name of the editor, kept in the result and in the edit's file.
            settings: Its settings; tuples become lists, as in a file.
        """
        plain = {"editor": editor} | {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
        info = {
            "targets": self.targets.tolist(),
            "steps": len(self._losses) - 1,
            "succeeded": self.done,
            "loss": self._losses[-1],
            "settings": plain,
        }
        return EditResult(
            images=self.images,
            targets=self.targets,
            class_names=self._class_names,
            losses=torch.tensor(self._losses),
            probabilities=torch.stack(self._probabilities),
            predictions=torch.stack(self._predictions),
            edit=Edit(base, changes, info),
            succeeded=self.done,
            settings=plain,
        )


def check_classifier(model: nn.Module) -> Any:
    """Return `model` if it is a ViT with predictions to edit; raise `InvalidInputError` otherwise.

    The type is Any because timm's modules are untyped.
    """
    vit = check_vit(model)
    if class_count(model) < 2:
        raise InvalidInputError("the model has no classification head, so there is no prediction to edit")
    return vit


def check_positive(**values: float) -> None:
    """Raise `InvalidInputError` for a setting that is not finite and above 0."""
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise InvalidInputError(f"{name} is {value}; it must be a finite number above 0")


def check_count(**values: int) -> None:
    """Raise `InvalidInputError` for a setting that is no whole number of at least 1."""
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"{name} is {value}; it must be a whole number, at least 1")
