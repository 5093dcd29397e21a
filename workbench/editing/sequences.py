"""Many edits of one model: one after the other, each on the model that already holds the earlier ones.

The published protocol edits the unedited model each time. Here every edit is made on a copy of the model that holds
all earlier edits; what it adds is then counted from the unedited model, so that the edits so far are one `Edit` of the
model the user has. (Changes are sums: what an edit added to a weight does not depend on where the weight stood.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from workbench.editing.edit import Edit
from workbench.editing.editor import Editor, EditRequest
from workbench.editing.editors import EditMethod, make_editor
from workbench.editing.masks import BinaryMask
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError
from workbench.models import fingerprint

#: Gives the editor for one request, made on the model that holds the earlier edits.
MethodFor = Callable[[nn.Module, EditRequest], EditMethod]


@dataclass(frozen=True)
class SequenceStep:
    """One edit of a sequence.

    Args:
        number: 1 for the first.
        request: What was asked.
        result: The edit as it was made, on the model that held the earlier ones.
        total: All edits so far together, as an edit of the unedited model.
    """

    number: int
    request: EditRequest
    result: EditResult
    total: Edit


def edit_in_sequence(
    model: nn.Module, method_for: MethodFor, requests: Iterable[EditRequest]
) -> Iterator[SequenceStep]:
    """Make edits one after the other; the model given is never changed.

    Args:
        model: A timm vision transformer with a head, in evaluation mode.
        method_for: Gives the editor of each request; see `on_edited_model`.
        requests: In the order in which they arrive.

    Yields:
        One step an edit, as soon as it is made. Only the sum of the edits is kept.

    Raises:
        InvalidInputError: the editor appends hidden units, which do not fit into a model for the next edit.

    Example:
        >>> for step in edit_in_sequence(model, on_edited_model("ft", model), requests):
        ...     print(step.number, judge.changed(step.total).double().mean())
    """
    base, working = fingerprint(model), copy.deepcopy(model)
    total = Edit(base, {})
    for number, request in enumerate(requests, start=1):
        result = method_for(working, request).edit(request)
        if result.edit.appends_units:
            raise InvalidInputError(
                "this editor appends hidden units, and the edited model has another shape than the next edit expects: "
                "edits of it cannot follow one another"
            )
        added = total.compose(replace(result.edit, base=base))
        total = replace(added, info={"edits": number})
        _put_into(working, model, total)
        yield SequenceStep(number, request, result, total)


def on_edited_model(name: str, model: nn.Module, **settings: Any) -> MethodFor:
    """An editor of the registry for `edit_in_sequence`.

    Editors are made anew on the edited model, with one exception: a hypernetwork knows the unedited model only, and
    where to edit should not depend on earlier edits, so a learned mask is always that of the unedited model.

    Args:
        name: Of the registry.
        model: The unedited model.
        settings: The editor's settings.

    Raises:
        UnknownNameError: no editor of that name.
        InvalidInputError: a setting out of range, or a model it cannot edit.
    """
    unedited = make_editor(name, model, **settings)  # also refuses what cannot work before any edit is made
    if name != "learned-mask":
        return lambda working, request: make_editor(name, working, **settings)
    assert isinstance(unedited, Editor)  # so that it can be asked for its masks

    def masked(working: nn.Module, request: EditRequest) -> EditMethod:
        return Editor(working, mask_of(unedited, request), unedited.settings, unedited.exact)

    return masked


def mask_of(editor: Editor, request: EditRequest) -> BinaryMask:
    """The mask that an editor would choose for a request, without editing."""
    if isinstance(editor.where, BinaryMask):
        return editor.where
    images, targets = request.batch(editor.split.model.num_classes)
    return editor.where.choose(editor.split, editor.space, editor.split.prefix(images), targets)


def _put_into(working: nn.Module, model: nn.Module, total: Edit) -> None:
    """Make `working` the model with `total` in it, from the unedited weights, so that rounding does not pile up."""
    with torch.no_grad():
        for address, weight in total.weights(model).items():
            working.get_parameter(f"{address}.weight").copy_(weight)
