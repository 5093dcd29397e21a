"""Edits as values: what changed, in whole rows and columns, and which model it belongs to.

An `Edit` never holds a model and never changes one by itself. Put it into a model for a while with `applied`, or
for good with `Edit.apply_to`, whose handle takes it out again bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.checkpoints import read_tensors
from workbench.errors import CheckpointError, InvalidInputError
from workbench.files import atomic_path
from workbench.models import fingerprint

_FORMAT = "workbench-edit-1"


@dataclass(frozen=True)
class Change:
    """What changed in one weight: whole rows (axis 0) or columns (axis 1).

    Args:
        axis: 0 for rows (fc1), 1 for columns (fc2).
        index: Which rows or columns, increasing, (k,).
        delta: What is added to them, (k, width).
    """

    axis: int
    index: Int[Tensor, " k"]
    delta: Float[Tensor, "k width"]

    def added_to(self, weight: Tensor) -> Tensor:
        """A new weight with the change put in."""
        delta = self.delta.to(weight)
        return weight.index_add(self.axis, self.index.to(weight.device), delta if self.axis == 0 else delta.T)

    def norms(self) -> Float[Tensor, " k"]:
        """Euclidean length of the change of each row or column."""
        return self.delta.norm(dim=1)


@dataclass(frozen=True)
class Edit:
    """A change of some rows and columns of a model's weights.

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
    changes: Mapping[str, Change]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Number of scalars the edit holds."""
        return sum(change.delta.numel() for change in self.changes.values())

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """New weights by address, (out, in), for `SplitViT.tail`; the model is not touched."""
        return {a: c.added_to(_weight(model, a).detach()) for a, c in self.changes.items()}

    def to_frame(self) -> pd.DataFrame:
        """One row a changed row or column: ``address``, ``unit``, ``norm`` of the change."""
        parts = [
            pd.DataFrame({"address": a, "unit": c.index.numpy(), "norm": c.norms().numpy()})
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
        addresses = sorted({*self.changes, *other.changes})
        changes = {a: _sum([e.changes[a] for e in (self, other) if a in e.changes]) for a in addresses}
        return Edit(self.base, changes, {"composed": [dict(self.info), dict(other.info)]})

    def overlap(self, other: Edit) -> dict[str, list[int]]:
        """Rows and columns that both edits change, by address."""
        shared = {}
        for address in self.changes.keys() & other.changes.keys():
            both = set(self.changes[address].index.tolist()) & set(other.changes[address].index.tolist())
            if both:
                shared[address] = sorted(both)
        return shared

    def apply_to(self, model: nn.Module) -> AppliedEdit:
        """Change `model` in place; the handle returned takes the edit out again, bit for bit.

        Raises:
            CheckpointError: the edit was made on another model, or the model has been changed since.
        """
        self.check_model(model)
        edited = self.weights(model)  # all of them first: an edit that does not fit changes nothing
        originals = {}
        with torch.no_grad():
            for address, change in self.changes.items():
                weight = _weight(model, address)
                index = change.index.to(weight.device)
                originals[address] = weight.index_select(change.axis, index).clone()
                weight.copy_(edited[address])
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

        bad = [a for a, change in self.changes.items() if not torch.isfinite(change.delta).all()]
        if bad:
            raise CheckpointError(
                f"the edit holds values that are not finite in {', '.join(bad[:3])}: it is not saved; edit again with "
                "a lower learning rate"
            )
        tensors: dict[str, Tensor] = {}
        for address, change in self.changes.items():
            tensors[f"{address}.index"] = change.index.contiguous()
            tensors[f"{address}.delta"] = change.delta.contiguous()
        axes = {a: c.axis for a, c in self.changes.items()}
        header = {
            "format": _FORMAT,
            "base": self.base,
            "axes": json.dumps(axes),
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
        from safetensors import safe_open

        tensors = read_tensors(path)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        if header.get("format") != _FORMAT:
            raise CheckpointError(
                f"{path} is a safetensors file but not an edit (format {header.get('format')!r})"
            )
        try:
            changes = {
                a: Change(axis, tensors[f"{a}.index"], tensors[f"{a}.delta"])
                for a, axis in json.loads(header["axes"]).items()
            }
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
        """Put the original rows and columns back, bit for bit."""
        with torch.no_grad():
            for address, change in self.edit.changes.items():
                weight = _weight(self.model, address)
                weight.index_copy_(change.axis, change.index.to(weight.device), self.originals[address])


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


def _sum(changes: list[Change]) -> Change:
    """Changes of one weight added up over the union of their rows or columns."""
    index = torch.cat([c.index for c in changes]).unique()
    delta = torch.zeros(len(index), changes[0].delta.shape[1], dtype=changes[0].delta.dtype)
    for change in changes:
        delta.index_add_(0, torch.searchsorted(index, change.index), change.delta)
    return Change(changes[0].axis, index, delta)
