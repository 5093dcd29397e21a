"""Edits made separately and put into one model: which of them survive which others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from jaxtyping import Bool, Float

from workbench.editing.edit import Edit
from workbench.editing.judging import Judge
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError


@dataclass(frozen=True)
class ConflictMatrix:
    """What every edit does to every other.

    Args:
        survives: ``[i, j]``: edit i's images are still predicted as wanted with edit j in the model too; on the
            diagonal with edit i alone.
        shared: ``[i, j]``: share of the rows and columns of edit i that edit j changes as well; 1 on the diagonal.
    """

    survives: Bool[np.ndarray, "n n"]
    shared: Float[np.ndarray, "n n"]

    @property
    def conflicts(self) -> list[tuple[int, int]]:
        """Pairs (i, j) in which edit j undoes edit i, which works alone."""
        lost = self.survives.diagonal()[:, None] & ~self.survives
        return [(int(i), int(j)) for i, j in np.argwhere(lost)]

    @property
    def survival(self) -> float | None:
        """Share of ordered pairs of different edits in which the first, working alone, survives the second."""
        works = self.survives.diagonal()
        apart = ~np.eye(len(works), dtype=bool) & works[:, None]
        return float(self.survives[apart].mean()) if apart.any() else None


def conflict_matrix(judge: Judge, results: Sequence[EditResult]) -> ConflictMatrix:
    """Put every two of some separately made edits together.

    Args:
        judge: Of the model that they were made on.
        results: The edits with their images and targets.

    Raises:
        InvalidInputError: fewer than two edits.
        CheckpointError: an edit of another model.

    Example:
        >>> matrix = conflict_matrix(judge, [editor.edit(request) for request in requests])
        >>> matrix.conflicts
        [(0, 3)]
    """
    count = len(results)
    if count < 2:
        raise InvalidInputError(f"{count} edits: give at least two, to see what each does to the other")
    survives, shared = np.zeros((count, count), dtype=bool), np.eye(count)
    for i, one in enumerate(results):
        survives[i, i] = _met(judge, one.edit, one)
        for j in range(i + 1, count):
            other = results[j]
            both = one.edit.compose(other.edit)
            survives[i, j], survives[j, i] = _met(judge, both, one), _met(judge, both, other)
            common = sum(map(len, one.edit.overlap(other.edit).values()))
            shared[i, j], shared[j, i] = common / max(1, _size(one.edit)), common / max(1, _size(other.edit))
    return ConflictMatrix(survives, shared.round(6))


def compose_all(edits: Sequence[Edit]) -> Edit:
    """The sum of edits of one model.

    Raises:
        InvalidInputError: no edits.
        CheckpointError: the edits were made on different models.
    """
    if not edits:
        raise InvalidInputError("no edits to compose; give at least one")
    return replace(reduce(Edit.compose, edits), info={"composed": [dict(edit.info) for edit in edits]})


def _met(judge: Judge, edit: Edit, result: EditResult) -> bool:
    """Whether all images of a result are predicted as wanted with an edit in the model."""
    return bool(torch.equal(judge.predictions(edit, result.images), result.targets))


def _size(edit: Edit) -> int:
    return sum(len(change.index) for change in edit.changes.values())
