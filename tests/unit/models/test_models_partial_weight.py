"""Weights of which only some rows or columns are trained, against the dense computation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from workbench.models.partial_weight import PartialWeight

OUT, IN = 12, 9


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(seed: int) -> tuple[Tensor, Tensor]:
    generator = seeded(seed)
    return torch.randn(OUT, IN, generator=generator), torch.randn(OUT, generator=generator)


@st.composite
def selections(draw: st.DrawFn) -> tuple[int, Tensor]:
    """An axis, and some of its positions, increasing."""
    axis = draw(st.sampled_from([0, 1]))
    chosen = draw(st.sets(st.integers(0, (OUT if axis == 0 else IN) - 1), min_size=1))
    return axis, torch.tensor(sorted(chosen))


@given(selection=selections(), batch=st.sampled_from([(), (5,), (2, 5)]), seed=st.integers(0, 9))
def test_it_multiplies_as_the_whole_weight_and_has_the_dense_gradients_of_its_part(
    selection: tuple[int, Tensor], batch: tuple[int, ...], seed: int
) -> None:
    (axis, index), (weight, bias) = selection, layer(seed)
    x = torch.randn(*batch, IN, generator=seeded(seed + 10)).requires_grad_()
    dense = weight.clone().requires_grad_()
    part = PartialWeight(weight, axis, index)
    found, wanted = part.linear(x, bias), F.linear(x, dense, bias)
    assert torch.equal(found, wanted)
    upstream = torch.randn(*batch, OUT, generator=seeded(seed + 20))
    of_part, of_x = torch.autograd.grad(found, (part.trained, x), upstream)
    of_dense, of_same_x = torch.autograd.grad(wanted, (dense, x), upstream)
    selected = of_dense.index_select(axis, index)
    torch.testing.assert_close(of_part, selected if axis == 0 else selected.T)
    torch.testing.assert_close(of_x, of_same_x)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_change_of_the_part_is_in_the_whole_after_a_refresh(axis: int) -> None:
    weight, _ = layer(0)
    before, index = weight.clone(), torch.tensor([1, 4])
    part = PartialWeight(weight, axis, index)
    with torch.no_grad():
        part.trained += torch.arange(1.0, 3.0)[:, None]
    assert torch.equal(part.whole, before)
    part.refresh()
    wanted = before.clone()
    for position, added in ((1, 1.0), (4, 2.0)):
        wanted.select(axis, position).add_(added)
    assert torch.equal(part.whole, wanted)
    assert torch.equal(part.slices, wanted.index_select(axis, index))
    assert torch.equal(part.linear(torch.eye(IN), None), wanted.T)
    assert torch.equal(weight, before)  # it was a copy


@pytest.mark.parametrize("axis", [0, 1])
def test_only_the_part_costs_anything(axis: int) -> None:
    """Multiplications of the backward pass: those of the part, and of the input where it asks for a gradient."""
    tokens, k = 5, 3
    weight, bias = layer(0)
    part = PartialWeight(weight, axis, torch.tensor([0, 2, 7]))
    of_part = 2 * tokens * k * (IN if axis == 0 else OUT)
    for asks in (False, True):
        x = torch.randn(tokens, IN, generator=seeded()).requires_grad_(asks)
        total = part.linear(x, bias).sum()
        with FlopCounterMode(display=False) as counter:
            total.backward(inputs=[part.trained, x] if asks else [part.trained])
        assert counter.get_total_flops() == of_part + (2 * tokens * IN * OUT if asks else 0)
        part.trained.grad = None


def test_of_an_input_only_the_columns_are_kept_for_the_backward_pass() -> None:
    weight, bias = layer(0)
    part = PartialWeight(weight, 1, torch.tensor([2, 3]))
    x = torch.randn(5, IN, generator=seeded()).requires_grad_()
    kept: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(tuple(t.shape)), t)[1], lambda t: t):
        part.linear(x, bias)
    assert (5, 2) in kept
    assert (5, IN) not in kept


@pytest.mark.parametrize("axis", [0, 1])
def test_nothing_selected_is_the_plain_product_without_a_gradient(axis: int) -> None:
    weight, bias = layer(0)
    part = PartialWeight(weight, axis, torch.tensor([], dtype=torch.long))
    x = torch.randn(5, IN, generator=seeded()).requires_grad_()
    assert not part.trained.requires_grad
    found = part.linear(x, bias)
    assert torch.equal(found, F.linear(x, weight, bias))
    (of_x,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(of_x, weight.sum(0).expand(5, IN))
    part.refresh()
    assert torch.equal(part.whole, weight)
    assert not part.linear(x.detach(), bias).requires_grad
