"""What happened in an edit, step by step, as a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from workbench.editing.edit import Edit
from workbench.editing.masks import BinaryMask
from workbench.editing.metrics import EditScores, EvaluationSet
from workbench.errors import InvalidInputError


@dataclass(frozen=True)
class StepEvaluation:
    """Predictions on the evaluation set after each recorded step (step 0 is the unedited model).

    Args:
        group: (steps, n), predicted classes of the group's failures.
        protected: (steps, m), predicted classes of the protected images.
        evaluated: What was evaluated: targets, position of the edited image, predictions before.
        scores: SR, GR, LR at each step.
    """

    group: Int[Tensor, "steps n"]
    protected: Int[Tensor, "steps m"]
    evaluated: EvaluationSet
    scores: tuple[EditScores, ...]

    def fixed(self, step: int) -> np.ndarray:
        """Positions in the group that are right at a step."""
        return np.flatnonzero((self.group[step] == self.evaluated.targets).numpy())

    def broken(self, step: int) -> np.ndarray:
        """Positions of protected images whose prediction has changed at a step."""
        return np.flatnonzero((self.protected[step] != self.evaluated.before).numpy())


@dataclass(frozen=True, kw_only=True)
class EditResult:
    """The course and the result of one edit, by whatever editor.

    Step 0 is the unedited model; step s is the state after s updates. There are `len(result)` states; an editor that
    computes its change at once has two.

    Args:
        images: The failing images, (batch, 3, H, W), in [0, 1].
        targets: The classes wanted, (batch,).
        class_names: Names of the model's classes.
        losses: Mean cross-entropy at each state, (states,).
        probabilities: Class probabilities at each state, averaged over the batch, (states, classes).
        predictions: Predicted class of each image at each state, (states, batch).
        edit: What changed, at the last state.
        succeeded: Whether the editor's own stopping test was met at the last state: all images right and, for
            editors that optimise, the loss at or below the stopping loss.
        settings: Editor, optimiser and other settings, plain values.
    """

    images: Float[Tensor, "batch 3 height width"]
    targets: Int[Tensor, " batch"]
    class_names: tuple[str, ...]
    losses: Float[Tensor, " states"]
    probabilities: Float[Tensor, "states classes"]
    predictions: Int[Tensor, "states batch"]
    edit: Edit
    succeeded: bool
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.losses)

    @property
    def steps(self) -> int:
        """Number of updates made."""
        return len(self) - 1

    @property
    def reliability(self) -> float:
        """Share of the edited images that are predicted as wanted at the last state."""
        return float((self.predictions[-1] == self.targets).double().mean())

    @property
    def target_name(self) -> str:
        """Name of the wanted class (of the first image)."""
        return self.class_names[int(self.targets[0])]

    def predicted_name(self, step: int = -1) -> str:
        """Name of the class predicted for the first image at a step."""
        return self.class_names[int(self.predictions[step, 0])]

    def outcome(self) -> str:
        """One sentence: whether the edit succeeded, in how many steps, at what loss.

        Example:
            >>> result.outcome()
            "edited 'bug' to 'mammal' in 4 steps (loss 0.007)"
        """
        before, loss = self.predicted_name(0), float(self.losses[-1])
        if self.succeeded:
            return f"edited {before!r} to {self.target_name!r} in {self.steps} steps (loss {loss:.3f})"
        return (
            f"not edited within {self.steps} steps: predicted {self.predicted_name()!r}, wanted {self.target_name!r} "
            f"(loss {loss:.3f}); {self._advice}"
        )

    @property
    def _advice(self) -> str:
        return "allow more steps or a larger learning rate"

    def to_frame(self) -> pd.DataFrame:
        """One row a state: step, loss, prediction and probability of the target (of the first image)."""
        target = int(self.targets[0])
        return pd.DataFrame(
            {
                "step": range(len(self)),
                "loss": self.losses.numpy(),
                "prediction": [self.predicted_name(s) for s in range(len(self))],
                "target_probability": self.probabilities[:, target].numpy(),
            }
        )


@dataclass(frozen=True, kw_only=True)
class EditTrajectory(EditResult):
    """A masked edit: where it was allowed to change something, and how far each unit moved at each step.

    Args:
        mask: Where the edit was allowed to change something.
        row_change: Length of the change of each unit's weights since step 0, (states, matrices, units); None where
            it was not recorded.
        evaluation: SR, GR, LR and predictions at each state, where an evaluation set was given.

    Example:
        >>> trajectory = editor.edit(EditRequest(image, target=3))
        >>> trajectory.to_frame()[["step", "loss", "prediction"]]
    """

    mask: BinaryMask
    row_change: Float[Tensor, "states matrices units"] | None
    evaluation: StepEvaluation | None = None

    def outcome(self) -> str:
        """One sentence: whether the edit succeeded, in how many steps, at what loss."""
        if not self.succeeded and self.mask.count == 0:
            return f"not edited: the mask is empty, so nothing may change (loss {float(self.losses[-1]):.3f})"
        return super().outcome()

    @property
    def _advice(self) -> str:
        return "allow more steps, a larger learning rate or a lower sparsity"

    def to_frame(self) -> pd.DataFrame:
        """One row a state: step, loss, prediction, probability of target, total change, SR, GR, LR."""
        frame = super().to_frame()
        if self.row_change is not None:
            frame["change"] = self.row_change.flatten(1).norm(dim=1).numpy()
        if self.evaluation is not None:
            for name in ("sr", "gr", "lr"):
                frame[name] = [getattr(s, name) for s in self.evaluation.scores]
        return frame

    def scores(self, step: int = -1) -> EditScores:
        """SR, GR and LR at a step; raises `InvalidInputError` where nothing was evaluated."""
        if self.evaluation is None:
            raise InvalidInputError(
                "this edit was not evaluated; pass evaluate=EvaluationSet.build(…) to Editor.edit"
            )
        return self.evaluation.scores[step]
