"""The tail of a model in which only the hidden units of a mask are trained.

Two ways to compute it. Exact: every layer whole, so that logits are those of the plain tail bit for bit. Fast: equal
up to rounding, leaving out what cannot change. The tokens that enter the first edited block's feed-forward
network are the same at every step, and so is what its unselected hidden units add to its output: they are summed once,
and each step runs a network of the selected units alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from workbench.editing.changes import Change, WeightChange
from workbench.editing.masks import BinaryMask
from workbench.models import SplitViT
from workbench.models.partial_weight import PartialWeight
from workbench.models.split import Logits, Tokens, Weights


class MaskedTail:
    """The tail of a model over fixed tokens, with the rows and columns that a mask selects as its parameters.

    Args:
        split: The model in two parts, the second beginning at the feed-forward network of the mask's first block;
            never changed.
        tokens: What enters that part.
        mask: Which hidden units are trained.
        exact: Compute every layer as `split.tail` does, instead of equal up to rounding (about 1e-6).

    Attributes:
        parts: The trained part of each weight that the mask selects anything of, by address.

    Example:
        >>> tail = MaskedTail(split, split.prefix(images), mask)
        >>> loss = F.cross_entropy(tail.logits(), targets)
        >>> gradients = torch.autograd.grad(loss, [part.trained for part in tail.parts.values()])
    """

    def __init__(self, split: SplitViT, tokens: Tokens, mask: BinaryMask, exact: bool = False) -> None:
        self.tokens, self.space = tokens, mask.space
        self._base = {a: w.detach() for a, w in self.space.weights(split.model).items()}
        self._units = {a: u.to(split.device) for a in self.space.addresses if len(u := mask.rows(a))}
        self._first = None if exact or not _can_narrow(split) else _NarrowFeedForward(split, tokens, mask)
        self._rest = split if self._first is None else _after_first_block(split)
        apart = {} if self._first is None else self._first.parts
        self._replaced = {
            a: PartialWeight(self._base[a], self.space.axis(a), units)
            for a, units in self._units.items()
            if a not in apart
        }
        self.parts = {**apart, **self._replaced}

    def logits(self) -> Logits:
        """Logits at the trained parts as they are, with a graph to them."""
        tokens = self.tokens if self._first is None else self._first()
        return self._rest.tail(tokens, self._replaced)

    def weights(self) -> Weights:
        """The whole weights as they are now, (out, in), for `SplitViT.tail`; new tensors without gradient."""
        return {
            a: self._base[a].index_copy(self.space.axis(a), units, self.parts[a].slices)
            for a, units in self._units.items()
        }

    def norms(self) -> Float[Tensor, "matrices units"]:
        """Length of the change of each unit's weights, on the CPU."""
        found = torch.zeros(self.space.shape)
        for a, units in self._units.items():
            found[self.space.index(a), units.cpu()] = self._moved(a).norm(dim=1).cpu()
        return found

    def changes(self) -> dict[str, WeightChange]:
        """What differs from the start, on the CPU; units that never moved are left out."""
        found: dict[str, WeightChange] = {}
        for a, units in self._units.items():
            delta = self._moved(a)
            moved = (delta != 0).any(dim=1)
            if moved.any():
                found[a] = Change(self.space.axis(a), units[moved].cpu(), delta[moved].cpu())
        return found

    def _moved(self, address: str) -> Float[Tensor, "k width"]:
        axis = self.space.axis(address)
        before = self._base[address].index_select(axis, self._units[address])
        return self.parts[address].trained.detach() - (before if axis == 0 else before.T)


class _NarrowFeedForward:
    """A feed-forward network over fixed tokens, of which only the selected hidden units are computed again.

    A unit is selected where either its incoming or its outgoing weights are trained.
    """

    def __init__(self, split: SplitViT, tokens: Tokens, mask: BinaryMask) -> None:
        first = split.first_block
        self.block: Any = split.model.blocks[first]
        self.tokens, self.mlp = tokens, self.block.mlp
        rows, columns = (mask.bits[mask.space.index(f"blocks.{first}.mlp.{fc}")] for fc in ("fc1", "fc2"))
        chosen = rows | columns
        units, rest = (bits.nonzero().flatten().to(split.device) for bits in (chosen, ~chosen))
        with torch.no_grad():
            self.entering = self.block.norm2(tokens)
            fc1, fc2 = self.mlp.fc1, self.mlp.fc2
            bias = None if fc1.bias is None else fc1.bias[rest]
            unchanging = self.mlp.act(F.linear(self.entering, fc1.weight[rest], bias))
            self.constant = F.linear(unchanging, fc2.weight[:, rest], fc2.bias)
            self.bias = None if fc1.bias is None else fc1.bias[units]
            self.incoming = PartialWeight(fc1.weight[units], 0, rows[chosen].nonzero().flatten())
            self.outgoing = PartialWeight(fc2.weight[:, units], 1, columns[chosen].nonzero().flatten())
        both = {"fc1": self.incoming, "fc2": self.outgoing}
        self.parts = {f"blocks.{first}.mlp.{fc}": part for fc, part in both.items() if len(part.index)}

    def __call__(self) -> Tokens:
        """The tokens that leave the block."""
        hidden = self.mlp.act(self.incoming.linear(self.entering, self.bias))
        out = self.constant + self.outgoing.linear(hidden, None)
        return self.tokens + self.block.ls2(out)


def _can_narrow(split: SplitViT) -> bool:
    """Whether only a feed-forward network of independent hidden units changes in the first block, and more follow."""
    first = split.first_block
    independent = isinstance(split.model.blocks[first].mlp.norm, nn.Identity)
    return split.entry == "mlp" and independent and first + 1 < len(split.model.blocks)


def _after_first_block(split: SplitViT) -> SplitViT:
    return SplitViT(
        split.model,
        split.first_block + 1,
        "attention",
        split.pooled_only,
        plain_attention=split.plain_attention,
    )
