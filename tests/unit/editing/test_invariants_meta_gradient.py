"""Invariants 16 to 22 of the method's specification: the search for masks, in double precision on a toy.

The toy has one block: a feed-forward network of six hidden units on tokens of width four, with a residual path and a
head of three classes. Every sample has its own token and its own target, and its loss takes its own weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.editing import EditSpace, MetaTrainingSettings, SoftMasks
from workbench.editing.losses import distillation
from workbench.editing.mask_search import (
    SearchSettings,
    _Buffers,
    edited_weights,
    meta_gradient,
    sample_gradients,
    samples_within,
    search_masks,
)
from workbench.editing.meta_training import MetaTraining
from workbench.errors import InvalidInputError
from workbench.models import SplitViT

SPACE = EditSpace(blocks=(0,), units=6, width=4)
FC1, FC2 = SPACE.addresses
BATCH = 3

Losses = Callable[[Mapping[str, Tensor]], Tensor]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BASE = {FC1: 0.5 * normal(6, 4, seed=1), FC2: 0.5 * normal(4, 6, seed=2)}
HEAD = normal(3, 4, seed=3)


def forward(tokens: Tensor, fc1: Tensor, fc2: Tensor) -> Tensor:
    """(samples, 4) under one weight a sample, (samples, out, in)."""
    hidden = F.gelu(torch.einsum("bud,bd->bu", fc1, tokens))
    return (tokens + torch.einsum("bdu,bu->bd", fc2, hidden)) @ HEAD.T


def toy(batch: int = BATCH) -> Losses:
    """Losses of `batch` samples; the first of a larger batch are those of a smaller one."""
    mixed, host = normal(64, 4, seed=4)[:batch], normal(64, 4, seed=5)[:batch]
    clean = forward(host, BASE[FC1].expand(batch, 6, 4), BASE[FC2].expand(batch, 4, 6))
    return lambda weights: distillation(clean, forward(mixed, weights[FC1], weights[FC2]))


def one_of(losses: Losses, sample: int, batch: int = BATCH) -> Losses:
    """The loss of one sample alone."""

    def alone(weights: Mapping[str, Tensor]) -> Tensor:
        return losses({a: w.expand(batch, *w.shape[1:]) for a, w in weights.items()})[sample : sample + 1]

    return alone


def random_mask(batch: int = BATCH, seed: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.05 + 0.9 * torch.rand(64, *SPACE.shape, generator=generator, dtype=torch.float64)[:batch]


def start_of(batch: int = BATCH) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return 2 * torch.rand(64, *SPACE.shape, generator=generator, dtype=torch.float64)[:batch] - 1


def after_inner_steps(losses: Losses, mask: Tensor, settings: SearchSettings) -> Tensor:
    """The inner loop as the specification words it: a step on D, with the gradient taken at W = phi + m * D."""
    stacked = {a: w.expand(len(mask), *w.shape) for a, w in BASE.items()}
    delta = {a: torch.zeros_like(w) for a, w in stacked.items()}
    for _ in range(settings.inner_steps):
        weights = {a: (stacked[a] + SPACE.gate(mask, a) * delta[a]).requires_grad_(True) for a in BASE}
        found = torch.autograd.grad(losses(weights).sum(), list(weights.values()))
        delta = {a: delta[a] - settings.inner_rate * g for a, g in zip(BASE, found, strict=True)}
    return losses({a: stacked[a] + SPACE.gate(mask, a) * delta[a] for a in BASE}).detach()


def finite_differences(losses: Losses, mask: Tensor, settings: SearchSettings, step: float = 1e-4) -> Tensor:
    """Central differences of every sample's final loss in every one of its mask's entries."""
    gradient = torch.zeros_like(mask)
    for matrix in range(SPACE.shape[0]):
        for unit in range(SPACE.units):
            moved = []
            for sign in (1, -1):
                shifted = mask.clone()
                shifted[:, matrix, unit] += sign * step  # samples do not see each other: move all at once
                moved.append(after_inner_steps(losses, shifted, settings))
            gradient[:, matrix, unit] = (moved[0] - moved[1]) / (2 * step)
    return gradient


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_inv16_with_one_inner_step_first_order_is_exact() -> None:
    for rate in (1e-3, 0.1):
        settings = SearchSettings(inner_steps=1, inner_rate=rate)
        found, _ = meta_gradient(toy(), BASE, SPACE, random_mask(), settings)
        wanted = finite_differences(toy(), random_mask(), settings)
        assert wanted.norm() > 0
        assert relative_error(found, wanted) < 1e-5


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("rate", [1e-3, 0.02])
def test_inv17_the_full_gradient_equals_finite_differences(steps: int, rate: float) -> None:
    settings = SearchSettings(inner_steps=steps, inner_rate=rate, inner="full")
    found, after = meta_gradient(toy(), BASE, SPACE, random_mask(), settings)
    assert relative_error(found, finite_differences(toy(), random_mask(), settings)) < 1e-5
    torch.testing.assert_close(
        after, after_inner_steps(toy(), random_mask(), settings), rtol=1e-12, atol=1e-12
    )


def test_inv17_first_order_is_close_at_the_published_rate_and_not_at_a_large_one() -> None:
    def error(rate: float) -> float:
        settings = SearchSettings(inner_steps=5, inner_rate=rate)
        first_order, _ = meta_gradient(toy(), BASE, SPACE, random_mask(), settings)
        full, _ = meta_gradient(toy(), BASE, SPACE, random_mask(), replace(settings, inner="full"))
        return relative_error(first_order, full)

    assert 0 < error(1e-3) < 0.05
    assert error(0.02) > 2 * error(1e-3)  # an approximation, not the same thing under two names


@pytest.mark.parametrize("inner", ["first_order", "full"])
def test_inv18_a_full_mask_is_plain_gradient_descent(inner: str) -> None:
    settings = SearchSettings(inner_steps=4, inner_rate=1e-2, inner=inner)
    losses = toy()
    _, after = meta_gradient(losses, BASE, SPACE, torch.ones_like(random_mask()), settings)
    for sample in range(BATCH):
        weights = {a: w.clone()[None].requires_grad_(True) for a, w in BASE.items()}
        optimiser = torch.optim.SGD(weights.values(), lr=1e-2)
        for _ in range(4):
            optimiser.zero_grad()
            one_of(losses, sample)(weights).sum().backward()
            optimiser.step()
        torch.testing.assert_close(
            after[sample], one_of(losses, sample)(weights)[0].detach(), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("inner", ["first_order", "full"])
def test_inv18_an_empty_mask_is_the_base_model(inner: str) -> None:
    settings = SearchSettings(inner_steps=4, inner_rate=1e-2, inner=inner)
    nothing = torch.zeros_like(random_mask())
    _, after = meta_gradient(toy(), BASE, SPACE, nothing, settings)
    base = {a: w.expand(BATCH, *w.shape) for a, w in BASE.items()}
    assert torch.equal(after, toy()(base))
    update = {a: normal(BATCH, *w.shape, seed=8) for a, w in BASE.items()}
    assert all(torch.equal(w, base[a]) for a, w in edited_weights(BASE, SPACE, nothing, update).items())


def test_inv19_dividing_by_the_mask_is_the_same_as_taking_the_gradient_at_the_weights() -> None:
    """The published form: the gradient in D is dL/dW * m, then divided by m."""
    settings, mask, losses = SearchSettings(inner_steps=5, inner_rate=1e-2), random_mask(), toy()
    gates = {a: SPACE.gate(mask, a) for a in BASE}
    delta = {a: torch.zeros(BATCH, *w.shape, dtype=torch.float64) for a, w in BASE.items()}
    for _ in range(settings.inner_steps):
        delta = {a: d.requires_grad_(True) for a, d in delta.items()}
        value = losses({a: BASE[a] + gates[a] * delta[a] for a in BASE}).sum()
        found = torch.autograd.grad(value, list(delta.values()))
        delta = {
            a: (delta[a] - settings.inner_rate * g / gates[a]).detach()
            for a, g in zip(BASE, found, strict=True)
        }
    leaf = mask.clone().requires_grad_(True)
    after = losses({a: BASE[a] + SPACE.gate(leaf, a) * delta[a] for a in BASE})
    (wanted,) = torch.autograd.grad(after.sum(), leaf)
    gradient, mine = meta_gradient(losses, BASE, SPACE, mask, settings)
    torch.testing.assert_close(mine, after.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-9)


def published_search(losses: Losses, start: Tensor, settings: SearchSettings, total_price: float) -> Tensor:
    """The published outer loop: one objective for the batch, the price on the mean over all of it, torch's RMSprop."""
    theta = start.clone().requires_grad_(True)
    optimiser = torch.optim.RMSprop([theta], lr=settings.outer_rate)
    for _ in range(settings.outer_steps):
        mask = torch.sigmoid(10 * theta)
        update = {a: torch.zeros(len(start), *w.shape, dtype=start.dtype) for a, w in BASE.items()}
        for _ in range(settings.inner_steps):
            found, _ = sample_gradients(losses, edited_weights(BASE, SPACE, mask.detach(), update))
            update = {a: update[a] - settings.inner_rate * found[a] for a in BASE}
        total = losses(edited_weights(BASE, SPACE, mask, update)).sum() + total_price * mask.abs().mean()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return torch.sigmoid(3 * theta.detach())


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_inv20_the_search_is_the_published_one_with_the_price_per_sample(batch: int) -> None:
    settings = SearchSettings(inner_rate=1e-2, price=0.3)
    found = search_masks(toy(batch), BASE, SPACE, start_of(batch), settings)
    wanted = published_search(toy(batch), start_of(batch), settings, total_price=0.3 * batch)
    torch.testing.assert_close(found.labels, wanted, rtol=0, atol=1e-9)
    assert found.labels.std() > 0.1  # some units are wanted, some are not


def test_inv20_a_large_price_closes_every_unit_and_none_leaves_the_sign_of_the_loss() -> None:
    start = start_of()
    closed = search_masks(toy(), BASE, SPACE, start, SearchSettings(inner_rate=1e-2, price=1e6)).labels
    assert closed.max() < 0.1
    free = SearchSettings(inner_rate=1e-2, price=0.0, outer_steps=1)
    labels = search_masks(toy(), BASE, SPACE, start, free).labels
    gradient, _ = meta_gradient(toy(), BASE, SPACE, torch.sigmoid(10 * start), free)
    opened = labels > torch.sigmoid(3 * start)
    assert torch.equal(opened, gradient < 0)
    assert 0 < opened.double().mean() < 1


def test_inv20_doubling_batch_and_total_price_leaves_each_samples_labels() -> None:
    settings = SearchSettings(inner_rate=1e-2, price=0.3)
    small = search_masks(toy(4), BASE, SPACE, start_of(4), settings).labels
    large = search_masks(toy(8), BASE, SPACE, start_of(8), settings).labels
    torch.testing.assert_close(large[:4], small, rtol=0, atol=1e-12)
    published = published_search(toy(8), start_of(8), settings, total_price=2 * 4 * 0.3)
    torch.testing.assert_close(published[:4], small, rtol=0, atol=1e-9)
    unscaled = published_search(toy(8), start_of(8), settings, total_price=4 * 0.3)
    assert (unscaled[:4] - small).abs().max() > 0.01  # so a total price would depend on the batch


def test_searching_a_batch_is_searching_one_by_one() -> None:
    for inner in ("first_order", "full"):
        settings = SearchSettings(inner_rate=1e-2, inner=inner)
        together = search_masks(toy(), BASE, SPACE, start_of(), settings)
        for i in range(BATCH):
            alone = search_masks(one_of(toy(), i), BASE, SPACE, start_of()[i : i + 1], settings)
            torch.testing.assert_close(together.labels[i], alone.labels[0], rtol=0, atol=1e-10)
            torch.testing.assert_close(together.losses[:, i], alone.losses[:, 0], rtol=0, atol=1e-10)


def test_the_first_gradient_may_be_computed_once() -> None:
    settings, losses = SearchSettings(inner_rate=1e-2, outer_steps=4), toy()
    first, _ = sample_gradients(losses, {a: w.expand(BATCH, *w.shape) for a, w in BASE.items()})
    kept = {a: g.clone() for a, g in first.items()}
    reused = meta_gradient(losses, BASE, SPACE, random_mask(), settings, first)
    computed = meta_gradient(losses, BASE, SPACE, random_mask(), settings)
    assert torch.equal(reused[0], computed[0])
    assert torch.equal(reused[1], computed[1])
    assert all(torch.equal(first[a], kept[a]) for a in first)  # or the next outer step would start elsewhere
    labels = search_masks(losses, BASE, SPACE, start_of(), settings).labels
    torch.testing.assert_close(
        labels, published_search(losses, start_of(), settings, BATCH * settings.price), rtol=0, atol=1e-9
    )


def test_memory_is_used_again_and_nothing_leaks_from_step_to_step() -> None:
    """Buffers hold what the last step left; a step that starts from there is the step that starts afresh."""
    losses, base = toy(), BASE
    first, _ = sample_gradients(losses, {a: w.expand(BATCH, *w.shape) for a, w in BASE.items()})
    for settings in (SearchSettings(inner_rate=1e-2), SearchSettings(inner_steps=1)):
        buffers = _Buffers.like(first)
        for tensor in (*buffers.update.values(), *buffers.weights.values()):
            tensor.fill_(torch.nan)
        for seed in (6, 7):
            reused = meta_gradient(losses, base, SPACE, random_mask(seed=seed), settings, first, buffers)
            fresh = meta_gradient(losses, base, SPACE, random_mask(seed=seed), settings)
            assert torch.equal(reused[0], fresh[0])
            assert torch.equal(reused[1], fresh[1])


def test_how_many_samples_fit() -> None:
    size = 4 * sum(w.nbytes for w in BASE.values())
    assert [samples_within(m, BASE) for m in (0, size - 1, size, 3 * size + 1)] == [1, 1, 1, 3]


def test_searching_lowers_the_loss_where_units_are_free() -> None:
    settings = SearchSettings(inner_rate=2e-2, price=0.0)
    found = search_masks(toy(8), BASE, SPACE, start_of(8), settings)
    assert found.losses.shape == (10, 8)
    base = toy(8)({a: w.expand(8, *w.shape) for a, w in BASE.items()})
    assert (found.losses[-1] < base).all()
    assert found.losses[-1].mean() < found.losses[0].mean()


def test_inv21_no_gradient_reaches_the_base_weights() -> None:
    base = {a: w.clone().requires_grad_(True) for a, w in BASE.items()}
    before = {a: w.detach().clone() for a, w in base.items()}
    for inner in ("first_order", "full"):
        found = search_masks(toy(), base, SPACE, start_of(), SearchSettings(inner=inner))
        assert not found.labels.requires_grad
        assert not found.losses.requires_grad
    assert all(w.grad is None for w in base.values())
    assert all(torch.equal(w.detach(), before[a]) for a, w in base.items())


def test_inv21_only_the_cross_entropy_trains_the_network(
    vit: nn.Module, image_maker: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    vit.requires_grad_(True)  # a careless caller
    settings = MetaTrainingSettings(pairs=2, blocks=(1, 2), depth=1, pooled_only=False)
    run = MetaTraining(vit, lambda i: image_maker(4, seed=i), settings)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    monkeypatch.setattr(run, "_fit", lambda *_: None)  # everything but the steps of cross-entropy
    run.step(0)
    assert all(p.grad is None for p in vit.parameters())
    assert all(p.grad is None for p in run.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in run.network.state_dict().items())
    monkeypatch.undo()
    run.step(0)
    assert all(p.grad is None for p in vit.parameters())
    assert not torch.equal(run.network.tokens, before["tokens"])


def test_inv22_binary_masks_carry_no_gradient() -> None:
    """No straight-through binariser is offered: what is learned is soft, what is binary is a choice of units."""
    found = search_masks(toy(), BASE, SPACE, start_of(), SearchSettings())
    assert 0 < found.labels.min() < found.labels.max() < 1
    soft = random_mask().requires_grad_(True)
    bits = SoftMasks(soft, SPACE).binarize(0.5).bits
    assert bits.dtype == torch.bool
    assert not bits.requires_grad


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"inner_steps": 0}, "inner_steps is 0; it must be at least 1"),
        ({"outer_steps": 0}, "outer_steps is 0; it must be at least 1"),
        ({"inner": "second_order"}, "inner 'second_order' is neither 'first_order' nor 'full'"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        SearchSettings(**settings)


def test_inv17_on_a_real_transformer(vit: nn.Module, image_maker: Callable[..., Tensor]) -> None:
    """Second derivatives pass through attention, and first order is close to them."""
    space = EditSpace.of(vit, (2, 3))
    split = SplitViT(vit, 2)
    images = image_maker(4)
    clean, tokens = split(images[:2]), split.prefix(images[2:])
    mask = torch.rand(2, *space.shape, generator=torch.Generator().manual_seed(0))
    settings = SearchSettings(inner_steps=2, inner_rate=1e-4)
    found = {
        inner: meta_gradient(
            lambda weights: distillation(clean, split.tail(tokens, weights)),
            space.weights(vit),
            space,
            mask,
            replace(settings, inner=inner),
        )[0]
        for inner in ("first_order", "full")
    }
    assert 0 < relative_error(found["first_order"], found["full"]) < 0.05
