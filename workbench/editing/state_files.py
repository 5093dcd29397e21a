"""Edited models as plain state dicts on disk, and the way back to the base, bit for bit.

A sum of floats cannot be undone by a difference. So `write_edited` keeps what the edit replaced in a small file beside
the state dict, ``fixed.originals.safetensors``, and the state dict itself stays a plain one that timm loads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from workbench.checkpoints import read_header, read_tensors
from workbench.editing.changes import Change
from workbench.editing.edit import Edit, applied
from workbench.errors import CheckpointError, InvalidInputError
from workbench.files import atomic_path
from workbench.models import fingerprint
from workbench.models.state_dicts import model_header

_FORMAT = "workbench-originals-1"

#: What a header says of the model itself, with or without an edit.
_MODEL_KEYS = ("architecture", "pretrained_cfg")


def originals_path(path: str | Path) -> Path:
    """Where `write_edited` keeps what it replaced: ``fixed.originals.safetensors`` beside ``fixed.safetensors``."""
    path = Path(path)
    return path.with_name(f"{path.stem}.originals.safetensors")


def write_edited(model: nn.Module, edit: Edit, path: str | Path) -> Path:
    """Write the edited model as a plain timm state dict, and what was replaced beside it (`originals_path`).

    The file's header names the base's fingerprint, how the edit was made, and what `load_model` must know of the
    model. The model itself is afterwards as it was.

    Args:
        model: The model that the edit was made on.
        edit: What changes.
        path: A ``.safetensors`` file; this and the one beside it are replaced if they exist.

    Raises:
        CheckpointError: the edit was made on another model.
        InvalidInputError: the edit appends hidden units, or the file would not be called ``.safetensors``.

    Example:
        >>> write_edited(model, edit, "fixed.safetensors")
        >>> timm.create_model("vit_base_patch16_224", checkpoint_path="fixed.safetensors")
    """
    path = _checked(path)
    if edit.appends_units:
        raise InvalidInputError(
            "this edit appends hidden units: the edited model has another shape than its architecture says, so there "
            "is no plain state dict of it. Keep the edit file, or edit again with another editor"
        )
    edit.check_model(model)
    originals = _originals(model.state_dict(), edit)
    with applied(model, edit):
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        header = {"format": "pt", "base": edit.base, **model_header(model), "edit": _json(edit.info)}
        beside = {"format": _FORMAT, "base": edit.base, "edited": fingerprint(state)}
        # The inner file is renamed first: a run that is killed between the two leaves no model without its originals.
        with atomic_path(path) as outer, atomic_path(originals_path(path)) as inner:
            _save(originals, inner, beside)
            _save(state, outer, header)
    return path


def timm_call(model: nn.Module, path: str | Path) -> str:
    """The line of Python that makes the model in a file of `write_edited`, as timm wants it.

    Example:
        >>> timm_call(model, "fixed.safetensors")
        'timm.create_model("vit_base_patch16_224", num_classes=1000, img_size=224, checkpoint_path="fixed.safetensors")'
    """
    vit: Any = model
    name = (getattr(vit, "pretrained_cfg", None) or {}).get("architecture", "…")
    options = f"num_classes={vit.num_classes}, img_size={vit.patch_embed.img_size[0]}"
    if vit.dynamic_img_size:
        options += ", dynamic_img_size=True"
    return f'timm.create_model("{name}", {options}, checkpoint_path="{path}")'


def restore(edited: str | Path, edit: Edit, path: str | Path) -> Path:
    """Take an edit out of a state dict that `write_edited` wrote; the result is the base, bit for bit.

    Args:
        edited: What `write_edited` wrote, with its file of originals beside it.
        edit: The edit that is in it.
        path: Where the base's state dict is written.

    Raises:
        CheckpointError: a file is missing or damaged, the state dict has been changed since, or holds another edit.
    """
    path = _checked(path)
    state, (originals, header) = read_tensors(edited), _read_originals(edited)
    if header.get("base") != edit.base:
        raise CheckpointError(
            f"{edited} was made from a model with fingerprint {str(header.get('base'))[:12]}…, the edit belongs to one "
            f"with {edit.base[:12]}…; name the edit that was applied"
        )
    if header.get("edited") != fingerprint(state):
        raise CheckpointError(
            f"{edited} is not as it was written: its weights have changed since, so the edit cannot be taken "
            "out exactly"
        )
    _put_back(state, originals, edit)
    if fingerprint(state) != edit.base:
        raise CheckpointError(
            f"{edited} holds another edit than the one given; name the edit that was applied"
        )
    known = {key: value for key, value in read_header(edited).items() if key in _MODEL_KEYS}
    with atomic_path(path) as temporary:
        _save(state, temporary, {"format": "pt", **known})
    return path


def _originals(state: Mapping[str, Tensor], edit: Edit) -> dict[str, Tensor]:
    """Rows or columns that the edit replaces, as in the weight; other kinds of change replace all of it."""
    found = {}
    for address, change in edit.changes.items():
        weight = state[f"{address}.weight"].detach().cpu()
        if isinstance(change, Change):
            weight = weight.index_select(change.axis, change.index)
        found[address] = weight.contiguous().clone()
    return found


def _put_back(state: dict[str, Tensor], originals: Mapping[str, Tensor], edit: Edit) -> None:
    for address, change in edit.changes.items():
        name, original = f"{address}.weight", originals.get(address)
        if original is None or name not in state:
            continue  # another edit: the fingerprint will tell
        if not isinstance(change, Change):
            state[name] = original
        elif original.shape[change.axis] == len(change.index):
            state[name].index_copy_(change.axis, change.index, original)


def _read_originals(edited: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    path = originals_path(edited)
    if not path.exists():
        raise CheckpointError(
            f"there is no {path.name} beside {edited}: what the edit replaced is kept there and nowhere else. Put "
            "the two files together again, or go back to the base model, which `apply` has not touched"
        )
    header = read_header(path)
    if header.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} is not what `apply` writes beside a model (format {header.get('format')!r})"
        )
    return read_tensors(path), header


def _checked(path: str | Path) -> Path:
    """A path whose name timm takes for safetensors."""
    if Path(path).suffix != ".safetensors":
        raise InvalidInputError(f"{path} must end in .safetensors: timm tells file formats by their names")
    return Path(path)


def _save(tensors: dict[str, Tensor], path: Path, header: dict[str, str]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata=header)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), allow_nan=False)
