"""timm's vision transformers by name, and which of them a state dict belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from workbench._compat import ensure_torchvision_imports
from workbench.errors import UnknownNameError

ensure_torchvision_imports()

import timm  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

#: Shape of every tensor of a state dict, by name.
Shapes = Mapping[str, tuple[int, ...]]

# Of these, all with heads of 64 channels, the shapes alone say which it is. Others (CLIP's, SigLIP's, …) differ in
# their activation or norm, which no shape shows.
_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
_FORMS = (
    "vit_{size}_patch{patch}_224",
    "vit_{size}_patch{patch}_dinov2",
    "vit_{size}_patch{patch}_reg4_dinov2",
)


def is_vision_transformer(name: str) -> bool:
    """Whether timm knows a `VisionTransformer` of that name (with weights of that tag, where it has a tag)."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture) or (tag and not timm.models.is_model_pretrained(name)):
        return False
    return timm.models.model_entrypoint(architecture).__module__ == VisionTransformer.__module__


def check_architecture(name: str) -> str:
    """Return `name` if `is_vision_transformer`; raise `UnknownNameError` with the nearest otherwise."""
    if not is_vision_transformer(name):
        known = [
            *timm.list_models("*vit_*", module="vision_transformer"),
            *timm.list_models("vit_*", pretrained=True),
        ]
        raise UnknownNameError(
            "architecture", name, known, hint="`workbench models --all 'vit_*'` lists them"
        )
    return name


def build_untrained(name: str, shapes: Shapes, **options: Any) -> VisionTransformer:
    """timm's model of that name, with as many classes and as large an image as a state dict has room for.

    Args:
        name: Name of a timm vision transformer.
        shapes: Of the state dict that is to be loaded.
        options: Other arguments of timm's `VisionTransformer`.
    """
    head = shapes.get("head.weight")
    options["num_classes"] = head[0] if head else 0
    if (side := image_side(shapes)) is not None:
        options["img_size"] = side
    model: Any = timm.create_model(name, pretrained=False, **options)
    assert isinstance(model, VisionTransformer)
    return model


def shapes_for(name: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes that a state dict of an architecture has, at the number of classes and image size of another."""
    with torch.device("meta"):
        model = build_untrained(name, shapes)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def architecture_of(shapes: Shapes) -> str | None:
    """The plain or DINOv2 ViT that has exactly these tensors; None where it is none of them.

    Example:
        >>> state = timm.create_model("vit_small_patch16_224").state_dict()
        >>> architecture_of({name: tuple(value.shape) for name, value in state.items()})
        'vit_small_patch16_224'
    """
    width, _, patch, _ = shapes.get("patch_embed.proj.weight", (0, 0, 0, 0))
    if width not in _SIZES:
        return None
    names = (form.format(size=_SIZES[width], patch=patch) for form in _FORMS)
    return next((name for name in names if timm.is_model(name) and shapes_for(name, shapes) == shapes), None)


def image_side(shapes: Shapes) -> int | None:
    """Side in pixels of the square images that the position embedding is for; None where it does not say."""
    positions, kernel = shapes.get("pos_embed"), shapes.get("patch_embed.proj.weight")
    if positions is None or kernel is None or len(positions) != 3 or len(kernel) != 4:
        return None
    registers = shapes.get("reg_token", (1, 0, 0))[1]
    for extra in (0, 1, 1 + registers):  # positions of class and register tokens, where they have some
        grid = math.isqrt(max(0, positions[1] - extra))
        if grid and grid * grid == positions[1] - extra:
            return grid * kernel[-1]
    return None
