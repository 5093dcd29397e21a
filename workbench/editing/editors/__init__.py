"""Editors by name, behind one protocol: the learned mask and its rivals.

Example:
    >>> editor = make_editor("random-mask", model, sparsity=0.95)
    >>> editor.edit(EditRequest(image, target=3)).edit
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from workbench.editing.editors import fine_tuning, knowledge_neurons, lora, masked, mend, rome, t_patcher
from workbench.editing.editors._base import EditMethod, EditorEntry
from workbench.errors import UnknownNameError

_MODULES = (masked, fine_tuning, lora, knowledge_neurons, rome, mend, t_patcher)

EDITORS: Mapping[str, EditorEntry] = {entry.name: entry for module in _MODULES for entry in module.ENTRIES}

__all__ = ["EDITORS", "EditMethod", "EditorEntry", "editor_entry", "make_editor"]


def editor_entry(name: str) -> EditorEntry:
    """What the registry says about an editor; raises `UnknownNameError` with the nearest name."""
    if name not in EDITORS:
        raise UnknownNameError("editor", name, EDITORS)
    return EDITORS[name]


def make_editor(name: str, model: nn.Module, **settings: Any) -> EditMethod:
    """An editor of `model` by name, with settings of its own.

    Raises:
        UnknownNameError: no editor of that name.
        InvalidInputError: a setting out of range, or a model it cannot edit.
    """
    return editor_entry(name)(model, **settings)
