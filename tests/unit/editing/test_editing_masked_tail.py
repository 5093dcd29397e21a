"""The trained tail in its two ways, against the plain tail with dense gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from workbench.editing import BinaryMask, EditSpace, RandomMask
from workbench.editing.masked_tail import MaskedTail
from workbench.models import SplitViT, fingerprint
from workbench.models.split import reads_prefix_tokens_only

BLOCKS = (1, 2, 3)
CLASSES = 7
TARGETS = torch.tensor([2, 5, 5])

#: Models and edited blocks; the fast way must notice where it may leave nothing out.
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "plain": ({}, BLOCKS),
    "one block": ({}, (2,)),
    "from the first block": ({}, (0, 3)),
    "up to the last block": ({}, (3, 4)),
    "the last block alone": ({}, (4,)),
    "registers": ({"reg_tokens": 2}, BLOCKS),
    "layer scale": ({"init_values": 0.7}, BLOCKS),
    "no biases": ({"qkv_bias": False, "proj_bias": False}, BLOCKS),
    "a norm over the hidden units": ({"scale_mlp_norm": True}, BLOCKS),
    "average of the patches": ({"global_pool": "avg", "class_token": False}, BLOCKS),
    "the last block, average": ({"global_pool": "avg", "class_token": False}, (4,)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, make_vit: Callable[..., nn.Module]) -> tuple[nn.Module, EditSpace]:
    changes, blocks = CASES[request.param]
    model = make_vit(**changes)
    return model, EditSpace.of(model, blocks)


def random_mask(space: EditSpace, density: float, seed: int = 0) -> BinaryMask:
    bits = torch.rand(space.shape, generator=torch.Generator().manual_seed(seed)) < density
    return BinaryMask(bits, space)


def split_for(model: nn.Module, space: EditSpace, exact: bool) -> SplitViT:
    return SplitViT(model, space.blocks[0], pooled_only=not exact and reads_prefix_tokens_only(model))


def move(tail: MaskedTail, seed: int = 0) -> None:
    """A random step of all trained parts."""
    generator = torch.Generator().manual_seed(seed)
    for part in tail.parts.values():
        with torch.no_grad():
            part.trained += 0.05 * torch.randn(part.trained.shape, generator=generator)
        part.refresh()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
def test_logits_and_gradients_are_those_of_the_dense_tail(
    case: tuple[nn.Module, EditSpace], images: Tensor, exact: bool, density: float
) -> None:
    model, space = case
    mask, tokens = random_mask(space, density), SplitViT(model, space.blocks[0]).prefix(images[:3])
    plain, tail = (
        SplitViT(model, space.blocks[0]),
        MaskedTail(split_for(model, space, exact), tokens, mask, exact),
    )
    for seed in range(2):
        leaves = {
            a: w.detach().requires_grad_() for a, w in {**space.weights(model), **tail.weights()}.items()
        }
        wanted, found = plain.tail(tokens, leaves), tail.logits()
        if exact:
            assert torch.equal(found, wanted)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-5)
        dense = torch.autograd.grad(F.cross_entropy(wanted, TARGETS), list(leaves.values()))
        own = torch.autograd.grad(F.cross_entropy(found, TARGETS), [p.trained for p in tail.parts.values()])
        of = dict(zip(leaves, dense, strict=True))
        assert set(tail.parts) == {a for a in space.addresses if len(mask.rows(a))}
        for address, gradient in zip(tail.parts, own, strict=True):
            selected = of[address].index_select(space.axis(address), mask.rows(address))
            selected = selected if space.axis(address) == 0 else selected.T
            torch.testing.assert_close(gradient, selected, rtol=1e-3, atol=1e-6)
        move(tail, seed)
    assert (tail.logits() - wanted).abs().max() > 0.01  # the moves were seen


@pytest.mark.parametrize("exact", [True, False])
def test_what_it_says_of_the_changes(vit: nn.Module, images: Tensor, exact: bool) -> None:
    space, before = EditSpace.of(vit, BLOCKS), fingerprint(vit)
    mask, split = random_mask(space, 0.2), split_for(vit, space, exact)
    tail = MaskedTail(split, split.prefix(images[:3]), mask, exact)
    assert tail.changes() == {}
    assert tail.norms().sum() == 0
    move(tail)
    still = ("blocks.2.mlp.fc2", int(mask.rows("blocks.2.mlp.fc2")[1]))
    with torch.no_grad():  # one unit goes back to where it was
        tail.parts[still[0]].trained[1] = vit.get_parameter(f"{still[0]}.weight")[:, still[1]]
    moved = mask.bits.clone()
    moved[space.index(still[0]), still[1]] = False
    norms, changes, weights = tail.norms(), tail.changes(), tail.weights()
    assert torch.equal(norms > 0, moved)
    for address, change in changes.items():
        assert torch.equal(change.index, moved[space.index(address)].nonzero().flatten())
        assert change.axis == space.axis(address)
        base = vit.get_parameter(f"{address}.weight").detach()
        torch.testing.assert_close(change.added_to(base), weights[address], rtol=0, atol=1e-6)
        torch.testing.assert_close(norms[space.index(address), change.index], change.norms())
    assert fingerprint(vit) == before


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("selected", [[], [0], [1], [2, 5], [4]], ids=str)
def test_matrices_without_a_selected_unit(
    vit: nn.Module, images: Tensor, exact: bool, selected: list[int]
) -> None:
    """Matrices of the space by number; the first two are those of the first block."""
    space = EditSpace.of(vit, BLOCKS)
    bits = torch.zeros(space.shape, dtype=torch.bool)
    bits[selected, 7:20] = True
    split = split_for(vit, space, exact)
    tokens = split.prefix(images[:3])
    tail = MaskedTail(split, tokens, BinaryMask(bits, space), exact)
    assert set(tail.parts) == set(tail.weights()) == {space.addresses[i] for i in selected}
    move(tail)
    plain = SplitViT(vit, BLOCKS[0]).tail(tokens, {**space.weights(vit), **tail.weights()})
    torch.testing.assert_close(tail.logits(), plain, rtol=1e-5, atol=2e-5)
    assert tail.logits().requires_grad == bool(selected)


def step_flops(tail: MaskedTail) -> int:
    """Multiplications and additions of one forward and backward pass."""
    with FlopCounterMode(display=False) as counter:
        loss = F.cross_entropy(tail.logits(), TARGETS)
        torch.autograd.grad(loss, [part.trained for part in tail.parts.values()])
    return int(counter.get_total_flops())


def test_a_step_costs_what_the_selected_units_need(
    make_vit: Callable[..., nn.Module], images: Tensor
) -> None:
    """FLOPs by hand. Attention is left unfused, so that its products are counted as such."""
    vit, batch, n, width, hidden = make_vit(), 3, 17, 48, 192
    for block in vit.blocks:
        block.attn.fused_attn = False
    space = EditSpace.of(vit, (2,))
    bits = torch.zeros(space.shape, dtype=torch.bool)
    bits[0, :10] = bits[1, 4:16] = True  # ten rows, twelve columns, sixteen units
    mask, tokens = BinaryMask(bits, space), SplitViT(vit, 2).prefix(images[:batch])

    def layer(inputs: int, outputs: int, tokens: int = n) -> int:
        return 2 * tokens * inputs * outputs

    trained = layer(width, 10) + layer(width, 12)
    head = 2 * layer(width, CLASSES, tokens=1)  # forward, and back to its input
    products = 2 * layer(n, width)  # queries with keys, weights with values
    attention = 8 * layer(width, width) + 3 * products
    later_block = attention + 4 * layer(width, hidden)
    # Of the first block's network: forward, back to the hidden units, gradients of the selection.
    exact = 3 * layer(width, hidden) + trained + 2 * later_block + head
    assert step_flops(MaskedTail(SplitViT(vit, 2), tokens, mask, exact=True)) == batch * exact

    # In the last block keys and values of all tokens, and the rest for the class token alone.
    of_class_token = 2 * 2 * layer(width, width, tokens=1) + 4 * layer(width, hidden, tokens=1)
    last_block = 4 * layer(width, width) + of_class_token
    fast = 3 * layer(width, 16) + trained + later_block + last_block + head
    found = step_flops(MaskedTail(SplitViT(vit, 2, pooled_only=True), tokens, mask)) - batch * fast
    assert 0 <= found <= batch * 8 * layer(width, 1)  # the class token's attention, fused or not


def test_frozen_or_not_the_models_own_parameters_get_no_gradient(vit: nn.Module, images: Tensor) -> None:
    space = EditSpace.of(vit, BLOCKS)
    split = SplitViT(vit, BLOCKS[0], pooled_only=True)
    tokens, mask = split.prefix(images[:3]), RandomMask(0.9).choose(split, space, images, TARGETS)
    frozen = step_flops(MaskedTail(split, tokens, mask))
    vit.requires_grad_(True)
    assert step_flops(MaskedTail(split, tokens, mask)) == frozen
    assert all(parameter.grad is None for parameter in vit.parameters())
