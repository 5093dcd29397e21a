"""T-Patcher: the unit fires where it should and nowhere else, and says so where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.editing import AppendedUnits, Edit, EditRequest
from workbench.editing.editors._feed_forward import FeedForward, read_tokens
from workbench.editing.editors.t_patcher import TPatcher
from workbench.errors import InvalidInputError
from workbench.models import SplitViT, logits_of

FC1, FC2 = "blocks.4.mlp.fc1", "blocks.4.mlp.fc2"

KINDS: list[dict[str, object]] = [{}, {"class_token": False, "global_pool": "avg"}, {"reg_tokens": 2}]


def unit_inputs(model: nn.Module, edit: Edit, images: Tensor) -> Tensor:
    """What goes into the new units at the tokens that the head reads, (images, tokens, units)."""
    change = edit.changes[FC1]
    assert isinstance(change, AppendedUnits)
    assert change.bias is not None
    network = FeedForward(model, -1)
    return F.linear(network.inputs(network.tokens(images))[:, read_tokens(model)], change.values, change.bias)


def edited_logits(model: nn.Module, edit: Edit, images: Tensor) -> Tensor:
    split = SplitViT(model, 4)
    with torch.no_grad():
        return split(images, edit.weights(model))


def request_for(model: nn.Module, image: Tensor) -> EditRequest:
    """The class that the model holds to be second most likely."""
    return EditRequest(image, int(logits_of(model, image[None])[0].topk(2).indices[1]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_unit_is_silent_on_the_memory_and_loud_on_its_image(
    make_vit: Callable[..., nn.Module], images: Tensor, kind: dict[str, object]
) -> None:
    model = make_vit(**kind)
    memory = images[1:]
    result = TPatcher(model, margin=0.8, memory=memory, stop_loss=0.5).edit(request_for(model, images[0]))
    assert result.succeeded
    assert (result.settings["memory"], result.settings["memory_firing"]) == (11, 0)
    assert unit_inputs(model, result.edit, images[:1]).amax() == pytest.approx(
        24, rel=1e-3
    )  # 0.8 to 0.2 of the way
    quiet = unit_inputs(model, result.edit, memory)
    assert quiet.amax() <= -6 + 1e-3
    assert not F.gelu(quiet).any()
    torch.testing.assert_close(edited_logits(model, result.edit, memory), logits_of(model, memory))
    assert result.edit.appends_units


def test_a_memory_image_as_far_along_the_key_is_counted(vit: nn.Module, images: Tensor) -> None:
    memory = torch.cat([images[:1], images[6:]])
    result = TPatcher(vit, memory=memory).edit(request_for(vit, images[0]))
    assert result.settings["memory_firing"] == 1
    assert int((unit_inputs(vit, result.edit, memory) > 0).sum()) == 1


def test_the_nearest_memory_image_is_where_silence_begins(vit: nn.Module, images: Tensor) -> None:
    edit = TPatcher(vit, margin=0.8, memory=images[4:]).edit(request_for(vit, images[0])).edit
    assert unit_inputs(vit, edit, images[4:]).amax() == pytest.approx(-6, abs=2e-3)


def test_a_memory_image_as_far_along_does_not_break_silence_on_the_others(
    vit: nn.Module, images: Tensor
) -> None:
    request, others = request_for(vit, images[0]), images[6:]
    edit = TPatcher(vit, margin=0.8, memory=torch.cat([images[:1], others])).edit(request).edit
    assert unit_inputs(vit, edit, others).amax() <= -6 + 2e-3


def test_without_a_memory_the_margin_says_how_far_it_reaches(vit: nn.Module, images: Tensor) -> None:
    network = FeedForward(vit, -1)
    seen = network.inputs(network.tokens(images))[:, 0]
    along = seen @ seen[0] / seen[0].square().sum()
    fired = []
    for margin in (0.2, 0.5, 0.9):
        edit = TPatcher(vit, margin=margin).edit(request_for(vit, images[0])).edit
        inputs = unit_inputs(vit, edit, images)[:, 0, 0]
        torch.testing.assert_close(inputs, 6 * (along - 1 + margin) / margin, rtol=1e-3, atol=1e-3)
        fired.append(inputs > 0)
    assert 1 <= fired[0].sum() < fired[-1].sum()
    assert all((wide | ~narrow).all() for narrow, wide in pairwise(fired))


def test_nothing_else_changes(vit: nn.Module, images: Tensor) -> None:
    edit = TPatcher(vit).edit(request_for(vit, images[0])).edit
    assert set(edit.changes) == {FC1, FC2}
    weights = edit.weights(vit)
    assert torch.equal(weights[FC1][:192], vit.get_parameter(f"{FC1}.weight"))
    assert torch.equal(weights[f"{FC1}.bias"][:192], vit.get_parameter(f"{FC1}.bias"))
    assert torch.equal(weights[FC2][:, :192], vit.get_parameter(f"{FC2}.weight"))
    assert weights[FC1].shape == (193, 48)
    assert weights[FC2].shape == (48, 193)


def test_each_image_gets_a_unit_of_its_own(vit: nn.Module, images: Tensor) -> None:
    second = logits_of(vit, images[:3]).topk(2).indices[:, 1].tolist()
    result = TPatcher(vit, margin=0.5, memory=images[5:]).edit(EditRequest(images[:3], second))
    assert result.succeeded
    assert result.edit.changes[FC1].index.tolist() == [192, 193, 194]
    own = unit_inputs(vit, result.edit, images[:3])[:, 0]
    torch.testing.assert_close(own.diagonal(), torch.full((3,), 6.0), rtol=2e-3, atol=1e-3)
    assert unit_inputs(vit, result.edit, images[5:]).amax() < -5.99


def test_it_gives_up_after_its_steps(vit: nn.Module, images: Tensor) -> None:
    result = TPatcher(vit, max_steps=2, learning_rate=1e-6).edit(request_for(vit, images[0]))
    assert (result.succeeded, result.steps) == (False, 2)


def test_models_where_no_unit_can_be_appended(make_vit: Callable[..., nn.Module]) -> None:
    with pytest.raises(InvalidInputError, match="this model normalises the hidden units"):
        TPatcher(make_vit(scale_mlp_norm=True))
    with pytest.raises(InvalidInputError, match="have no biases, so a new unit cannot be kept silent"):
        TPatcher(make_vit(proj_bias=False))


def test_settings_out_of_range(vit: nn.Module, images: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="margin is 1; it must be above 0 and below 1"):
        TPatcher(vit, margin=1)
    with pytest.raises(InvalidInputError):
        TPatcher(vit, memory=images + 3)
