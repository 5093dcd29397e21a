"""The hypernetwork as a thing to call, save and load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.checkpoints import Card, save_checkpoint
from workbench.editing import EditSpace, MaskHypernetwork, MaskNetwork
from workbench.errors import CheckpointError, InvalidInputError, UnknownNameError
from workbench.models import SplitViT, fingerprint, normalize


def card_of(hypernetwork: MaskHypernetwork) -> Card:
    return Card(
        "tiny", "hypernetwork", "a test", "workbench train", seed=0, settings={}, extra=hypernetwork.extra()
    )


@pytest.fixture
def file(hypernetwork: MaskHypernetwork, tmp_path: Path) -> Path:
    halves = {name: value.half() for name, value in hypernetwork.network.state_dict().items()}
    return save_checkpoint(tmp_path / "hypernetwork-tiny.safetensors", halves, card_of(hypernetwork))


def test_it_looks_at_the_class_token_of_the_unedited_model(
    vit: nn.Module, hypernetwork: MaskHypernetwork, images: Tensor
) -> None:
    with torch.no_grad():
        wanted = hypernetwork.network(vit.forward_features(normalize(vit, images))[:, 0])
    masks = hypernetwork(vit, images)
    torch.testing.assert_close(masks.values, wanted, rtol=1e-4, atol=1e-6)
    assert masks.space == hypernetwork.space
    assert masks.origin == "learned"
    assert not masks.values.requires_grad


def test_one_image_or_several_with_or_without_a_split(
    vit: nn.Module, hypernetwork: MaskHypernetwork, images: Tensor
) -> None:
    alone, several = hypernetwork(vit, images[2]), hypernetwork(vit, images)
    assert alone.values.shape == (1, 6, 192)
    torch.testing.assert_close(alone.values[0], several.values[2], rtol=1e-4, atol=1e-6)
    split = SplitViT(vit, 3, pooled_only=True)
    torch.testing.assert_close(hypernetwork(vit, images, split).values, several.values, rtol=1e-4, atol=1e-5)


def test_models_without_a_class_token_have_masks_too(
    make_vit: Callable[..., nn.Module], make_network: Callable[..., MaskNetwork], images: Tensor
) -> None:
    model = make_vit(global_pool="avg", class_token=False)
    space = EditSpace.of(model, (1, 2))
    hypernetwork = MaskHypernetwork(make_network(space), space)
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(normalize(model, images)), pre_logits=True)
        wanted = hypernetwork.network(pooled)
    torch.testing.assert_close(hypernetwork(model, images).values, wanted, rtol=1e-4, atol=1e-6)


def test_images_out_of_range_are_refused(vit: nn.Module, hypernetwork: MaskHypernetwork) -> None:
    with pytest.raises(InvalidInputError, match="divide by 255"):
        hypernetwork(vit, 255 * torch.rand(3, 32, 32))


def test_another_model_is_refused(
    vit: nn.Module, make_vit: Callable[..., nn.Module], hypernetwork: MaskHypernetwork, images: Tensor
) -> None:
    other = make_vit(seed=1)
    with pytest.raises(CheckpointError) as caught:
        hypernetwork(other, images)
    text = str(caught.value)
    assert f"trained on a model with fingerprint {fingerprint(vit)[:12]}…" in text
    assert f"the model given has {fingerprint(other)[:12]}…" in text
    assert "or train one: workbench train hypernetwork --model NAME" in text


def test_a_round_trip_in_half_precision(
    vit: nn.Module, hypernetwork: MaskHypernetwork, images: Tensor, file: Path
) -> None:
    loaded = MaskHypernetwork.load(file)
    assert loaded.space == hypernetwork.space
    assert loaded.base == fingerprint(vit)
    assert loaded.card is not None
    assert loaded.card.name == "tiny"
    assert not loaded.network.training
    assert all(p.dtype == torch.float32 for p in loaded.network.parameters())
    torch.testing.assert_close(
        loaded(vit, images).values, hypernetwork(vit, images).values, rtol=0, atol=5e-3
    )
    assert loaded.extra() == hypernetwork.extra()


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown hypernetwork 'no-such-thing'"):
        MaskHypernetwork.load("no-such-thing")


def test_a_truncated_file(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(
        CheckpointError, match=r"hypernetwork-tiny\.safetensors is not a complete safetensors file"
    ):
        MaskHypernetwork.load(file)


def test_a_checkpoint_of_another_kind(hypernetwork: MaskHypernetwork, tmp_path: Path) -> None:
    card = replace(card_of(hypernetwork), kind="classifier")
    path = save_checkpoint(tmp_path / "x.safetensors", hypernetwork.network.state_dict(), card)
    with pytest.raises(CheckpointError, match=r"x\.safetensors holds a classifier, not a hypernetwork"):
        MaskHypernetwork.load(path)


@pytest.mark.parametrize("change", [{"depth": 3}, {"units": 100}, {"blocks": [1, 2]}, {"width": 96}])
def test_weights_that_do_not_fit_their_card(
    hypernetwork: MaskHypernetwork, tmp_path: Path, change: dict[str, object]
) -> None:
    card = replace(card_of(hypernetwork), extra={**hypernetwork.extra(), **change})
    path = save_checkpoint(tmp_path / "x.safetensors", hypernetwork.network.state_dict(), card)
    with pytest.raises(CheckpointError, match=r"hypernetwork .*x\.safetensors does not fit its own card"):
        MaskHypernetwork.load(path)


def test_a_card_that_does_not_say_how_to_build_it(hypernetwork: MaskHypernetwork, tmp_path: Path) -> None:
    card = replace(card_of(hypernetwork), extra={"blocks": [1, 2, 3]})
    path = save_checkpoint(tmp_path / "x.safetensors", hypernetwork.network.state_dict(), card)
    with pytest.raises(CheckpointError, match=r"the card of hypernetwork .*x\.safetensors lacks 'units'"):
        MaskHypernetwork.load(path)


def test_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(
        InvalidInputError, match="6 heads do not divide the token width 64; choose another number"
    ):
        MaskNetwork(EditSpace((0,), 10, 64))
    assert MaskNetwork(EditSpace((0,), 10, 64), heads=8).num_heads == 8
