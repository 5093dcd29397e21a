"""Edits as values: what changed, weight by weight, and which model it belongs to.

An `Edit` never holds a model and never changes one by itself. Put it into a model for a while with `applied`, or
for good with `Edit.apply_to`, whose handle takes it out again bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from workbench.checkpoints import read_header, read_tensors
from workbench.editing.changes import (
    Change,
    WeightChange,
    appended_in,
    change_from,
    followed_by,
    header_of,
    shared_units,
)
from workbench.errors import CheckpointError, InvalidInputError
from workbench.files import atomic_path
from workbench.models import fingerprint

_FORMAT = "workbench-edit-2"


@dataclass(frozen=True)
class Edit:
    """A change of some of a model's weights.

    Args:
        base: Fingerprint of the model that the edit was made on.
        changes: By address (``"blocks.7.mlp.fc1"``); addresses without a change are absent.
        info: How the edit was made: target, steps, settings; plain values only.

    Example:
        >>> edit = editor.edit(EditRequest(image, target=3)).edit
        >>> edit.save("fix.safetensors")
        >>> with applied(model, edit):
        ...     logits = model(normalize(model, images))
    """

    base: str
    changes: Mapping[str, WeightChange]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Number of scalars the edit holds."""
        return sum(change.parameters for change in self.changes.values())

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """New weights by address, (out, in), for `SplitViT.tail`; the model is not touched.

        Where hidden units are appended there are new biases too, as ``"<address>.bias"``.
        """
        found = {a: c.added_to(_weight(model, a).detach()) for a, c in self.changes.items()}
        for address, change in self.changes.items():
            for units in appended_in(change):
                if units.bias is not None:
                    bias = model.get_parameter(f"{address}.bias").detach()
                    found[f"{address}.bias"] = units.added_to_bias(bias)
        return found

    @property
    def appends_units(self) -> bool:
        """Whether the edited model has another shape than the architecture says."""
        return any(appended_in(change) for change in self.changes.values())

    @property
    def first_block(self) -> int | None:
        """The first block that changes, 0-based; None for an edit without changes."""
        blocks = [int(address.split(".")[1]) for address in self.changes]
        return min(blocks) if blocks else None

    @property
    def entry(self) -> Literal["attention", "mlp"]:
        """What changes first in that block: a tail that starts there reproduces the edited model."""
        first = f"blocks.{self.first_block}.attn."
        return "attention" if any(address.startswith(first) for address in self.changes) else "mlp"

    def to_frame(self) -> pd.DataFrame:
        """One row a changed row or column: ``address``, ``unit``, ``norm`` of the change."""
        parts = [
            pd.DataFrame({"address": a, "unit": c.index.numpy(), "norm": c.norms().float().numpy()})
            for a, c in self.changes.items()
        ]
        return (
            pd.concat(parts, ignore_index=True)
            if parts
            else pd.DataFrame(columns=["address", "unit", "norm"])
        )

    def compose(self, other: Edit) -> Edit:
        """Both edits at once: their changes add, where they meet too (`overlap` tells where).

        Raises:
            CheckpointError: the edits were made on different models.
        """
        if other.base != self.base:
            raise CheckpointError(
                f"edits of different models cannot be composed: {self.base[:12]}… and {other.base[:12]}…"
            )
        changes = dict(self.changes)
        for address, change in other.changes.items():
            changes[address] = followed_by(changes[address], change) if address in changes else change
        ordered = {a: changes[a] for a in sorted(changes)}
        return Edit(self.base, ordered, {"composed": [dict(self.info), dict(other.info)]})

    def overlap(self, other: Edit) -> dict[str, list[int]]:
        """Rows and columns that both edits change, by address."""
        both = self.changes.keys() & other.changes.keys()
        shared = {a: shared_units(self.changes[a], other.changes[a]) for a in sorted(both)}
        return {a: units for a, units in shared.items() if units}

    def apply_to(self, model: nn.Module) -> AppliedEdit:
        """Change `model` in place; the handle returned takes the edit out again, bit for bit.

        Raises:
            CheckpointError: the edit was made on another model, or the model has been changed since.
        """
        self.check_model(model)
        if self.appends_units:
            raise InvalidInputError(
                "this edit appends hidden units, so it does not fit into the model's weights; run it with "
                "SplitViT(model, edit.first_block).tail(tokens, edit.weights(model))"
            )
        edited = self.weights(model)  # all of them first: an edit that does not fit changes nothing
        originals = {a: _kept(_weight(model, a).detach(), change) for a, change in self.changes.items()}
        with torch.no_grad():
            for address in self.changes:
                _weight(model, address).copy_(edited[address])
        return AppliedEdit(self, model, originals)

    def check_model(self, model: nn.Module) -> None:
        """Raise `CheckpointError` unless `model` is bit for bit the one the edit was made on."""
        found = fingerprint(model)
        if found != self.base:
            raise CheckpointError(
                f"this edit was made on a model with fingerprint {self.base[:12]}…, the model given has {found[:12]}…. "
                "Load the model it was made on; if that model holds another edit now, revert it or compose the two"
            )

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file, atomically; it holds the changes, the base's fingerprint and the info.

        Raises:
            CheckpointError: the changes are not finite, as after an edit that diverged.
        """
        from safetensors.torch import save_file

        bad = [
            a
            for a, change in self.changes.items()
            if not all(torch.isfinite(t).all() for t in change.tensors().values())
        ]
        if bad:
            raise CheckpointError(
                f"the edit holds values that are not finite in {', '.join(bad[:3])}: it is not saved; edit again with "
                "a lower learning rate"
            )
        tensors: dict[str, Tensor] = {}
        for address, change in self.changes.items():
            tensors |= {f"{address}|{name}": t.cpu().contiguous() for name, t in change.tensors().items()}
        header = {
            "format": _FORMAT,
            "base": self.base,
            "changes": json.dumps({a: header_of(c) for a, c in self.changes.items()}),
            "info": json.dumps(dict(self.info), allow_nan=False),
        }
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=header)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Edit:
        """Read an edit file.

        Raises:
            CheckpointError: missing, truncated, not an edit, or not finite.
        """
        tensors, header = read_tensors(path), read_header(path)
        if header.get("format") != _FORMAT:
            raise CheckpointError(
                f"{path} is a safetensors file but not an edit (format {header.get('format')!r})"
            )
        try:
            parts: dict[str, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                address, _, short = name.partition("|")
                parts.setdefault(address, {})[short] = tensor
            headers = json.loads(header["changes"])
            changes = {a: change_from(described, parts.get(a, {})) for a, described in headers.items()}
            return cls(header["base"], changes, json.loads(header["info"]))
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{path} is a damaged edit: {error} is missing or wrong in it") from error


@dataclass(frozen=True)
class AppliedEdit:
    """An edit that is in a model now, and what it replaced."""

    edit: Edit
    model: nn.Module
    originals: Mapping[str, Tensor]

    def revert(self) -> None:
        """Put the original weights back, bit for bit."""
        with torch.no_grad():
            for address, change in self.edit.changes.items():
                weight, original = _weight(self.model, address), self.originals[address]
                if isinstance(change, Change):
                    weight.index_copy_(change.axis, change.index.to(weight.device), original)
                else:
                    weight.copy_(original)


@contextmanager
def applied(model: nn.Module, edit: Edit) -> Iterator[nn.Module]:
    """The model with the edit in it, inside the block only, also when the block raises.

    Example:
        >>> with applied(model, edit) as edited:
        ...     edited(x).argmax(1)
    """
    handle = edit.apply_to(model)
    try:
        yield model
    finally:
        handle.revert()


def _weight(model: nn.Module, address: str) -> Tensor:
    try:
        return model.get_parameter(f"{address}.weight")
    except AttributeError:
        raise InvalidInputError(
            f"the model has no weight at {address!r}; the edit belongs to another architecture"
        ) from None


def _kept(weight: Tensor, change: WeightChange) -> Tensor:
    """What must be remembered of a weight to take a change out of it: its rows or columns, or all of it."""
    if isinstance(change, Change):
        return weight.index_select(change.axis, change.index.to(weight.device)).clone()
    return weight.clone()
