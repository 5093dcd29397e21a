"""From images in [0, 1] to what a timm model wants to see."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from workbench.errors import UnknownNameError

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalize(
    model: nn.Module, images: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 3 height width"]:
    """Subtract the mean and divide by the standard deviation that the model was trained with.

    Both come from the model's own ``pretrained_cfg`` (ImageNet's where it has none).

    Example:
        >>> normalize(model, torch.zeros(1, 3, 112, 112)).shape
        torch.Size([1, 3, 112, 112])
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    mean, std = config.get("mean", _IMAGENET[0]), config.get("std", _IMAGENET[1])
    offset, scale = (images.new_tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return (images - offset) / scale


def class_count(model: nn.Module) -> int:
    """Number of classes of the head; 0 for a model without one."""
    return int(getattr(model, "num_classes", 0))


def class_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the classes, from the model's configuration; ``"class 0"`` and so on where it has none."""
    names = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    count = class_count(model)
    return tuple(names) if names and len(names) == count else tuple(f"class {i}" for i in range(count))


def class_index(model: nn.Module, target: str | int) -> int:
    """A class by name, or by index where it is a number.

    Raises:
        UnknownNameError: neither; the message names the nearest.

    Example:
        >>> class_index(load_model("emoji_vit_s14"), "clock")
        3
    """
    names = class_names(model)
    if target in names:
        return names.index(str(target))
    if str(target).isdecimal() and int(target) < len(names):
        return int(target)
    raise UnknownNameError("class", target, names, hint=f"Or give an index, 0 to {len(names) - 1}")


def input_size(model: nn.Module) -> int:
    """Side in pixels of the square images the model works on by default."""
    config = getattr(model, "pretrained_cfg", None) or {}
    return int(config.get("input_size", (3, 224, 224))[-1])
