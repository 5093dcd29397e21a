"""Penalties and the clamp, against the procedures they come from written out on the whole model."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from workbench.editing import EditRequest, EditSpace, applied
from workbench.editing.editors import EDITORS, make_editor
from workbench.editing.editors.fine_tuning import PENALTIES
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError
from workbench.models import fingerprint, normalize

BLOCKS = (1, 2, 3)


def written_out(
    model: nn.Module, request: EditRequest, norm: str, strength: float, rate: float, steps: int
) -> tuple[dict[str, Tensor], list[float]]:
    """The published loop: changes of the whole weights, and the cross-entropy before each step and after the last.

    In double precision, so that the tiny first step is not rounded away and gives every weight a sign.
    """
    model, image = copy.deepcopy(model).double(), request.images[None].double()
    start = {a: w.clone() for a, w in EditSpace.of(model, BLOCKS).weights(model).items()}
    weights = {a: w.clone().requires_grad_(True) for a, w in start.items()}
    optimisers = [kind(list(weights.values()), lr=rate) for kind in (torch.optim.SGD, torch.optim.RMSprop)]
    losses = []
    for step in range(steps + 1):
        named = {f"{a}.weight": w for a, w in weights.items()}
        logits = functional_call(model, named, (normalize(model, image),))
        loss = F.cross_entropy(logits, torch.tensor([request.target]))
        losses.append(loss.item())
        if step == steps:
            break
        moved = [w - start[a] for a, w in weights.items()]
        penalty = sum(m.abs().sum() if norm == "l1" else 0.5 * m.square().sum() for m in moved)
        optimiser = optimisers[min(step, 1)]
        optimiser.zero_grad()
        (loss + strength * penalty).backward()
        optimiser.step()
    return {a: (w.detach() - start[a]).float() for a, w in weights.items()}, losses


def total(result: EditResult) -> float:
    """Euclidean length of the whole change."""
    return float(torch.cat([c.norms() for c in result.edit.changes.values()]).norm())


def dense(model: nn.Module, result: EditResult) -> dict[str, Tensor]:
    weights = result.edit.weights(model)
    return {a: w - model.get_parameter(f"{a}.weight") for a, w in weights.items()}


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("strength", [0.0, 0.02, 0.5])
def test_the_steps_are_the_published_ones(
    vit: nn.Module, request_: EditRequest, norm: str, strength: float
) -> None:
    rate, steps = 1e-4, 6
    editor = make_editor(
        f"ft-{norm}", vit, strength=strength, learning_rate=rate, max_steps=steps, blocks=BLOCKS
    )
    result = editor.edit(request_)
    wanted, losses = written_out(vit, request_, norm, strength, rate, steps)
    torch.testing.assert_close(result.losses, torch.tensor(losses), rtol=1e-4, atol=1e-5)
    found = dense(vit, result)
    assert found.keys() == wanted.keys()
    for address, change in wanted.items():
        assert change.abs().max() > 2 * rate
        apart = (found[address] - change).abs()  # a gradient near 0 may have another sign
        assert (apart > 2e-6).double().mean() < 1e-3
        assert apart.mean() < 1e-7


@pytest.mark.parametrize("name", ["ft-l1", "ft-l2"])
def test_the_first_step_is_plain_gradient_descent(vit: nn.Module, request_: EditRequest, name: str) -> None:
    slow, fast = (
        make_editor(name, vit, learning_rate=rate, max_steps=1, blocks=BLOCKS).edit(request_)
        for rate in (1e-3, 2e-3)
    )
    for address, change in slow.edit.changes.items():
        torch.testing.assert_close(2 * change.delta, fast.edit.changes[address].delta)
    assert 0 < total(slow) < 0.01  # RMSprop's would be ten rates a weight: 0.01 times the root of 55,296


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_without_penalty_it_is_fine_tuning_after_the_first_step(
    vit: nn.Module, request_: EditRequest, norm: str
) -> None:
    settings = {"learning_rate": 1e-4, "blocks": BLOCKS}
    first = make_editor(f"ft-{norm}", vit, strength=0, max_steps=1, **settings).edit(request_).edit
    both = make_editor(f"ft-{norm}", vit, strength=0, max_steps=8, **settings).edit(request_)
    with applied(vit, first):
        rest = make_editor("ft", vit, max_steps=7, **settings).edit(request_)
    torch.testing.assert_close(both.losses[1:], rest.losses, rtol=1e-4, atol=1e-5)
    together = first.compose(replace(rest.edit, base=fingerprint(vit))).weights(vit)
    for address, weight in both.edit.weights(vit).items():
        torch.testing.assert_close(weight, together[address], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("norm", "strengths"), [("l1", (0, 0.01, 0.1, 1)), ("l2", (0, 0.5, 5, 50))])
def test_a_larger_penalty_gives_a_smaller_change(
    vit: nn.Module, request_: EditRequest, norm: str, strengths: tuple[float, ...]
) -> None:
    sizes = []
    for strength in strengths:
        editor = make_editor(
            f"ft-{norm}",
            vit,
            strength=strength,
            learning_rate=1e-4,
            max_steps=40,
            stop_loss=1e-9,
            blocks=BLOCKS,
        )
        sizes.append(total(editor.edit(request_)))
    assert all(large > 1.1 * small for large, small in pairwise(sizes))


def test_the_stop_rule_looks_at_the_cross_entropy_alone(vit: nn.Module, request_: EditRequest) -> None:
    editor = make_editor("ft-l1", vit, strength=0.001, learning_rate=1e-3, blocks=BLOCKS)
    result = editor.edit(request_)
    assert result.succeeded
    penalty = 0.001 * sum(float(change.delta.abs().sum()) for change in result.edit.changes.values())
    assert result.losses[-1] <= 0.01 < penalty


@pytest.mark.parametrize("clamp", [1e-5, 3e-4, 0.01])
def test_no_weight_moves_further_than_the_clamp(vit: nn.Module, request_: EditRequest, clamp: float) -> None:
    result = make_editor("ft-linf", vit, clamp=clamp, learning_rate=5e-4, blocks=BLOCKS).edit(request_)
    limit = torch.tensor(clamp)
    farthest = [change.delta.abs().max() for change in result.edit.changes.values()]
    assert max(farthest) <= limit
    if clamp < 5e-4:
        assert max(farthest) == limit


def test_with_a_wide_clamp_it_is_adam(vit: nn.Module, request_: EditRequest) -> None:
    result = make_editor("ft-linf", vit, clamp=1.0, learning_rate=1e-3, max_steps=1, blocks=BLOCKS).edit(
        request_
    )
    steps = torch.cat([change.delta.flatten() for change in result.edit.changes.values()])
    assert (steps.abs() < 1.0001e-3).all()
    assert ((steps.abs() - 1e-3).abs() < 1e-5).double().mean() > 0.9


@pytest.mark.parametrize("name", ["ft-l1", "ft-l2", "ft-linf"])
def test_changes_are_rows_and_columns_of_the_chosen_blocks(
    vit: nn.Module, request_: EditRequest, name: str
) -> None:
    result = make_editor(name, vit, blocks=(3, 1), max_steps=2).edit(request_)
    assert sorted(result.edit.changes) == [f"blocks.{b}.mlp.{fc}" for b in (1, 3) for fc in ("fc1", "fc2")]
    for address, change in result.edit.changes.items():
        assert change.axis == (0 if address.endswith("fc1") else 1)
        assert change.delta.shape[1] == 48
    assert result.settings["editor"] == name
    assert result.settings["blocks"] == [1, 3]


def test_a_unit_that_cannot_move_is_left_out(vit: nn.Module, request_: EditRequest) -> None:
    with torch.no_grad():  # unit 5 of block 2 is dead: no gradient reaches its incoming or outgoing weights
        vit.blocks[2].mlp.fc1.weight[5] = 0
        vit.blocks[2].mlp.fc1.bias[5] = 0
        vit.blocks[2].mlp.fc2.weight[:, 5] = 0
    result = make_editor("ft-l2", vit, max_steps=3, blocks=BLOCKS).edit(request_)
    for matrix in ("fc1", "fc2"):
        index = result.edit.changes[f"blocks.2.mlp.{matrix}"].index
        assert 5 not in index
        assert 6 in index


def test_the_published_sweep_is_part_of_both() -> None:
    assert PENALTIES == (0.1, 0.05, 0.025, 0.01, 0.005, 0.001, 0)
    for name in ("ft-l1", "ft-l2"):
        strengths = [settings["strength"] for settings in EDITORS[name].sweep]
        assert strengths[-len(PENALTIES) :] == list(PENALTIES)
        assert strengths == sorted(strengths, reverse=True)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ft-l1", {"strength": -0.1}, "strength is -0.1; it must be a finite number, 0 or above"),
        ("ft-l2", {"strength": float("nan")}, "strength is nan; it must be a finite number, 0 or above"),
        ("ft-l2", {"stop_loss": 0}, "stop_loss is 0; it must be a finite number above 0"),
        ("ft-linf", {"clamp": 0}, "clamp is 0; it must be a finite number above 0"),
        (
            "ft-linf",
            {"learning_rate": float("inf")},
            "learning_rate is inf; it must be a finite number above 0",
        ),
        ("ft-linf", {"max_steps": 2.5}, "max_steps is 2.5; it must be a whole number, at least 1"),
    ],
)
def test_settings_out_of_range(vit: nn.Module, name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_editor(name, vit, blocks=BLOCKS, **settings)
    assert str(caught.value) == message
