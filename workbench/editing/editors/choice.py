"""Which editor to take for a model: the one asked for, or the best that needs nothing that is not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from workbench.checkpoints import list_checkpoints, read_card, shipped_path
from workbench.editing.editors import editor_entry
from workbench.editing.editors._base import EditMethod, EditorEntry
from workbench.editing.hypernetwork import MaskHypernetwork
from workbench.editing.space import DEFAULT_BLOCKS
from workbench.errors import InvalidInputError
from workbench.models import check_vit, fingerprint

LEARNED, GRADIENT = "learned-mask", "gradient-mask"

#: Families of editors that work on the default blocks unless told otherwise.
_OF_BLOCKS = ("mask", "fine-tuning")


@dataclass(frozen=True)
class EditorChoice:
    """An editor ready to edit, its entry in the registry, and a sentence that says why it was taken."""

    entry: EditorEntry
    editor: EditMethod
    why: str


def choose_editor(
    model: nn.Module, name: str = "", hypernetwork: str | Path = "", **settings: Any
) -> EditorChoice:
    """The editor called `name`; without a name, the learned mask where a hypernetwork knows the model.

    Args:
        model: What is to be edited.
        name: A name of `EDITORS`; empty for the learned mask or, where no hypernetwork was trained on this model,
            the gradient mask.
        hypernetwork: By name or file, for the learned mask; empty for the shipped one of this very model.
        settings: The editor's own. In a model with too few blocks for the default ones, blocks as far from the
            head are taken unless `blocks` says which.

    Raises:
        UnknownNameError: no such editor or hypernetwork, or a setting that the editor does not have.
        InvalidInputError: the learned mask is asked for and no hypernetwork knows the model; a setting out of range.

    Example:
        >>> choose_editor(load_model("emoji_vit_s14"), sparsity=0.9).why
        'learned-mask: fine-tunes the hidden units that … (hypernetwork emoji_vit_s14)'
    """
    guide = hypernetwork or (_trained_on(model) if name in ("", LEARNED) else "")
    reason = "" if name or guide else "no hypernetwork was trained on this model, so "
    name = name or (LEARNED if guide else GRADIENT)
    entry = editor_entry(name)
    why = f"{reason}{name}: {entry.definition}"
    if name == LEARNED:
        if not guide:
            raise InvalidInputError(
                f"no hypernetwork was trained on this model, and {LEARNED} needs one; train it with `workbench train "
                f"hypernetwork --model NAME`, or take {GRADIENT}"
            )
        settings["hypernetwork"] = MaskHypernetwork.load(guide)
        why += f" (hypernetwork {guide})"
    elif hypernetwork:
        raise InvalidInputError(f"{name} takes no hypernetwork; leave it out, or take {LEARNED}")
    elif entry.family in _OF_BLOCKS and "blocks" not in settings and _depth(model) <= max(DEFAULT_BLOCKS):
        settings["blocks"] = _blocks(_depth(model))
        why += f", in blocks {', '.join(map(str, settings['blocks']))} of a model with {_depth(model)}"
    return EditorChoice(entry, entry(model, **settings), why)


def _depth(model: nn.Module) -> int:
    vit: Any = check_vit(model)
    return len(vit.blocks)


def _blocks(depth: int) -> tuple[int, ...]:
    """Blocks as far from the head as the default ones are in a model of twelve blocks, for models with fewer."""
    last = max(0, depth - 12 + max(DEFAULT_BLOCKS))
    return tuple(range(max(0, last - len(DEFAULT_BLOCKS) + 1), last + 1))


def _trained_on(model: nn.Module) -> str:
    """Name of the shipped hypernetwork that was trained on this very model; empty where there is none."""
    found = fingerprint(model)
    for name in list_checkpoints("hypernetwork"):
        card = read_card(shipped_path("hypernetwork", name).with_suffix(".json"))
        if card.extra.get("base") == found:
            return name
    return ""
