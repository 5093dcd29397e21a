"""Knowledge neurons: attributions that add up, units found where they were planted, and turned as far as asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.editing import Change, EditRequest
from workbench.editing.editors._feed_forward import FeedForward, read_tokens
from workbench.editing.editors.knowledge_neurons import KnowledgeNeurons, attributions
from workbench.errors import InvalidInputError
from workbench.models import logits_of

UNIT = 17


def plant(model: nn.Module, image: Tensor, block: int, wrong: int, size: float = 30.0) -> None:
    """Make one unit of a block fire for `image` and write a class, loud enough to decide the prediction."""
    network = FeedForward(model, block)
    seen = network.inputs(network.tokens(image[None]))[0, 0]
    row = model.head.weight[wrong]
    with torch.no_grad():
        network.mlp.fc1.weight[UNIT] = seen / seen.square().sum()
        network.mlp.fc1.bias[UNIT] = 0
        network.mlp.fc2.weight[:, UNIT] = size * F.normalize(row - row.mean(), dim=0)


@pytest.fixture
def planted(vit: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor, int, int]:
    """A model, an image, the class it had, and the class that the planted unit makes of it."""
    before = logits_of(vit, images[:1])[0]
    right, wrong = int(before.argmax()), int(before.argmin())
    plant(vit, images[0], 3, wrong)
    return vit, images[0], right, wrong


@pytest.mark.parametrize("kind", [{}, {"class_token": False, "global_pool": "avg"}, {"init_values": 0.3}])
def test_attributions_add_up_to_what_the_units_do(
    make_vit: Callable[..., nn.Module], images: Tensor, kind: dict[str, object]
) -> None:
    model = make_vit(**kind)
    network, read = FeedForward(model, 2), read_tokens(model)
    classes = torch.tensor([1, 4])
    found = attributions(network, images[:2], classes, steps=300).sum(1)
    tokens = network.tokens(images[:2])
    hidden = network.hidden(tokens)
    still = hidden.clone()
    still[:, read] = 0
    with_units, without = (
        network.logits(tokens, network.mlp.fc2(h)).softmax(1).gather(1, classes[:, None])[:, 0]
        for h in (hidden, still)
    )
    torch.testing.assert_close(found, with_units - without, rtol=2e-3, atol=1e-5)


def test_one_image_does_not_depend_on_its_neighbours(vit: nn.Module, images: Tensor) -> None:
    network, classes = FeedForward(vit, 2), torch.tensor([1, 4, 0])
    together = attributions(network, images[:3], classes)
    alone = attributions(network, images[1:2], classes[1:2])
    torch.testing.assert_close(together[1:2], alone)


def test_a_planted_unit_is_found_and_turned(planted: tuple[nn.Module, Tensor, int, int]) -> None:
    model, image, right, wrong = planted
    result = KnowledgeNeurons(model, strength=1.0, count=1).edit(EditRequest(image, right))
    assert int(result.predictions[0, 0]) == wrong
    assert {a: c.index.tolist() for a, c in result.edit.changes.items()} == {"blocks.3.mlp.fc2": [UNIT]}
    assert int(result.predictions[1, 0]) == right
    assert (result.succeeded, result.steps) == (True, 1)


def test_the_threshold_alone_finds_it_too(planted: tuple[nn.Module, Tensor, int, int]) -> None:
    model, image, right, _ = planted
    changes = KnowledgeNeurons(model, threshold=0.9).edit(EditRequest(image, right)).edit.changes
    assert {a: c.index.tolist() for a, c in changes.items()} == {"blocks.3.mlp.fc2": [UNIT]}


def test_a_weak_edit_that_does_not_work_says_so(planted: tuple[nn.Module, Tensor, int, int]) -> None:
    model, image, right, _ = planted
    result = KnowledgeNeurons(model, strength=1e-4, count=1).edit(EditRequest(image, right))
    assert not result.succeeded
    assert result.edit.changes


@pytest.mark.parametrize("scale", [None, 0.5])
def test_what_a_unit_writes_moves_by_its_own_length(
    make_vit: Callable[..., nn.Module], images: Tensor, scale: float | None
) -> None:
    """Against the plain head rows pulled through the norm by hand, at the class token."""
    model = make_vit(init_values=scale)
    target = int(logits_of(model, images[:1]).topk(2).indices[0, 1])
    result = KnowledgeNeurons(model, strength=0.25, count=3).edit(EditRequest(images[0], target))
    wrong = int(result.predictions[0, 0])
    directions = [pulled_back(model, images[0], c) for c in (target, wrong)]
    wanted = F.normalize(directions[0], dim=0) - F.normalize(directions[1], dim=0)
    for address, change in result.edit.changes.items():
        assert isinstance(change, Change)
        block = model.blocks[int(address.split(".")[1])]
        gamma = torch.ones(48) if scale is None else block.ls2.gamma
        lengths = (block.mlp.fc2.weight[:, change.index].T * gamma).norm(dim=1, keepdim=True)
        torch.testing.assert_close(change.delta * gamma, 0.25 * lengths * wanted, rtol=1e-3, atol=1e-5)


def pulled_back(model: nn.Module, image: Tensor, wanted: int) -> Tensor:
    """Gradient of a logit at the class token before the final norm: the layer norm's derivative, written out."""
    network = FeedForward(model, -1)
    tokens = network.tokens(image[None])
    with torch.no_grad():
        last = model.blocks[-1]
        x = (tokens + last.ls2(network.mlp.fc2(network.hidden(tokens))))[0, 0]
    centred = x - x.mean()
    deviation = (centred.square().mean() + model.norm.eps).sqrt()
    row = model.norm.weight * model.head.weight[wanted]
    normed = centred / deviation
    return (row - row.mean() - normed * (row * normed).mean()) / deviation


def test_a_channel_that_the_layer_scale_shuts_is_left_alone(
    make_vit: Callable[..., nn.Module], images: Tensor
) -> None:
    model = make_vit(init_values=0.5)
    with torch.no_grad():
        for block in model.blocks:
            block.ls2.gamma[5] = 0
    changes = KnowledgeNeurons(model).edit(EditRequest(images[0], 2)).edit.changes
    assert changes
    for change in changes.values():
        assert isinstance(change, Change)
        assert torch.isfinite(change.delta).all()
        assert not change.delta[:, 5].any()


def test_a_lower_threshold_takes_more_of_the_same_units(vit: nn.Module) -> None:
    scores = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    few, more = (KnowledgeNeurons(vit, threshold=t).chosen(scores) for t in (0.6, 0.2))
    assert 1 <= few.sum() < more.sum()
    assert (more | ~few).all()
    assert scores[more].min() >= 0.2 * scores.max()


def test_units_that_speak_against_the_wrong_class_are_never_chosen(vit: nn.Module) -> None:
    assert not KnowledgeNeurons(vit).chosen(-torch.rand(5, 20)).any()
    scores = torch.tensor([[0.3, -0.2, 0.1, -0.5]])
    assert KnowledgeNeurons(vit, count=3).chosen(scores).tolist() == [[True, False, True, False]]
    assert KnowledgeNeurons(vit, count=99).chosen(scores).sum() == 2


def test_only_the_blocks_asked_for_are_looked_at(vit: nn.Module, request_: EditRequest) -> None:
    changes = KnowledgeNeurons(vit, blocks=(3, 1), threshold=0.01).edit(request_).edit.changes
    assert list(changes) == ["blocks.1.mlp.fc2", "blocks.3.mlp.fc2"]


def test_settings_out_of_range(vit: nn.Module) -> None:
    with pytest.raises(InvalidInputError, match=r"threshold is 1\.5; it must be above 0 and at most 1"):
        KnowledgeNeurons(vit, threshold=1.5)
    with pytest.raises(InvalidInputError, match="strength is 0; it must be a finite number above 0"):
        KnowledgeNeurons(vit, strength=0)
    with pytest.raises(InvalidInputError, match="count is 0; it must be a whole number, at least 1"):
        KnowledgeNeurons(vit, count=0)
