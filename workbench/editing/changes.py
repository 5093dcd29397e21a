"""What an edit does to one weight, by kind, and how each kind is written to a file.

Masked fine-tuning changes whole rows or columns (`Change`). Other editors add a low-rank product (`LowRankChange`) or
append hidden units (`AppendedUnits`); editing an edited model gives several in a row (`ChangeSequence`). A weight is
addressed by its module path, and an edit holds one change an address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import InvalidInputError


@runtime_checkable
class WeightChange(Protocol):
    """What an edit does to one weight, (out, in)."""

    kind: ClassVar[str]

    @property
    def axis(self) -> int:
        """Which axis of the weight `index` counts: 0 for rows, 1 for columns."""
        ...

    @property
    def index(self) -> Int[Tensor, " k"]:
        """Rows or columns that change, increasing."""
        ...

    @property
    def parameters(self) -> int:
        """Number of scalars it holds."""
        ...

    def added_to(self, weight: Tensor) -> Tensor:
        """A new weight with the change put in; the one given is not touched."""
        ...

    def norms(self) -> Float[Tensor, " k"]:
        """Euclidean length of the change of each row or column of `index`."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Its content by short name, for a file."""
        ...


@dataclass(frozen=True)
class Change:
    """Whole rows (axis 0) or columns (axis 1) of a weight.

    Args:
        axis: 0 for rows (fc1), 1 for columns (fc2).
        index: Which rows or columns, increasing, (k,).
        delta: What is added to them, (k, width).
    """

    axis: int
    index: Int[Tensor, " k"]
    delta: Float[Tensor, "k width"]

    kind: ClassVar[str] = "rows"

    @property
    def parameters(self) -> int:
        """Number of scalars it holds."""
        return self.delta.numel()

    def added_to(self, weight: Tensor) -> Tensor:
        """A new weight with the change put in."""
        delta = self.delta.to(weight)
        return weight.index_add(self.axis, self.index.to(weight.device), delta if self.axis == 0 else delta.T)

    def norms(self) -> Float[Tensor, " k"]:
        """Euclidean length of the change of each row or column."""
        return self.delta.norm(dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """``index`` and ``delta``."""
        return {"index": self.index, "delta": self.delta}


@dataclass(frozen=True)
class LowRankChange:
    """A product of two thin matrices: left @ right is added to the weight.

    Args:
        left: (out, rank).
        right: (rank, in).
    """

    left: Float[Tensor, "out rank"]
    right: Float[Tensor, "rank in"]

    kind: ClassVar[str] = "low-rank"

    def __post_init__(self) -> None:
        if self.left.ndim != 2 or self.right.ndim != 2 or self.left.shape[1] != self.right.shape[0]:
            raise InvalidInputError(
                f"left is {tuple(self.left.shape)} and right {tuple(self.right.shape)}; a low-rank change needs "
                "(out, rank) and (rank, in)"
            )

    @property
    def axis(self) -> int:
        """Rows: a product changes them all."""
        return 0

    @property
    def index(self) -> Int[Tensor, " k"]:
        """Rows of which `left` is not zero."""
        return (self.left != 0).any(dim=1).nonzero().flatten()

    @property
    def parameters(self) -> int:
        """Number of scalars it holds."""
        return self.left.numel() + self.right.numel()

    def added_to(self, weight: Tensor) -> Tensor:
        """A new weight with the product added."""
        return torch.addmm(weight, self.left.to(weight), self.right.to(weight))

    def norms(self) -> Float[Tensor, " k"]:
        """Euclidean length of the change of each row of `index`."""
        gram = self.right @ self.right.T
        rows = self.left[self.index]
        return (rows @ gram * rows).sum(dim=1).clamp(min=0).sqrt()

    def tensors(self) -> dict[str, Tensor]:
        """``left`` and ``right``."""
        return {"left": self.left, "right": self.right}


@dataclass(frozen=True)
class AppendedUnits:
    """Hidden units appended to a feed-forward network: rows of fc1 (with biases) or columns of fc2.

    A model with such an edit has another shape than its architecture says: it can be run and evaluated, but not
    written as a plain state dict of that architecture.

    Args:
        axis: 0 appends rows (fc1), 1 appends columns (fc2).
        values: The new rows or columns, (k, width).
        first: Number of units before.
        bias: Biases of the new units, (k,), for rows only.
    """

    axis: int
    values: Float[Tensor, "k width"]
    first: int
    bias: Float[Tensor, " k"] | None = None

    kind: ClassVar[str] = "appended"

    @property
    def index(self) -> Int[Tensor, " k"]:
        """Positions of the new units."""
        return torch.arange(self.first, self.first + len(self.values))

    @property
    def parameters(self) -> int:
        """Number of scalars it holds."""
        return self.values.numel() + (0 if self.bias is None else self.bias.numel())

    def added_to(self, weight: Tensor) -> Tensor:
        """A new, larger weight."""
        if weight.shape[self.axis] != self.first:
            raise InvalidInputError(
                f"the units were made for a weight with {self.first} of them, this one has "
                f"{weight.shape[self.axis]}: two edits that append units cannot be in one model"
            )
        values = self.values.to(weight)
        return torch.cat([weight, values if self.axis == 0 else values.T], dim=self.axis)

    def added_to_bias(self, bias: Tensor) -> Tensor:
        """A new, larger bias; the same one for columns."""
        return bias if self.bias is None else torch.cat([bias, self.bias.to(bias)])

    def norms(self) -> Float[Tensor, " k"]:
        """Euclidean length of each new row or column."""
        return self.values.norm(dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """``values`` and, for rows, ``bias``."""
        return {"values": self.values} | ({} if self.bias is None else {"bias": self.bias})


@dataclass(frozen=True)
class ChangeSequence:
    """Several changes of one weight, one after the other; appended units come last (see `followed_by`)."""

    parts: tuple[WeightChange, ...]

    kind: ClassVar[str] = "sequence"

    @property
    def axis(self) -> int:
        """The axis of the parts; rows where they differ."""
        axes = {part.axis for part in self.parts}
        return axes.pop() if len(axes) == 1 else 0

    @property
    def index(self) -> Int[Tensor, " k"]:
        """Rows or columns that any part changes (parts along the other axis are left out)."""
        return torch.cat([p.index for p in self.parts if p.axis == self.axis]).unique()

    @property
    def parameters(self) -> int:
        """Number of scalars it holds."""
        return sum(part.parameters for part in self.parts)

    def added_to(self, weight: Tensor) -> Tensor:
        """A new weight with all parts put in, in order."""
        for part in self.parts:
            weight = part.added_to(weight)
        return weight

    def norms(self) -> Float[Tensor, " k"]:
        """At most this much: the lengths of the parts' changes added up, for each of `index`."""
        index = self.index
        total = torch.zeros(len(index))
        for part in self.parts:
            if part.axis == self.axis:
                total.index_add_(0, torch.searchsorted(index, part.index), part.norms().float())
        return total

    def tensors(self) -> dict[str, Tensor]:
        """The parts' tensors, numbered: ``0.delta``."""
        return {f"{i}.{name}": t for i, part in enumerate(self.parts) for name, t in part.tensors().items()}


def appended_in(change: WeightChange) -> tuple[AppendedUnits, ...]:
    """The hidden units that a change appends, alone or among others; none for most changes."""
    return tuple(part for part in _parts(change) if isinstance(part, AppendedUnits))


def header_of(change: WeightChange) -> dict[str, Any]:
    """What a file must say of a change beside its tensors."""
    if isinstance(change, Change):
        return {"kind": change.kind, "axis": change.axis}
    if isinstance(change, AppendedUnits):
        return {"kind": change.kind, "axis": change.axis, "first": change.first}
    if isinstance(change, ChangeSequence):
        return {"kind": change.kind, "parts": [header_of(part) for part in change.parts]}
    return {"kind": change.kind}


def change_from(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> WeightChange:
    """The change that `header_of` and `tensors` describe.

    Raises:
        KeyError: a tensor or an entry is missing.
        ValueError: a kind that is not known.
    """
    kind = header["kind"]
    if kind == Change.kind:
        return Change(header["axis"], tensors["index"], tensors["delta"])
    if kind == LowRankChange.kind:
        return LowRankChange(tensors["left"], tensors["right"])
    if kind == AppendedUnits.kind:
        return AppendedUnits(header["axis"], tensors["values"], header["first"], tensors.get("bias"))
    if kind == ChangeSequence.kind:
        return ChangeSequence(
            tuple(change_from(part, _below(f"{i}.", tensors)) for i, part in enumerate(header["parts"]))
        )
    raise ValueError(f"kind {kind!r}")


def followed_by(first: WeightChange, second: WeightChange) -> WeightChange:
    """Both changes of one weight. Rows with rows, or columns with columns, add up over their union.

    In a sequence appended units come last: the other changes are of the weight as it was before.
    """
    if isinstance(first, Change) and isinstance(second, Change) and first.axis == second.axis:
        return _sum(first, second)
    parts = sorted((*_parts(first), *_parts(second)), key=lambda part: isinstance(part, AppendedUnits))
    return ChangeSequence(tuple(parts))


def shared_units(first: WeightChange, second: WeightChange) -> list[int]:
    """Rows or columns that both change; all of the first's where one changes rows and the other columns."""
    if first.axis != second.axis:
        return first.index.tolist()
    return sorted(set(first.index.tolist()) & set(second.index.tolist()))


def _parts(change: WeightChange) -> tuple[WeightChange, ...]:
    return change.parts if isinstance(change, ChangeSequence) else (change,)


def _sum(first: Change, second: Change) -> Change:
    index = torch.cat([first.index, second.index]).unique()
    delta = torch.zeros(len(index), first.delta.shape[1], dtype=first.delta.dtype)
    for change in (first, second):
        delta.index_add_(0, torch.searchsorted(index, change.index), change.delta)
    return Change(first.axis, index, delta)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
