"""Search, for each pseudo-failure, the mask under which a few gradient steps repair it best.

The mask gates how much of a dense update is applied: W = φ + m ⊙ D. An inner loop of plain gradient steps makes D;
an outer loop moves the mask's logits θ (m = σ(10 θ)) to lower the loss plus a price per unit. All samples of a batch
run together, each with its own weights. Source: specification, sections 3.3 and 10.

Three things differ from the published code and change nothing but cost or stability: gradients are taken at W, not
at D and then divided by m (which underflows); the first inner gradient, taken at φ, is the same in every outer step
and computed once; and the price is per sample, so that it does not depend on the batch size. So samples do not see
each other, and a batch may be searched in groups as large as memory allows (`samples_within`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.editing.space import EditSpace
from workbench.errors import InvalidInputError

Inner = Literal["first_order", "full"]
Stacked = dict[str, Tensor]

#: Loss of each sample under its own weights: {address: (batch, out, in)} -> (batch,).
SampleLosses = Callable[[Mapping[str, Tensor]], Tensor]

#: Slopes of the sigmoids: of the search, and of the label that the hypernetwork learns.
SEARCH_SLOPE, LABEL_SLOPE = 10.0, 3.0


@dataclass(frozen=True)
class SearchSettings:
    """How masks are searched.

    Args:
        inner_steps: Gradient steps on the weights (published: 5).
        inner_rate: Their learning rate (1e-3).
        outer_steps: RMSprop steps on the mask logits (10).
        outer_rate: Their learning rate (0.1).
        price: λ per sample on the mean of the mask (published: 1 for a batch of 8, that is 1/8).
        inner: ``"first_order"`` treats D as a constant; ``"full"`` differentiates through the inner steps.
    """

    inner_steps: int = 5
    inner_rate: float = 1e-3
    outer_steps: int = 10
    outer_rate: float = 0.1
    price: float = 1 / 8
    inner: Inner = "first_order"

    def __post_init__(self) -> None:
        for name in ("inner_steps", "outer_steps"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.inner not in ("first_order", "full"):
            raise InvalidInputError(f"inner {self.inner!r} is neither 'first_order' nor 'full'")


@dataclass(frozen=True)
class SearchResult:
    """Labels for the hypernetwork, and what the search saw.

    Args:
        labels: σ(3 θ), soft, (batch, matrices, units).
        losses: Loss of each sample after the inner steps, at each outer step, (outer steps, batch).
    """

    labels: Float[Tensor, "batch matrices units"]
    losses: Float[Tensor, "steps batch"]


def search_masks(
    losses: SampleLosses,
    base: Mapping[str, Tensor],
    space: EditSpace,
    start: Float[Tensor, "batch matrices units"],
    settings: SearchSettings,
) -> SearchResult:
    """Search one mask a sample.

    Args:
        losses: Loss of each sample given one weight a sample.
        base: The unedited weights φ, (out, in) an address; never changed.
        space: The editable matrices.
        start: Initial logits θ (published: uniform in [−1, 1]).
        settings: See `SearchSettings`.
    """
    theta, square = start.clone(), torch.zeros_like(start)
    first_order = settings.inner == "first_order"
    first = sample_gradients(losses, _stack(base, len(start)))[0] if first_order else None
    buffers = None if first is None else _Buffers.like(first)
    seen = []
    for _ in range(settings.outer_steps):
        mask = torch.sigmoid(SEARCH_SLOPE * theta)
        gradient, after = meta_gradient(losses, base, space, mask, settings, first, buffers)
        gradient = gradient + settings.price / space.size
        # RMSprop as in torch.optim (alpha 0.99, eps 1e-8), on dL/dθ.
        slope = gradient * SEARCH_SLOPE * mask * (1 - mask)
        square.mul_(0.99).addcmul_(slope, slope, value=0.01)
        theta = theta - settings.outer_rate * slope / (square.sqrt() + 1e-8)
        seen.append(after)
    return SearchResult(torch.sigmoid(LABEL_SLOPE * theta), torch.stack(seen))


def samples_within(memory: int, base: Mapping[str, Tensor]) -> int:
    """How many samples may be searched together for their weights to fit into `memory` bytes; at least one.

    A sample has four tensors of the size of `base`: its weights, their gradient, the update, and the first gradient.
    """
    return max(1, memory // (4 * sum(w.nbytes for w in base.values())))


@dataclass(frozen=True)
class _Buffers:
    """Memory that every inner step writes to again: new memory of this size costs more than what is done in it."""

    update: Stacked
    weights: Stacked

    @classmethod
    def like(cls, stacked: Stacked) -> _Buffers:
        return cls(*({a: torch.empty_like(w) for a, w in stacked.items()} for _ in range(2)))


def meta_gradient(
    losses: SampleLosses,
    base: Mapping[str, Tensor],
    space: EditSpace,
    mask: Float[Tensor, "batch matrices units"],
    settings: SearchSettings,
    first: Stacked | None = None,
    buffers: _Buffers | None = None,
) -> tuple[Float[Tensor, "batch matrices units"], Float[Tensor, " batch"]]:
    """Gradient of each sample's loss after the inner steps with respect to its mask, and that loss.

    Args:
        losses: As for `search_masks`, like `base`, `space` and `settings`.
        base: The unedited weights.
        space: The editable matrices.
        mask: Each sample's mask.
        settings: See `SearchSettings`.
        first: The gradient at the unedited weights, where it is known already (first order only).
        buffers: Memory to use again (first order only).
    """
    if settings.inner == "full":
        return _full_meta_gradient(losses, base, space, mask, settings)
    first = sample_gradients(losses, _stack(base, len(mask)))[0] if first is None else first
    buffers = _Buffers.like(first) if buffers is None else buffers
    update = _inner_updates(losses, base, space, mask, settings, first, buffers)
    at_end, after = sample_gradients(losses, edited_weights(base, space, mask, update, buffers.weights))
    return space.per_unit({a: at_end[a].mul_(update[a]) for a in base}), after


def edited_weights(
    base: Mapping[str, Tensor],
    space: EditSpace,
    mask: Tensor,
    update: Mapping[str, Tensor],
    out: Stacked | None = None,
) -> Stacked:
    """W = φ + m ⊙ D for each sample, (batch, out, in) an address; written to `out` where it is given."""
    return {
        a: torch.addcmul(phi.detach(), space.gate(mask, a), update[a], out=None if out is None else out[a])
        for a, phi in base.items()
    }


def sample_gradients(
    losses: SampleLosses, weights: Mapping[str, Tensor]
) -> tuple[Stacked, Float[Tensor, " batch"]]:
    """Gradient of each sample's loss with respect to its own weights, and the losses."""
    leaves = {a: w.detach().requires_grad_(True) for a, w in weights.items()}
    values = losses(leaves)
    gradients = torch.autograd.grad(values.sum(), list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True)), values.detach()


def _inner_updates(
    losses: SampleLosses,
    base: Mapping[str, Tensor],
    space: EditSpace,
    mask: Tensor,
    settings: SearchSettings,
    first: Stacked,
    buffers: _Buffers,
) -> Stacked:
    """D after the inner steps; every step is dense, the mask only gates where the next gradient is taken."""
    update = {a: torch.mul(first[a], -settings.inner_rate, out=buffers.update[a]) for a in base}
    for _ in range(settings.inner_steps - 1):
        gradients, _ = sample_gradients(losses, edited_weights(base, space, mask, update, buffers.weights))
        for a in base:
            update[a].sub_(gradients.pop(a), alpha=settings.inner_rate)
    return update


def _full_meta_gradient(
    losses: SampleLosses, base: Mapping[str, Tensor], space: EditSpace, mask: Tensor, settings: SearchSettings
) -> tuple[Tensor, Tensor]:
    """The exact derivative, through every inner step (memory grows with their number)."""
    mask = mask.detach().requires_grad_(True)
    update = {a: torch.zeros_like(w) for a, w in _stack(base, len(mask)).items()}
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        for _ in range(settings.inner_steps):
            weights = edited_weights(base, space, mask, update)
            gradients = torch.autograd.grad(losses(weights).sum(), list(weights.values()), create_graph=True)
            update = {a: update[a] - settings.inner_rate * g for a, g in zip(weights, gradients, strict=True)}
        after = losses(edited_weights(base, space, mask, update))
    return torch.autograd.grad(after.sum(), mask)[0], after.detach()


def _stack(base: Mapping[str, Tensor], batch: int) -> Stacked:
    """One view of the weights a sample; nothing is copied."""
    return {a: w.detach().expand(batch, *w.shape) for a, w in base.items()}
