"""The frozen prefix and the editable tail, against the model's own forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from workbench.errors import InvalidInputError
from workbench.models import SplitViT, logits_of, normalize
from workbench.models.partial_weight import PartialWeight

#: Variants of the small model: nothing may count on one class token, square images or class-token pooling.
VARIANTS = {
    "plain": {},
    "registers": {"reg_tokens": 2},
    "registers outside the positions": {"reg_tokens": 2, "no_embed_class": True},
    "layer scale": {"init_values": 0.7},
    "query and key norms": {"qk_norm": True},
    "no biases": {"qkv_bias": False, "proj_bias": False},
    "scaled norms": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "norm before the blocks": {"pre_norm": True},
    "another shape": {"embed_dim": 36, "num_heads": 3, "depth": 4, "mlp_ratio": 2.5, "patch_size": 4},
    "not square": {"img_size": (32, 48)},
    "average of the patches": {"global_pool": "avg", "class_token": False},
    "average beside a class token": {"global_pool": "avg"},
    "attention pooling": {"global_pool": "map", "class_token": False},
}
MATRICES = ("fc1", "fc2")


def full_logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(normalize(model, images))


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest, make_vit: Callable[..., nn.Module]) -> nn.Module:
    return make_vit(**VARIANTS[request.param])


@pytest.fixture
def variant_images(variant: nn.Module, image_maker: Callable[..., Tensor]) -> Tensor:
    return image_maker(5, *variant.patch_embed.img_size)


@pytest.mark.parametrize("entry", ["attention", "mlp"])
def test_tail_of_prefix_is_the_full_forward_bit_for_bit(
    variant: nn.Module, variant_images: Tensor, entry: str
) -> None:
    wanted = full_logits(variant, variant_images)
    for first_block in range(len(variant.blocks)):
        split = SplitViT(variant, first_block, entry=entry)
        assert torch.equal(split.tail(split.prefix(variant_images)), wanted), first_block


def test_other_image_sizes_of_a_model_that_takes_them(
    make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor]
) -> None:
    model = make_vit(dynamic_img_size=True, reg_tokens=2)
    for height, width in ((32, 48), (48, 32), (16, 64)):
        images = image_maker(3, height, width)
        split = SplitViT(model, 2)
        tokens = split.prefix(images)
        assert tokens.shape == (3, 3 + height // 8 * (width // 8), 48)
        assert torch.equal(split.tail(tokens), full_logits(model, images))


def test_models_without_fused_attention(vit: nn.Module, images: Tensor) -> None:
    for block in vit.blocks:
        block.attn.fused_attn = False
    split = SplitViT(vit, 3)
    assert torch.equal(split(images), full_logits(vit, images))


def test_calling_it_is_prefix_then_tail(vit: nn.Module, images: Tensor) -> None:
    split = SplitViT(vit, 1)
    weights = {"blocks.2.mlp.fc1": vit.blocks[2].mlp.fc1.weight * 1.5}
    assert torch.equal(split(images, weights), split.tail(split.prefix(images), weights))
    assert torch.equal(torch.cat(list(split.prefix_batches(images, 5))), split.prefix(images))


@pytest.mark.parametrize("name", [n for n, c in VARIANTS.items() if "global_pool" not in c])
@pytest.mark.parametrize("entry", ["attention", "mlp"])
def test_pooled_only_is_the_full_forward_up_to_rounding(
    make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor], name: str, entry: str
) -> None:
    model = make_vit(**VARIANTS[name])
    images = image_maker(5, *model.patch_embed.img_size)
    for first_block in range(len(model.blocks)):
        split = SplitViT(model, first_block, entry=entry, pooled_only=True)
        torch.testing.assert_close(split(images), full_logits(model, images), atol=1e-5, rtol=1e-5)


def test_pooled_only_leaves_out_the_patches_of_the_last_block(vit: nn.Module, images: Tensor) -> None:
    split = SplitViT(vit, 1, pooled_only=True)
    assert split.tail_tokens(split.prefix(images)).shape == (12, 1, 48)
    registers = SplitViT(vit, 1).tail_tokens(split.prefix(images))
    assert registers.shape == (12, 17, 48)


def test_pooled_only_of_the_last_feed_forward_network_alone(vit: nn.Module, images: Tensor) -> None:
    split = SplitViT(vit, 4, entry="mlp", pooled_only=True)
    assert split.tail_tokens(split.prefix(images)).shape == (12, 1, 48)


@pytest.mark.parametrize("changes", [{"gated": True}, {"attn_head_dim": 16}], ids=str)
def test_other_attention_is_computed_alike_in_every_way(
    vit: nn.Module, images: Tensor, changes: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(4)
    for block in vit.blocks:
        block.attn = Attention(48, 4, qkv_bias=True, **changes).eval().requires_grad_(False)
        for parameter in block.attn.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    wanted = full_logits(vit, images)
    for way in ({}, {"pooled_only": True}, {"plain_attention": True}):
        torch.testing.assert_close(SplitViT(vit, 2, **way)(images), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("entry", ["attention", "mlp"])
def test_plain_attention_is_the_full_forward_up_to_rounding(
    variant: nn.Module, variant_images: Tensor, entry: str
) -> None:
    split = SplitViT(variant, 2, entry=entry, plain_attention=True)
    found, wanted = split(variant_images), full_logits(variant, variant_images)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_plain_attention_with_replaced_weights(vit: nn.Module, images: Tensor) -> None:
    weights = {
        "blocks.2.attn.qkv": 1.1 * vit.blocks[2].attn.qkv.weight,
        "blocks.2.attn.qkv.bias": 0.9 * vit.blocks[2].attn.qkv.bias,
        "blocks.3.attn.proj": -vit.blocks[3].attn.proj.weight,
        "blocks.3.attn.proj.bias": 2 * vit.blocks[3].attn.proj.bias,
    }
    plain, own = (SplitViT(vit, 2, "attention", plain_attention=p) for p in (True, False))
    tokens = own.prefix(images)
    torch.testing.assert_close(plain.tail(tokens, weights), own.tail(tokens, weights), atol=1e-5, rtol=1e-5)
    assert (own.tail(tokens, weights) - own.tail(tokens)).abs().amax(1).min() > 0.05


def test_pooled_only_refuses_a_head_that_reads_patches(make_vit: Callable[..., nn.Module]) -> None:
    for name in ("average of the patches", "average beside a class token", "attention pooling"):
        model = make_vit(**VARIANTS[name])
        with pytest.raises(InvalidInputError, match=r"this model pools '(avg|map)': leave pooled_only=False"):
            SplitViT(model, 1, pooled_only=True)


@pytest.mark.parametrize("pooled_only", [False, True])
def test_one_weight_an_image_equals_one_image_at_a_time(
    vit: nn.Module, images: Tensor, pooled_only: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    split = SplitViT(vit, 1, pooled_only=pooled_only)
    tokens = split.prefix(images)
    stacked = {
        f"blocks.{b}.mlp.{m}": w + 0.2 * torch.randn(len(images), *w.shape, generator=generator)
        for b in (1, 3, 4)
        for m in MATRICES
        for w in [vit.get_parameter(f"blocks.{b}.mlp.{m}.weight")]
    }
    together = split.tail(tokens, stacked)
    for i in range(len(images)):
        alone = split.tail(tokens[i : i + 1], {a: w[i] for a, w in stacked.items()})
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=1e-5)
    assert (together - split.tail(tokens)).abs().amax(1).min() > 0.05  # each image did see its own weights


def test_one_weight_an_image_without_biases(make_vit: Callable[..., nn.Module], images: Tensor) -> None:
    model = make_vit(proj_bias=False)
    split = SplitViT(model, 2)
    tokens, weight = split.prefix(images[:3]), model.blocks[2].mlp.fc1.weight
    stacked = {"blocks.2.mlp.fc1": torch.stack([weight, 2 * weight, -weight])}
    alone = [
        split.tail(tokens[i : i + 1], {"blocks.2.mlp.fc1": stacked["blocks.2.mlp.fc1"][i]}) for i in range(3)
    ]
    torch.testing.assert_close(split.tail(tokens, stacked), torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_replaced_weights_equal_a_model_that_holds_them(vit: nn.Module, images: Tensor) -> None:
    split = SplitViT(vit, 1)
    tokens = split.prefix(images)
    weights = {f"blocks.{b}.mlp.{m}": torch.randn_like(vit.get_parameter(f"blocks.{b}.mlp.{m}.weight")) * 0.2
               for b in (1, 4) for m in MATRICES}  # fmt: skip
    replaced = split.tail(tokens, weights)
    with torch.no_grad():
        for address, weight in weights.items():
            vit.get_parameter(f"{address}.weight").copy_(weight)
    assert torch.equal(replaced, full_logits(vit, images))


@pytest.mark.parametrize("pooled_only", [False, True])
def test_a_weight_trained_in_part_stands_for_its_whole(
    vit: nn.Module, images: Tensor, pooled_only: bool
) -> None:
    split = SplitViT(vit, 1, pooled_only=pooled_only)
    tokens = split.prefix(images[:3])
    parts = {
        f"blocks.{b}.mlp.{fc}": PartialWeight(
            1.5 * vit.get_parameter(f"blocks.{b}.mlp.{fc}.weight"), axis, torch.tensor([0, 5, 40])
        )
        for b in (1, 4)
        for axis, fc in enumerate(MATRICES)
    }
    found = split.tail(tokens, parts)
    assert torch.equal(found, split.tail(tokens, {a: part.whole for a, part in parts.items()}))
    for gradient in torch.autograd.grad(found.sum(), [part.trained for part in parts.values()]):
        assert gradient.shape == (3, 48)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_prefix_in_half_precision_gives_whole_tokens(
    vit: nn.Module, images: Tensor, dtype: torch.dtype
) -> None:
    whole, half = SplitViT(vit, 3), SplitViT(vit, 3, prefix_dtype=dtype)
    wanted, found = whole.prefix(images), half.prefix(images)
    assert found.dtype == torch.float32
    off = (found - wanted).abs().mean() / wanted.abs().mean()
    assert 1e-4 < off < 0.02
    assert torch.equal(half.tail(wanted), whole.tail(wanted))  # the tail is not rounded


def test_a_prefix_in_another_precision_is_refused(vit: nn.Module) -> None:
    with pytest.raises(
        InvalidInputError, match=r"prefix_dtype is torch\.float64; it must be torch\.bfloat16"
    ):
        SplitViT(vit, 1, prefix_dtype=torch.float64)


def test_gradients_reach_the_weights_given_and_nothing_else(vit: nn.Module, images: Tensor) -> None:
    vit.requires_grad_(True)
    split = SplitViT(vit, 3)
    tokens = split.prefix(images)
    assert not tokens.requires_grad
    leaf = vit.blocks[3].mlp.fc2.weight.detach().clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(split.tail(tokens, {"blocks.3.mlp.fc2": leaf}).sum(), leaf)
    assert gradient.abs().sum() > 0
    assert all(parameter.grad is None for parameter in vit.parameters())


def test_class_token_is_the_final_norm_of_the_unedited_model(vit: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        wanted = vit.forward_features(normalize(vit, images))[:, 0]
    for pooled_only in (False, True):
        split = SplitViT(vit, 2, pooled_only=pooled_only)
        found = split.class_token(split.prefix(images))
        assert not found.requires_grad
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_class_token_of_a_model_without_one_is_what_its_head_reads(
    make_vit: Callable[..., nn.Module], images: Tensor
) -> None:
    for name in ("average of the patches", "attention pooling"):
        model = make_vit(**VARIANTS[name])
        with torch.no_grad():
            wanted = model.forward_head(model.forward_features(normalize(model, images)), pre_logits=True)
        split = SplitViT(model, 2)
        assert torch.equal(split.class_token(split.prefix(images)), wanted)


def test_logits_of_is_the_model_in_chunks(vit: nn.Module, images: Tensor) -> None:
    found = logits_of(vit, images, batch_size=5)
    torch.testing.assert_close(found, full_logits(vit, images), atol=1e-5, rtol=1e-5)
    assert not found.is_inference()  # usable in autograd
    with pytest.raises(InvalidInputError, match=r"add a batch dimension: images\[None\]"):
        logits_of(vit, images[0])


def test_normalisation_is_the_models_own(vit: nn.Module, images: Tensor) -> None:
    assert torch.equal(normalize(vit, images), (images - 0.5) / 0.5)
    del vit.pretrained_cfg
    imagenet = normalize(vit, torch.full((1, 3, 32, 32), 0.5))
    torch.testing.assert_close(
        imagenet[0, :, 0, 0], torch.tensor([0.0655, 0.1964, 0.4178]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("block", [-1, 5, 12])
def test_a_block_the_model_does_not_have(vit: nn.Module, block: int) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"first_block {block} is outside 0..4 \(the model has 5 blocks\)"
    ):
        SplitViT(vit, block)


def test_images_that_do_not_fit(vit: nn.Module, make_vit: Callable[..., nn.Module]) -> None:
    split, any_size = SplitViT(vit, 1), SplitViT(make_vit(dynamic_img_size=True), 1)
    with pytest.raises(InvalidInputError, match=r"images are 30x44 px, which 8x8 patches do not tile.*32x48"):
        any_size.prefix(torch.rand(1, 3, 30, 44))
    with pytest.raises(InvalidInputError, match=r"images are 40x32 px.*32x32"):
        split.prefix(torch.rand(1, 3, 40, 32))
    with pytest.raises(InvalidInputError, match="divide by 255"):
        split.prefix(torch.rand(1, 3, 32, 32) * 255)
    with pytest.raises(InvalidInputError, match="look normalised"):
        split.prefix(torch.randn(1, 3, 32, 32))
    with pytest.raises(InvalidInputError, match=r"images\.float\(\) / 255"):
        split.prefix(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(InvalidInputError, match="repeat the grey channel"):
        split.prefix(torch.rand(1, 1, 32, 32))
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        split.prefix(torch.full((1, 3, 32, 32), torch.nan))
