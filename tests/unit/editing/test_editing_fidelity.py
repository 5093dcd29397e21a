"""The published procedure, written out plainly, and the editor that must agree with it.

Published: the whole model's state cloned and differentiated, the gradients of the six matrices multiplied by the mask,
torch's RMSprop on the dense matrices, and the stopping test before each update.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.editing import (
    BinaryMask,
    Editor,
    EditRequest,
    EditSettings,
    EditTrajectory,
    FullMask,
    MaskHypernetwork,
    RandomMask,
)
from workbench.editing.masks import kept_units
from workbench.models import logits_of, normalize

BLOCKS = (1, 2, 3)
#: At the published learning rate, small models come this far in so many steps.
SETTINGS = EditSettings.from_preset("published", stop_loss=1.0, max_steps=20, blocks=BLOCKS)


@dataclass
class Published:
    """What the published procedure leaves behind."""

    losses: list[float]
    succeeded: bool
    weights: dict[str, Tensor]


def published(
    model: nn.Module, mask: BinaryMask, images: Tensor, targets: Tensor, settings: EditSettings
) -> Published:
    edited = copy.deepcopy(model).requires_grad_(True)
    weights = mask.space.weights(edited)
    optimiser = torch.optim.RMSprop(weights.values(), lr=settings.learning_rate)
    losses: list[float] = []
    succeeded = False
    for step in range(settings.max_steps + 1):
        logits = edited(normalize(edited, images))
        loss = F.cross_entropy(logits, targets)
        losses.append(float(loss.detach()))
        succeeded = bool((logits.argmax(1) == targets).all()) and losses[-1] <= settings.stop_loss
        if succeeded or step == settings.max_steps:
            break
        edited.zero_grad()
        loss.backward()
        for address, weight in weights.items():
            assert weight.grad is not None
            weight.grad *= mask.space.gate(mask.bits, address)
        optimiser.step()
    return Published(losses, succeeded, {a: w.detach() for a, w in weights.items()})


def second_choice(model: nn.Module, images: Tensor) -> Tensor:
    return logits_of(model, images).topk(2).indices[:, 1]


def assert_same(found: EditTrajectory, wanted: Published, model: nn.Module, tolerance: float) -> None:
    assert found.steps == len(wanted.losses) - 1
    assert found.succeeded == wanted.succeeded
    torch.testing.assert_close(found.losses, torch.tensor(wanted.losses), rtol=0, atol=tolerance)
    whole = {**found.mask.space.weights(model), **found.edit.weights(model)}
    for address, weight in wanted.weights.items():
        torch.testing.assert_close(whole[address].detach(), weight, rtol=0, atol=tolerance)


@pytest.mark.parametrize("density", [0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_published_preset_is_the_published_procedure(
    make_vit: Callable[..., nn.Module],
    image_maker: Callable[..., Tensor],
    density: float,
    count: int,
    seed: int,
) -> None:
    model, images = make_vit(seed=seed), image_maker(count, seed=seed)
    where = FullMask() if density == 1 else RandomMask(1 - density, seed)
    targets = second_choice(model, images)
    found = Editor(model, where, SETTINGS).edit(EditRequest(images, targets.tolist()))
    assert found.steps > 0
    wanted = published(model, found.mask, images, targets, SETTINGS)
    assert_same(found, wanted, model, tolerance=1e-5)
    assert found.losses[-1] < found.losses[0]


@pytest.mark.parametrize("count", [1, 3])
def test_faster_presets_agree_up_to_rounding(
    make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor], count: int
) -> None:
    settings = EditSettings(stop_loss=1.0, max_steps=20, blocks=BLOCKS)
    for seed, density in ((1, 0.1), (2, 0.5), (1, 1.0)):
        model, images = make_vit(seed=seed), image_maker(count, seed=seed)
        targets = second_choice(model, images)
        where = FullMask() if density == 1 else RandomMask(1 - density, seed)
        found = Editor(model, where, settings).edit(EditRequest(images, targets.tolist()))
        assert_same(found, published(model, found.mask, images, targets, settings), model, tolerance=1e-5)


def test_steps_agree_where_some_edits_end_early(
    make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor]
) -> None:
    model, steps = make_vit(), []
    for image in image_maker(6):
        targets = second_choice(model, image[None])
        found = Editor(model, RandomMask(0.7), SETTINGS).edit(EditRequest(image, int(targets)))
        wanted = published(model, found.mask, image[None], targets, SETTINGS)
        assert (found.steps, found.succeeded) == (len(wanted.losses) - 1, wanted.succeeded)
        steps.append((found.steps, found.succeeded))
    assert len(set(steps)) > 2  # edits of several lengths
    assert {succeeded for _, succeeded in steps} == {True, False}


def test_with_a_learned_mask(vit: nn.Module, hypernetwork: MaskHypernetwork, images: Tensor) -> None:
    targets = second_choice(vit, images[:3])
    editor = Editor.learned(vit, hypernetwork, 0.8, "published", stop_loss=1.0, max_steps=5)
    found = editor.edit(EditRequest(images[:3], targets.tolist()))
    assert found.mask.count == kept_units(found.mask.space.size, 0.8) - 1  # as the published code keeps them
    assert_same(found, published(vit, found.mask, images[:3], targets, editor.settings), vit, tolerance=1e-5)


def test_which_presets_are_exact(vit: nn.Module) -> None:
    def exact(preset: str, exact: bool | None = None) -> bool:
        settings = EditSettings.from_preset(preset, blocks=BLOCKS)
        return Editor(vit, FullMask(), settings, exact=exact).exact

    assert exact("published")
    assert not exact("corrected")
    assert exact("corrected", True)
    assert not exact("published", False)
