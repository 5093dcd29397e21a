"""Models from files: every tensor has its place, in the file and in the model, or the file is refused in words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from workbench.checkpoints import Card, save_checkpoint
from workbench.errors import CheckpointError, InvalidInputError, UnknownNameError
from workbench.models import fingerprint, load_model, logits_of
from workbench.models import loading as loading_module
from workbench.models.preprocessing import class_names, input_size, normalize
from workbench.models.state_dicts import model_header

State = dict[str, Tensor]


def build(name: str = "vit_tiny_patch16_224", **options: Any) -> VisionTransformer:
    """A timm ViT for small images, with all its weights drawn at random (also those that timm starts at zero)."""
    generator = torch.Generator().manual_seed(0)
    model: Any = timm.create_model(name, **{"img_size": 32, "num_classes": 11, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def tiny() -> VisionTransformer:
    return build()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def augreg_arrays(vit: Any) -> dict[str, np.ndarray]:
    """A plain ViT's weights in the layout in which AugReg's files have them."""
    heads, width = vit.blocks[0].attn.num_heads, vit.embed_dim
    per_head = width // heads

    def dense(linear: nn.Linear) -> dict[str, Tensor]:
        return {"kernel": linear.weight.T, "bias": linear.bias}

    def norm(layer: nn.LayerNorm) -> dict[str, Tensor]:
        return {"scale": layer.weight, "bias": layer.bias}

    parts: dict[str, dict[str, Tensor]] = {
        "embedding": {
            "kernel": vit.patch_embed.proj.weight.permute(2, 3, 1, 0),
            "bias": vit.patch_embed.proj.bias,
        },
        "head": dense(vit.head),
        "Transformer/posembed_input": {"pos_embedding": vit.pos_embed},
        "Transformer/encoder_norm": norm(vit.norm),
    }
    for i, block in enumerate(vit.blocks):
        at = f"Transformer/encoderblock_{i}"
        attention = f"{at}/MultiHeadDotProductAttention_1"
        for j, part in enumerate(("query", "key", "value")):
            rows = slice(j * width, (j + 1) * width)
            parts[f"{attention}/{part}"] = {
                "kernel": block.attn.qkv.weight[rows].T.reshape(width, heads, per_head),
                "bias": block.attn.qkv.bias[rows].reshape(heads, per_head),
            }
        parts[f"{attention}/out"] = {
            "kernel": block.attn.proj.weight.T.reshape(heads, per_head, width),
            "bias": block.attn.proj.bias,
        }
        parts[f"{at}/LayerNorm_0"], parts[f"{at}/LayerNorm_2"] = norm(block.norm1), norm(block.norm2)
        parts[f"{at}/MlpBlock_3/Dense_0"] = dense(block.mlp.fc1)
        parts[f"{at}/MlpBlock_3/Dense_1"] = dense(block.mlp.fc2)
    arrays = {f"{at}/{name}": value for at, part in parts.items() for name, value in part.items()}
    return {name: value.detach().numpy() for name, value in {"cls": vit.cls_token, **arrays}.items()}


@pytest.fixture
def augreg(tiny: VisionTransformer) -> dict[str, np.ndarray]:
    return augreg_arrays(tiny)


def written(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for its own arguments
    return path


def logits(model: nn.Module, pictures: Tensor) -> Tensor:
    """Logits of images in [0, 1] where the model's own configuration is not to be trusted."""
    with torch.no_grad():
        return model(2 * pictures - 1)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_a_file_gives_the_model_that_it_was_written_from(
    tmp_path: Path, tiny: VisionTransformer, augreg: dict[str, np.ndarray], pictures: Tensor, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".npz":
        written(path, augreg)
    elif suffix == ".pth":
        torch.save(tiny.state_dict(), path)
    else:
        save_file(tiny.state_dict(), path)
    model = load_model(path)
    assert torch.equal(
        logits_of(model, pictures), logits(tiny, pictures)
    )  # half the pixels' range is subtracted
    assert fingerprint(model) == fingerprint(tiny)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert input_size(model) == 32
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]  # timm sets it without a type
    assert config["architecture"] == "vit_tiny_patch16_224"
    assert config["num_classes"] == 11
    assert (config["crop_pct"], config["interpolation"]) == (0.9, "bicubic")


def test_an_augreg_file_of_any_size_says_itself_what_it_is(
    tmp_path: Path, make_vit: Callable[..., nn.Module], images: Tensor
) -> None:
    vit = make_vit(num_heads=3, mlp_ratio=2.5)
    model = load_model(written(tmp_path / "odd.npz", augreg_arrays(vit)))
    assert torch.equal(logits_of(model, images), logits_of(vit, images))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "base"])
def test_the_published_sizes(tmp_path: Path, size: str) -> None:
    vit = build(f"vit_{size}_patch16_224", img_size=224, num_classes=1000)
    pictures = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    model: Any = load_model(written(tmp_path / "weights.npz", augreg_arrays(vit)))
    assert torch.equal(logits_of(model, pictures), logits(vit, pictures))
    assert model.pretrained_cfg["architecture"] == f"vit_{size}_patch16_224"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head/bias": None}, "missing: head/bias"),
        ({"pre_logits/kernel": np.zeros((3, 3), "f4")}, "unexpected: pre_logits/kernel"),
        (
            {"cls": np.zeros((1, 2, 192), "f4")},
            r"of another shape: cls \(1, 2, 192\) instead of \(1, 1, 192\)",
        ),
        ({"head/kernel": None}, r"is not a vision transformer as AugReg publishes it \('head/kernel'\)"),
        ({"embedding/kernel": np.zeros((3, 3), "f4")}, "is not a vision transformer as AugReg publishes it"),
        ({"cls": np.full((1, 1, 192), np.nan, "f4")}, "holds values that are not finite numbers in cls"),
        ({"cls": np.zeros((1, 1, 192), "V2")}, "holds values that are not finite numbers in cls"),
        ({"cls": np.array([{}])}, "is not a complete .npz file of arrays: Object arrays cannot be loaded"),
    ],
)
def test_augreg_files_that_do_not_fit(
    tmp_path: Path, augreg: dict[str, np.ndarray], change: dict[str, Any], message: str
) -> None:
    arrays = {name: value for name, value in {**augreg, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        load_model(written(tmp_path / "weights.npz", arrays))


def test_heads_that_do_not_make_up_the_width(tmp_path: Path, augreg: dict[str, np.ndarray]) -> None:
    name = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"
    with pytest.raises(CheckpointError, match="has 2 heads of 64 channels at a width of 192; it is damaged"):
        load_model(written(tmp_path / "weights.npz", {**augreg, name: augreg[name][:, :2]}))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"not what it says", None])
def test_damaged_files(tmp_path: Path, tiny: VisionTransformer, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"weights{suffix}"
    if content is None:  # cut short
        np.savez(path, a=np.ones(999)) if suffix == ".npz" else torch.save({"a": torch.ones(999)}, path)
        content = path.read_bytes()[:-50]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"weights\{suffix} is (not a complete|damaged)"):
        load_model(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_files_that_are_not_there(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(CheckpointError, match=rf"no file at .*absent\{suffix}; give the path of"):
        load_model(str(tmp_path / f"absent{suffix}"))


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"head.weight": _Code()}, "weights.pth")
    with pytest.raises(
        CheckpointError, match=r"holds pickled objects beside tensors, which are not loaded; save"
    ):
        load_model("weights.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a value of type list, not a state dict of tensors"),
        ({"epoch": 3}, "holds a mapping with values of type int, not a state dict"),
        ({}, "holds nothing, not a state dict"),
        ({"head.weight": torch.full((2, 2), torch.inf)}, "values that are not finite in head.weight"),
        ({"fc.weight": torch.ones(2)}, r"patch_embed\.proj\.weight is missing; it holds fc\.weight"),
    ],
)
def test_files_of_torch_that_are_no_models(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {name: value.double() for name, value in state.items()},
    ],
)
def test_usual_wrappings_come_off(
    tmp_path: Path, tiny: VisionTransformer, wrap: Callable[[State], dict[str, Any]]
) -> None:
    torch.save(wrap(tiny.state_dict()), tmp_path / "weights.pth")
    assert fingerprint(load_model(tmp_path / "weights.pth")) == fingerprint(tiny)


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_dinov2_is_recognised_by_its_shapes(tmp_path: Path, name: str) -> None:
    vit = build(name, img_size=28, num_classes=0)
    save_file(vit.state_dict(), tmp_path / "weights.safetensors")
    model: Any = load_model(tmp_path / "weights.safetensors")
    assert fingerprint(model) == fingerprint(vit)
    assert model.pretrained_cfg["architecture"] == name
    assert (model.num_classes, input_size(model)) == (0, 28)


def test_what_shapes_do_not_show_must_be_named(tmp_path: Path, pictures: Tensor) -> None:
    vit = build("vit_xsmall_patch16_clip_224")
    path = tmp_path / "weights.safetensors"
    save_file(vit.state_dict(), path)
    with pytest.raises(InvalidInputError, match=r'do not say which architecture it is.*architecture="vit_…"'):
        load_model(path)
    model = load_model(path, architecture="vit_xsmall_patch16_clip_224")
    assert torch.equal(logits_of(model, pictures), vit(normalize(model, pictures)))


def test_a_tag_says_which_preprocessing_is_meant(tmp_path: Path) -> None:
    save_file(build("vit_small_patch16_224", num_classes=0).state_dict(), tmp_path / "weights.safetensors")
    means = [
        load_model(tmp_path / "weights.safetensors", architecture=name).pretrained_cfg["mean"]  # type: ignore[index]
        for name in ("vit_small_patch16_224", "vit_small_patch16_224.dino")
    ]
    assert means == [(0.5, 0.5, 0.5), (0.485, 0.456, 0.406)]


def test_a_header_says_what_shapes_do_not(tmp_path: Path) -> None:
    """As of the default classifier: positions for large images, used on small ones, with names of classes."""
    vit: Any = build("vit_small_patch14_dinov2", img_size=56, dynamic_img_size=True, num_classes=2)
    vit.pretrained_cfg = {**vit.pretrained_cfg, "input_size": (3, 28, 28), "label_names": ("cat", "dog")}
    save_file(vit.state_dict(), tmp_path / "weights.safetensors", metadata=model_header(vit))
    model: Any = load_model(tmp_path / "weights.safetensors")
    small = torch.rand(2, 3, 28, 28)
    assert torch.equal(logits_of(model, small), logits_of(vit, small))
    assert (input_size(model), class_names(model)) == (28, ("cat", "dog"))
    assert model.pretrained_cfg["mean"] == vit.pretrained_cfg["mean"]


def test_a_damaged_header(tmp_path: Path, tiny: VisionTransformer) -> None:
    save_file(tiny.state_dict(), tmp_path / "weights.safetensors", metadata={"pretrained_cfg": "{"})
    with pytest.raises(CheckpointError, match=r"the header of .*weights\.safetensors is damaged"):
        load_model(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_another_architecture_than_asked_for(
    tmp_path: Path, tiny: VisionTransformer, augreg: dict[str, np.ndarray], suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    written(path, augreg) if suffix == ".npz" else save_file(tiny.state_dict(), path)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, architecture="vit_small_patch16_224")
    text = str(caught.value)
    assert (
        f"{path} does not fit vit_small_patch16_224: of another shape: cls_token (1, 1, 192) instead of"
        in text
    )
    assert text.endswith('Its shapes are those of architecture="vit_tiny_patch16_224"')
    assert load_model(path, architecture="vit_tiny_patch16_224")


def test_missing_and_unexpected_tensors_are_named(tmp_path: Path, tiny: VisionTransformer) -> None:
    state = {k: v for k, v in tiny.state_dict().items() if not k.startswith("blocks.11.")}
    torch.save({**state, "mask_token": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(
        CheckpointError, match=r"missing: blocks\.11\..*, … \(12 in all\); unexpected: mask_token$"
    ):
        load_model(tmp_path / "weights.pth", architecture="vit_tiny_patch16_224")


def test_architectures_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown architecture 'vit_smal_.*did you mean 'vit_small_patch16_224'"
    ):
        load_model(tmp_path / "weights.pth", architecture="vit_smal_patch16_224")
    with pytest.raises(UnknownNameError, match="unknown architecture 'resnet50'"):
        load_model(tmp_path / "weights.npz", architecture="resnet50")


def test_an_architecture_belongs_to_a_file() -> None:
    with pytest.raises(InvalidInputError, match=r"belongs to a file of weights; 'emoji_vit_s14' is a name"):
        load_model("emoji_vit_s14", architecture="vit_small_patch14_dinov2")


@pytest.mark.parametrize("name", ["folder/weights.h5", "folder/vit_tiny_patch16_224"])
def test_other_kinds_of_files(name: str) -> None:
    with pytest.raises(
        InvalidInputError, match=r"is no file that a model can be loaded from; expected \.npz, \.safet"
    ):
        load_model(name)


def test_a_checkpoint_of_our_own_is_known_by_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(num_classes=2).train()
    monkeypatch.setattr(loading_module, "classifier_from", lambda tensors, card: (made, tensors, card)[0])
    card = Card(
        "mine", "classifier", "a test", "none", seed=0, settings={}, extra={"class_names": ["a", "b"]}
    )
    path = save_checkpoint(tmp_path / "mine.safetensors", {"head.bias": torch.zeros(2)}, card)
    assert load_model(path) is made
    assert not made.training
    save_checkpoint(path, {"head.bias": torch.zeros(2)}, Card("mine", "hypernetwork", "", "", 0, {}))
    with pytest.raises(CheckpointError, match=r"mine\.safetensors holds a hypernetwork, not a model"):
        load_model(path)


def test_another_json_beside_a_model_is_no_card(tmp_path: Path, tiny: VisionTransformer) -> None:
    save_file(tiny.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "weights.json").write_text("[1]")
    assert fingerprint(load_model(tmp_path / "weights.safetensors")) == fingerprint(tiny)
