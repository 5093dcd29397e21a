"""Measure editors on failure groups: one row an edit, for every setting of every editor's sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.editing.editor import EditRequest
from workbench.editing.editors import EditMethod, editor_entry, make_editor
from workbench.editing.judging import Judge
from workbench.errors import InvalidInputError


@runtime_checkable
class Group(Protocol):
    """Failures with one right and one wrong class: `workbench.data.failures.FailureGroup`, or alike."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def style(self) -> str:
        """Where the images come from."""
        ...

    @property
    def images(self) -> Float[Tensor, "n 3 height width"]:
        """Values in [0, 1]."""
        ...

    @property
    def targets(self) -> Int[Tensor, " n"]:
        """Their right class."""
        ...


def measure_edit(method: EditMethod, judge: Judge, group: Group, edited: int = 0) -> dict[str, Any]:
    """Edit one image of a group and judge the edit by the others and by the protected images.

    Args:
        method: The editor.
        judge: Of the same model.
        group: The failures.
        edited: Position of the edited image in the group.

    Returns:
        Plain values: ``group``, ``style``, ``size``, ``edited``, ``succeeded``, ``steps``, ``sr``, ``gr``,
        ``gr_published``, ``lr``.

    Raises:
        InvalidInputError: the group has no image at that position.
    """
    images, targets = group.images, group.targets
    if not 0 <= edited < len(images):
        raise InvalidInputError(f"image {edited} of group {group.name!r} is not there: it has {len(images)}")
    result = method.edit(EditRequest(images[edited], int(targets[edited])))
    scores = judge.scores(result.edit, images, targets, edited, result.reliability)
    return {
        "group": group.name,
        "style": group.style,
        "size": len(images),
        "edited": edited,
        "succeeded": result.succeeded,
        "steps": result.steps,
        "sr": scores.sr,
        "gr": scores.gr,
        "gr_published": scores.gr_published,
        "lr": scores.lr,
    }


def measure_sweeps(
    model: nn.Module,
    editors: Sequence[str],
    groups: Sequence[Group],
    judge: Judge,
    shared: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Edit the first image of every group with every setting of the editors' sweeps.

    Args:
        model: The model.
        editors: Names of the registry (`workbench.editing.editors.EDITORS`).
        groups: The failure groups.
        judge: Of the same model.
        shared: Settings of an editor beside those of its sweep, by its name: the learned mask's hypernetwork, a
            learning rate.
        progress: Show a bar over the settings.

    Returns:
        One row an edit: ``editor``, ``position`` and ``setting`` in the sweep, and what `measure_edit` says. It is
        what `workbench.editing.pareto` summarises.

    Raises:
        UnknownNameError: no editor of that name.
        InvalidInputError: no editors or no groups.

    Example:
        >>> rows = measure_sweeps(model, ["learned-mask", "ft"], groups, judge, {"learned-mask": {"hypernetwork": h}})
        >>> front_areas(rows, reference="learned-mask")
    """
    if not editors or not groups:
        raise InvalidInputError(f"{len(editors)} editors and {len(groups)} groups; give at least one of each")
    cells = [(n, i, s) for n in editors for i, s in enumerate(editor_entry(n).sweep)]
    rows = []
    for name, position, settings in tqdm(cells, desc="settings", leave=False, disable=not progress):
        method = make_editor(name, model, **{**dict((shared or {}).get(name, {})), **settings})
        at = {"editor": name, "position": position, "setting": setting_label(settings)}
        rows += [at | measure_edit(method, judge, group) for group in groups]
    return pd.DataFrame(rows)


def setting_label(settings: Mapping[str, Any]) -> str:
    """Settings as short text for tables and legends.

    Example:
        >>> setting_label({"sparsity": 0.95, "learning_rate": 2e-5})
        'sparsity 0.95, learning rate 2e-05'
    """
    parts = [
        f"{name.replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else value}"
        for name, value in settings.items()
    ]
    return ", ".join(parts) or "default"
