"""The published way to edit, to evaluate an edit and to search masks: what speed is measured against.

Written plainly, in our own words, after the specification (sections 3.3, 4, 8 and 9). What it says about cost is kept
on purpose: the full model at batch 1, its whole state cloned with a gradient for every parameter, dense optimiser
state, and the original model run again over all images for every edit that is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from workbench.models import normalize

#: All parameters of a model by name.
State = dict[str, Tensor]

#: What multiplies the gradient or the change of some of the weights, by parameter name: (out, 1) or (1, in).
Gates = Mapping[str, Tensor]

_TEMPERATURE = 5.0


@dataclass(frozen=True)
class Edited:
    """A model's whole state after an edit, and the number of updates made."""

    state: State
    steps: int


def edit(
    model: nn.Module,
    image: Tensor,
    target: Tensor,
    mask: Gates,
    learning_rate: float = 2e-5,
    max_steps: int = 100,
    stop_loss: float = 0.01,
) -> Edited:
    """Fine-tune the masked weights until the image (1, 3, H, W) is predicted as wanted with a small loss.

    The test comes before each update, and none after the last one.
    """
    state = _copy(model, requires_grad=True)
    optimiser = torch.optim.RMSprop([state[name] for name in mask], lr=learning_rate)
    for step in range(max_steps):
        logits = functional_call(model, state, (normalize(model, image),))
        loss = F.cross_entropy(logits, target)
        if bool((logits.argmax(1) == target).all()) and float(loss.detach()) <= stop_loss:
            return Edited(state, step)
        for parameter in state.values():
            parameter.grad = None
        loss.backward()
        for name, gate in mask.items():
            gradient = state[name].grad
            assert gradient is not None
            gradient.mul_(gate)
        optimiser.step()
    return Edited(state, max_steps)


def evaluate(model: nn.Module, state: State, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Predictions after an edit and before it, both by the full model over all images, in batches of 64."""
    original: State = {**dict(model.named_parameters())}
    after, before = [], []
    with torch.no_grad():
        for batch in batches:
            x = normalize(model, batch)
            after.append(functional_call(model, state, (x,)).argmax(1))
            before.append(functional_call(model, original, (x,)).argmax(1))
    return torch.cat(after), torch.cat(before)


def search_labels(
    model: Any,
    hosts: Tensor,
    mixed: Tensor,
    start: Tensor,
    names: tuple[str, ...],
    inner_steps: int = 5,
    outer_steps: int = 10,
    price: float = 1.0,
    inner_rate: float = 1e-3,
    outer_rate: float = 0.1,
) -> Tensor:
    """Soft labels for a batch of pseudo-failures: one meta-training iteration without the hypernetwork's own steps.

    Args:
        model: The base classifier.
        hosts: Clean images, (pairs, 3, H, W).
        mixed: The same with patches of other images pasted in.
        start: Initial mask logits, (pairs, matrices, units).
        names: Parameters that masks gate, in the masks' order: rows where the name has ``fc1``, else columns.
        inner_steps: Gradient steps on the weights.
        outer_steps: RMSprop steps on the mask logits.
        price: On the mean of all masks of the batch.
        inner_rate: Learning rate of the inner steps.
        outer_rate: That of the outer ones.
    """
    with torch.no_grad():
        clean = model(normalize(model, hosts))
        model.forward_features(normalize(model, mixed))  # the hypernetwork's input
    theta = start.clone().requires_grad_(True)
    optimiser = torch.optim.RMSprop([theta], lr=outer_rate)
    for _ in range(outer_steps):
        masks = torch.sigmoid(10 * theta)
        total = price * masks.abs().mean()
        for mask, image, wanted in zip(masks, mixed, clean, strict=True):
            gates = {name: _gate(row, name) for name, row in zip(names, mask, strict=True)}
            total = total + _after_inner_steps(
                model, gates, image[None], wanted[None], inner_steps, inner_rate
            )
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return torch.sigmoid(3 * theta.detach())


def _after_inner_steps(
    model: nn.Module, gates: Gates, image: Tensor, clean: Tensor, steps: int, rate: float
) -> Tensor:
    """Loss of one sample after its inner steps; its gradient reaches the gates through the last gating alone."""
    base = _copy(model, requires_grad=False)
    delta = {name: torch.zeros_like(p, requires_grad=True) for name, p in base.items()}
    constant = {name: gate.detach() for name, gate in gates.items()}
    for _ in range(steps):
        loss = _distillation(model, _interpolated(base, delta, constant), image, clean)
        found = torch.autograd.grad(loss, list(delta.values()), allow_unused=True)
        for (name, change), gradient in zip(delta.items(), found, strict=True):
            if name in gates and gradient is not None:
                delta[name] = (change - rate * gradient / constant[name]).detach().requires_grad_(True)
    settled = {name: change.detach() for name, change in delta.items()}
    return _distillation(model, _interpolated(base, settled, gates), image, clean)


def _interpolated(base: State, delta: State, gates: Gates) -> State:
    """Every parameter anew: the base plus its change, gated where there is a gate."""
    return {
        name: p + (delta[name] * gates[name] if name in gates else delta[name]) for name, p in base.items()
    }


def _distillation(model: nn.Module, state: State, image: Tensor, clean: Tensor) -> Tensor:
    logits = functional_call(model, state, (normalize(model, image),))
    found, target = (F.log_softmax(values / _TEMPERATURE, dim=1) for values in (logits, clean))
    return _TEMPERATURE**2 * F.kl_div(found, target, reduction="batchmean", log_target=True)


def _gate(mask: Tensor, name: str) -> Tensor:
    return mask[:, None] if "fc1" in name else mask[None, :]


def _copy(model: nn.Module, requires_grad: bool) -> dict[str, Tensor]:
    return {name: p.detach().clone().requires_grad_(requires_grad) for name, p in model.named_parameters()}
