"""The editable matrices: order, addresses, and which weights one bit owns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from workbench.editing import EditSpace
from workbench.errors import InvalidInputError, UnknownNameError


def test_sizes_come_from_the_model(make_vit: Callable[..., nn.Module]) -> None:
    space = EditSpace.of(make_vit(embed_dim=36, num_heads=3, mlp_ratio=2.5, depth=4), (3, 1, 1))
    assert space == EditSpace(blocks=(1, 3), units=90, width=36)
    assert space.shape == (4, 90)
    assert space.size == 360


def test_addresses_are_in_the_order_of_named_parameters(vit: nn.Module, space: EditSpace) -> None:
    mine = [f"{address}.weight" for address in space.addresses]
    assert mine == [name for name, _ in vit.named_parameters() if name in set(mine)]
    assert space.addresses[:3] == ("blocks.1.mlp.fc1", "blocks.1.mlp.fc2", "blocks.2.mlp.fc1")
    assert [space.index(address) for address in space.addresses] == list(range(6))


def test_weights_are_the_models_own(vit: nn.Module, space: EditSpace) -> None:
    weights = space.weights(vit)
    assert weights["blocks.2.mlp.fc2"] is vit.blocks[2].mlp.fc2.weight
    assert list(weights) == list(space.addresses)


def test_a_bit_gates_a_row_of_fc1_and_a_column_of_fc2(vit: nn.Module, space: EditSpace) -> None:
    for address, weight in space.weights(vit).items():
        mask = torch.zeros(space.shape)
        mask[space.index(address), 5] = 1
        gated = space.gate(mask, address) * torch.ones_like(weight)
        wanted = torch.zeros_like(weight)
        if space.axis(address) == 0:
            wanted[5] = 1
        else:
            wanted[:, 5] = 1
        assert torch.equal(gated, wanted)
        others = [a for a in space.addresses if a != address]
        assert all(space.gate(mask, other).sum() == 0 for other in others)


def test_gating_and_summing_per_unit_are_adjoint(vit: nn.Module, space: EditSpace) -> None:
    """sum over units of mask * per_unit(v) = sum over weights of gate(mask) * v, one a sample."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(4, *space.shape, generator=generator)
    values = {a: torch.randn(4, *w.shape, generator=generator) for a, w in space.weights(vit).items()}
    left = (mask * space.per_unit(values)).sum((1, 2))
    right = torch.stack([(space.gate(mask, a) * v).sum((1, 2)) for a, v in values.items()]).sum(0)
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("blocks", [(), (5,), (-1, 2), (3, 4, 5)])
def test_blocks_the_model_does_not_have(vit: nn.Module, blocks: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"must be one or more of 0\.\.4 \(the model has 5\)"):
        EditSpace.of(vit, blocks)


def test_the_default_blocks_need_a_deep_enough_model(vit: nn.Module) -> None:
    with pytest.raises(InvalidInputError, match=r"blocks \(7, 8, 9\) must be"):
        EditSpace.of(vit)


def test_an_unknown_address_names_the_nearest(space: EditSpace) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown address 'blocks\.1\.mlp\.fc3'; did you mean 'blocks\.1\.mlp\.fc"
    ):
        space.index("blocks.1.mlp.fc3")
