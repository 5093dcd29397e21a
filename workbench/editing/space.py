"""Which weights may be edited: the two feed-forward matrices of a few blocks, one mask bit per hidden unit.

Hidden unit *u* of a block owns row *u* of ``fc1.weight`` (its incoming weights) and column *u* of ``fc2.weight``
(its outgoing ones). The two are gated by independent bits. Source: where-to-edit specification, sections 1.4 and 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import InvalidInputError, UnknownNameError
from workbench.models import check_vit

#: Blocks edited by default, 0-based (8 to 10 in the paper's 1-based count).
DEFAULT_BLOCKS = (7, 8, 9)


@dataclass(frozen=True)
class EditSpace:
    """The editable matrices of a model, in head order: 7.fc1, 7.fc2, 8.fc1, 8.fc2, …

    Args:
        blocks: Indices of the edited blocks, 0-based and increasing.
        units: Hidden units of one feed-forward network.
        width: Token width: the number of scalars that one bit owns.

    Example:
        >>> space = EditSpace.of(load_model("emoji_vit_s14"))
        >>> space.addresses[:2], space.shape
        (('blocks.7.mlp.fc1', 'blocks.7.mlp.fc2'), (6, 1536))
    """

    blocks: tuple[int, ...]
    units: int
    width: int

    @classmethod
    def of(cls, model: nn.Module, blocks: Iterable[int] = DEFAULT_BLOCKS) -> EditSpace:
        """The space of a timm ViT; raises `InvalidInputError` for a block the model does not have."""
        vit: Any = check_vit(model)
        chosen, depth = tuple(sorted(set(blocks))), len(vit.blocks)
        if not chosen or chosen[0] < 0 or chosen[-1] >= depth:
            raise InvalidInputError(
                f"blocks {chosen} must be one or more of 0..{depth - 1} (the model has {depth})"
            )
        weight = vit.blocks[chosen[0]].mlp.fc1.weight
        return cls(blocks=chosen, units=weight.shape[0], width=weight.shape[1])

    @property
    def addresses(self) -> tuple[str, ...]:
        """Module paths of the editable matrices, in head order."""
        return tuple(f"blocks.{b}.mlp.{fc}" for b in self.blocks for fc in ("fc1", "fc2"))

    @property
    def shape(self) -> tuple[int, int]:
        """(matrices, hidden units): the shape of a mask."""
        return 2 * len(self.blocks), self.units

    @property
    def size(self) -> int:
        """Number of mask bits."""
        return 2 * len(self.blocks) * self.units

    def axis(self, address: str) -> int:
        """Which axis of the weight a bit selects: 0 (rows) for fc1, 1 (columns) for fc2."""
        return 0 if address.endswith("fc1") else 1

    def index(self, address: str) -> int:
        """Position of a matrix in head order; raises `UnknownNameError` with the nearest address."""
        if address not in self.addresses:
            raise UnknownNameError("address", address, self.addresses)
        return self.addresses.index(address)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's own weights at the addresses (no copies), each (out, in)."""
        return {a: model.get_parameter(f"{a}.weight") for a in self.addresses}

    def gate(self, mask: Tensor, address: str) -> Tensor:
        """The part of a mask (…, matrices, units) that gates one weight, ready to multiply (…, out, in)."""
        part = mask[..., self.index(address), :]
        return part.unsqueeze(-1) if self.axis(address) == 0 else part.unsqueeze(-2)

    def per_unit(self, values: Mapping[str, Tensor]) -> Tensor:
        """Sum weight-shaped values over what each bit owns: (…, out, in) an address -> (…, matrices, units)."""
        parts = [values[a].sum(dim=-1 if self.axis(a) == 0 else -2) for a in self.addresses]
        return torch.stack(parts, dim=-2)
