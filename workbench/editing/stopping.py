"""A stopping rule that watches locality: an edit ends before it changes too many predictions that should stay."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from workbench.editing.edit import Edit
from workbench.editing.editor import Editor, EditRequest
from workbench.editing.metrics import EvaluationSet
from workbench.editing.trajectory import EditTrajectory
from workbench.errors import InvalidInputError


class LocalityStop:
    """An editor that stops at the last state at which few enough watched predictions have changed.

    The edit is made as usual, and the watched images are predicted at every state. Where the share of changed
    predictions exceeds the bound at some state, the edit is made again and ended just before it: optimising is
    deterministic, so the shorter edit is the beginning of the longer one. Where the very first step is too much,
    nothing changes.

    Args:
        editor: Masked fine-tuning, of whatever mask.
        watched: Images whose predictions should stay, (m, 3, H, W), in [0, 1]. Judge the edit by others.
        bound: Largest share of watched predictions that may change, in [0, 1).

    Raises:
        InvalidInputError: a bound outside [0, 1), or no images.

    Example:
        >>> careful = LocalityStop(Editor.learned(model, hypernetwork), protected[:60], bound=0.05)
        >>> careful.edit(EditRequest(image, target=3)).edit
    """

    def __init__(
        self, editor: Editor, watched: Float[Tensor, "images 3 height width"], bound: float = 0.05
    ) -> None:
        if not 0 <= bound < 1:
            raise InvalidInputError(f"bound is {bound}; it is a share of predictions and must be in [0, 1)")
        if len(watched) == 0:
            raise InvalidInputError("no images to watch; give some whose predictions should stay")
        self.editor, self.bound = editor, bound
        nothing = watched[:0]
        self._watched = EvaluationSet.build(editor.split, nothing, [], None, watched)

    def edit(self, request: EditRequest) -> EditTrajectory:
        """Edit until the request is met, the steps are used up, or the next step would change too much."""
        whole = self.editor.edit(request, evaluate=self._watched, record=False)
        assert whole.evaluation is not None
        changed = (whole.evaluation.protected != self._watched.before).double().mean(dim=1)
        over = (changed > self.bound).nonzero().flatten()
        if len(over) == 0:
            return self._named(whole)
        last = int(over[0]) - 1
        return self._named(self._again(whole, request, last) if last else _unedited(whole))

    def _again(self, whole: EditTrajectory, request: EditRequest, steps: int) -> EditTrajectory:
        split, settings = self.editor.split, replace(self.editor.settings, max_steps=steps)
        shorter = Editor(split.model, whole.mask, settings, self.editor.exact, split.prefix_dtype)
        return shorter.edit(request, evaluate=self._watched, record=False)

    def _named(self, found: EditTrajectory) -> EditTrajectory:
        """With the bound, and the number of steps that the editor was allowed, among the settings."""
        settings = {
            **found.settings,
            "max_steps": self.editor.settings.max_steps,
            "locality_bound": self.bound,
        }
        edit = replace(found.edit, info={**found.edit.info, "settings": settings})
        return replace(found, edit=edit, settings=settings)


def _unedited(whole: EditTrajectory) -> EditTrajectory:
    """The first state of an edit, which is no success: else there would be no second one."""
    assert whole.evaluation is not None
    first = replace(
        whole.evaluation,
        group=whole.evaluation.group[:1],
        protected=whole.evaluation.protected[:1],
        scores=whole.evaluation.scores[:1],
    )
    info = {**whole.edit.info, "steps": 0, "succeeded": False, "loss": float(whole.losses[0])}
    return replace(
        whole,
        losses=whole.losses[:1],
        probabilities=whole.probabilities[:1],
        predictions=whole.predictions[:1],
        edit=Edit(whole.edit.base, {}, info),
        succeeded=False,
        evaluation=first,
    )
