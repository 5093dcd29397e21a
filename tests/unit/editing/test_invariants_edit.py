"""Invariants 1 to 11 of the method's specification: what an edit may and may not change."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.editing import (
    BinaryMask,
    Editor,
    EditRequest,
    EditSettings,
    EditSpace,
    FullMask,
    GradientMask,
    LearnedMask,
    MaskHypernetwork,
    RandomMask,
    SoftMasks,
    Where,
    applied,
)
from workbench.editing.masks import kept_units
from workbench.models import SplitViT, fingerprint, logits_of, normalize

#: Both ways to compute an edit keep what holds of every edit.
both_ways = pytest.mark.parametrize("exact", [True, False])

BLOCKS = (1, 2, 3)
SETTINGS = EditSettings(learning_rate=1e-3, blocks=BLOCKS, max_steps=60)


@pytest.fixture(params=["learned", "random", "gradient", "full"])
def where(request: pytest.FixtureRequest, hypernetwork: MaskHypernetwork) -> Where:
    masks = {
        "learned": LearnedMask(hypernetwork, sparsity=0.8),
        "random": RandomMask(sparsity=0.8),
        "gradient": GradientMask(sparsity=0.8),
        "full": FullMask(),
    }
    return masks[request.param]


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def owned_by(mask: BinaryMask, address: str, weight: Tensor) -> Tensor:
    """True for the scalars that the mask lets change, of the weight's shape."""
    return mask.space.gate(mask.bits, address).expand_as(weight)


@both_ways
def test_inv01_everything_outside_the_mask_is_bit_identical(
    vit: nn.Module, where: Where, request_: EditRequest, exact: bool
) -> None:
    trajectory = Editor(vit, where, SETTINGS, exact).edit(request_)
    assert trajectory.succeeded
    before = state_of(vit)
    with applied(vit, trajectory.edit):
        after = state_of(vit)
    editable = {f"{a}.weight": a for a in trajectory.mask.space.addresses}
    for name in before:
        kept = torch.ones_like(before[name], dtype=torch.bool)
        if name in editable:
            kept = ~owned_by(trajectory.mask, editable[name], before[name])
        assert torch.equal(before[name][kept], after[name][kept]), name
    assert any(not torch.equal(before[name], after[name]) for name in editable)


@both_ways
def test_inv02_the_base_model_never_changes_and_editing_twice_gives_the_same(
    vit: nn.Module, where: Where, requests: list[EditRequest], exact: bool
) -> None:
    before, editor = fingerprint(vit), Editor(vit, where, SETTINGS, exact)
    first = editor.edit(requests[0])
    for request in requests[1:4]:
        editor.edit(request)
    again, anew = editor.edit(requests[0]), Editor(vit, where, SETTINGS, exact).edit(requests[0])
    assert fingerprint(vit) == before == first.edit.base
    assert all(parameter.grad is None for parameter in vit.parameters())
    for other in (again, anew):
        assert torch.equal(first.losses, other.losses)
        assert first.edit.changes.keys() == other.edit.changes.keys()
        for address, change in first.edit.changes.items():
            assert torch.equal(change.delta, other.edit.changes[address].delta)


def test_inv03_mask_count_is_exact(vit: nn.Module, space: EditSpace, request_: EditRequest) -> None:
    split = SplitViT(vit, BLOCKS[0])
    tokens, targets = split.prefix(request_.images[None]), torch.tensor([request_.target])
    values = torch.rand(1, *space.shape, generator=torch.Generator().manual_seed(0))
    for density in (0.75, 0.5, 0.25, 0.1, 0.05):
        k = int(round(density * 1000) * space.size // 1000)
        assert kept_units(space.size, 1 - density) == k
        for where in (RandomMask(1 - density), GradientMask(1 - density)):
            assert where.choose(split, space, tokens, targets).count == k
        for soft, published in ((values, k - 1), (torch.full_like(values, 0.5), 0)):
            masks = SoftMasks(soft, space)
            assert masks.binarize(1 - density).count == k
            assert masks.binarize(1 - density, topk="published").count == published


def test_inv03_no_sparsity_is_unmasked_fine_tuning(
    vit: nn.Module, hypernetwork: MaskHypernetwork, request_: EditRequest
) -> None:
    masked = Editor(vit, LearnedMask(hypernetwork, sparsity=0.0), SETTINGS).edit(request_)
    full = Editor(vit, FullMask(), SETTINGS).edit(request_)
    assert torch.equal(masked.losses, full.losses)
    for address, change in full.edit.changes.items():
        assert torch.equal(change.delta, masked.edit.changes[address].delta)


@both_ways
def test_inv04_an_empty_mask_changes_nothing_and_is_a_failure(
    vit: nn.Module, space: EditSpace, request_: EditRequest, exact: bool
) -> None:
    empty = BinaryMask(torch.zeros(space.shape, dtype=torch.bool), space)
    trajectory = Editor(vit, empty, SETTINGS, exact).edit(request_)
    assert not trajectory.succeeded
    assert trajectory.steps == 0
    assert trajectory.edit.changes == {}
    torch.testing.assert_close(
        trajectory.probabilities[0], logits_of(vit, request_.images[None]).softmax(1)[0]
    )
    assert "the mask is empty, so nothing may change" in trajectory.outcome()


def test_inv05_an_image_that_is_right_already_takes_no_step(
    vit: nn.Module, where: Where, images: Tensor, request_: EditRequest
) -> None:
    settings = EditSettings(learning_rate=1e-3, blocks=BLOCKS, stop_loss=5.0)  # sure enough at this loss
    right = EditRequest(images[0], int(logits_of(vit, images[:1]).argmax()))
    trajectory = Editor(vit, where, settings).edit(right)
    assert trajectory.succeeded
    assert (trajectory.steps, trajectory.edit.changes) == (0, {})
    wrong = Editor(vit, where, settings).edit(request_)  # a loss below the limit is not enough
    assert wrong.losses[0] < 5.0
    assert wrong.steps > 0


@pytest.mark.parametrize("max_steps", [1, 4, 30, 200])
def test_inv06_it_stops_at_the_limit_or_when_right_and_sure(
    vit: nn.Module, requests: list[EditRequest], max_steps: int
) -> None:
    settings = EditSettings(learning_rate=1e-3, blocks=BLOCKS, max_steps=max_steps)
    editor = Editor(vit, RandomMask(0.8), settings)
    for request in requests[:4]:
        trajectory = editor.edit(request)
        done = (trajectory.predictions[:, 0] == request.target) & (trajectory.losses <= settings.stop_loss)
        assert trajectory.steps <= max_steps
        assert trajectory.succeeded == bool(done[-1])
        assert not done[:-1].any()  # it stopped the first time
        assert trajectory.succeeded or trajectory.steps == max_steps


@both_ways
def test_inv07_the_first_update_is_ten_learning_rates_against_the_gradient(
    vit: nn.Module, space: EditSpace, request_: EditRequest, exact: bool
) -> None:
    settings = EditSettings(learning_rate=1e-3, blocks=BLOCKS, max_steps=1)
    edit = Editor(vit, FullMask(), settings, exact).edit(request_).edit
    gradients = gradients_of(vit, space, request_)
    for address, gradient in gradients.items():
        base = vit.get_parameter(f"{address}.weight").detach()
        change = edit.weights(vit)[address] - base
        large = gradient.abs() > 1e-4  # far above the 1e-7 that eps stands for
        assert large.double().mean() > 0.5
        torch.testing.assert_close(
            change[large], -10 * settings.learning_rate * gradient[large].sign(), rtol=1e-2, atol=1e-6
        )


def gradients_of(model: nn.Module, space: EditSpace, request: EditRequest) -> dict[str, Tensor]:
    """Of the cross-entropy, through the whole model."""
    weights = {f"{a}.weight": w.clone().requires_grad_(True) for a, w in space.weights(model).items()}
    logits = torch.func.functional_call(model, weights, normalize(model, request.images[None]))
    loss = F.cross_entropy(logits, torch.tensor([request.target]))
    return dict(zip(space.addresses, torch.autograd.grad(loss, list(weights.values())), strict=True))


@both_ways
def test_inv08_a_weight_without_gradient_stays_and_would_not_under_decay_or_momentum(
    vit: nn.Module, request_: EditRequest, exact: bool
) -> None:
    with torch.no_grad():  # unit 5 of block 2 is dead: no gradient reaches its incoming or outgoing weights
        vit.blocks[2].mlp.fc1.weight[5] = 0
        vit.blocks[2].mlp.fc1.bias[5] = 0
        vit.blocks[2].mlp.fc2.weight[:, 5] = 0
    settings = EditSettings(learning_rate=2e-4, blocks=BLOCKS)
    trajectory = Editor(vit, FullMask(), settings, exact).edit(request_)
    assert trajectory.steps > 5
    for matrix in ("fc1", "fc2"):
        assert 5 not in trajectory.edit.changes[f"blocks.2.mlp.{matrix}"].index
        assert 6 in trajectory.edit.changes[f"blocks.2.mlp.{matrix}"].index

    def moved(first_gradient: float, **options: float) -> bool:
        """Whether a step without gradient moves a weight under torch's RMSprop."""
        weight = torch.tensor([0.5], requires_grad=True)
        optimiser = torch.optim.RMSprop([weight], lr=1e-3, **options)
        weight.grad = torch.tensor([first_gradient])
        optimiser.step()
        before = weight.detach().clone()
        weight.grad = torch.zeros(1)
        optimiser.step()
        return not torch.equal(weight.detach(), before)

    assert not moved(0.0)
    assert not moved(1.0)
    assert moved(0.0, weight_decay=0.01)  # so the editor has neither: see EditSettings
    assert moved(1.0, momentum=0.9)
    assert not {"momentum", "weight_decay"} & set(EditSettings.__dataclass_fields__)


@both_ways
def test_inv09_changes_are_whole_rows_and_columns(
    vit: nn.Module, where: Where, request_: EditRequest, exact: bool
) -> None:
    trajectory = Editor(vit, where, SETTINGS, exact).edit(request_)
    space = trajectory.mask.space
    for address, change in trajectory.edit.changes.items():
        assert change.axis == space.axis(address)
        assert change.delta.shape == (len(change.index), space.width)
        assert set(change.index.tolist()) <= set(trajectory.mask.rows(address).tolist())
        assert torch.equal(change.index, change.index.unique())
        assert (change.delta != 0).all(dim=1).double().mean() > 0.9  # all of a row moves, not entries of it


def test_inv10_the_learned_mask_sees_neither_label_nor_edited_weights(
    vit: nn.Module, hypernetwork: MaskHypernetwork, images: Tensor, space: EditSpace
) -> None:
    editor = Editor(vit, LearnedMask(hypernetwork, sparsity=0.8), SETTINGS)
    masks = [editor.edit(EditRequest(images[0], target)).mask.bits for target in (1, 4, 6, 1)]
    assert all(torch.equal(mask, masks[0]) for mask in masks[1:])
    assert torch.equal(hypernetwork(vit, images[0]).binarize(0.8).bits, masks[0])  # the unedited model's


def test_inv10_masks_are_nested_in_any_order(
    vit: nn.Module, hypernetwork: MaskHypernetwork, space: EditSpace, request_: EditRequest
) -> None:
    split = SplitViT(vit, BLOCKS[0])
    tokens, targets = split.prefix(request_.images[None]), torch.tensor([request_.target])
    ways: list[Callable[[float], Where]] = [lambda s: LearnedMask(hypernetwork, s), RandomMask, GradientMask]
    for way in ways:
        sparsities = (0.5, 0.95, 0.0, 0.9, 0.25)
        bits = {s: way(s).choose(split, space, tokens, targets).bits for s in sparsities}
        again = {s: way(s).choose(split, space, tokens, targets).bits for s in reversed(sparsities)}
        assert all(torch.equal(bits[s], again[s]) for s in sparsities)
        ordered = [bits[s] for s in sorted(sparsities)]
        assert all(not (inner & ~outer).any() for outer, inner in itertools.pairwise(ordered))


@pytest.mark.parametrize("copies", [2, 3, 8])
def test_inv11_one_image_repeated_gives_its_own_mask(
    vit: nn.Module, hypernetwork: MaskHypernetwork, images: Tensor, copies: int
) -> None:
    for image in images[:4]:
        alone = hypernetwork(vit, image)
        together = hypernetwork(vit, image.expand(copies, -1, -1, -1))
        assert len(together) == copies
        for sparsity in (0.5, 0.9):
            assert torch.equal(together.binarize(sparsity).bits, alone.binarize(sparsity).bits)
