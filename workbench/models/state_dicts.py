"""Vision transformers from state dicts in files.

Every tensor of a file must have its place in the model and the other way round: nothing is left random and nothing
is dropped. Nothing is unpickled but plain tensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from workbench._compat import ensure_torchvision_imports
from workbench.checkpoints import check_finite, read_header, read_tensors
from workbench.errors import CheckpointError, InvalidInputError
from workbench.models.architectures import (
    Shapes,
    architecture_of,
    build_untrained,
    check_architecture,
    image_side,
    shapes_for,
)

ensure_torchvision_imports()

from timm.models.vision_transformer import VisionTransformer  # noqa: E402

#: Suffixes of what `torch.save` writes.
TORCH_SUFFIXES = (".pth", ".pt", ".bin")

#: Suffixes of files that hold state dicts.
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)

#: Entries of `pretrained_cfg` that a file's header keeps.
_KEPT = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "label_names")


def load_state_dict_file(path: Path, architecture: str | None = None) -> VisionTransformer:
    """The timm vision transformer that a state dict in a file belongs to, with its weights; see `load_model`.

    Args:
        path: ``.safetensors``, ``.pth``, ``.pt`` or ``.bin``.
        architecture: timm's name of it. Not needed for a file whose header names it (`model_header`), and for
            the plain and DINOv2 ViTs of sizes tiny to large, which are taken for the weights that timm has under
            their name.

    Raises:
        CheckpointError: no such file, damaged, not finite, or its tensors are not those of the architecture.
        InvalidInputError: the architecture cannot be told from the shapes.
        UnknownNameError: timm has no such vision transformer.
    """
    header: dict[str, str] = {}
    if path.suffix.lower() == ".safetensors":
        tensors, header = read_tensors(path), read_header(path)
    else:
        tensors = read_state_dict(path)
    shapes = shapes_of(tensors)
    name = architecture or header.get("architecture") or _recognised(path, shapes)
    check_architecture(name)
    check_shapes(path, name, shapes)
    config = _config(path, header)
    side = image_side(shapes)
    if side is not None:
        config.setdefault("input_size", (3, side, side))
    resized = side is not None and config["input_size"][-1] != side
    with torch.device("meta"):  # no memory and no time for weights that are replaced at once
        model: Any = build_untrained(name, shapes, **({"dynamic_img_size": True} if resized else {}))
    model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=True, assign=True)
    model.pretrained_cfg = {**model.pretrained_cfg, **config, "num_classes": model.num_classes}
    return model


def model_header(model: nn.Module) -> dict[str, str]:
    """What a safetensors file says in its header of a model, so that `load_model` needs no architecture for it.

    timm's name of the architecture, where the model knows it, and the images it wants: size, mean, class names, …

    Example:
        >>> save_file(model.state_dict(), "mine.safetensors", metadata=model_header(model))
        >>> load_model("mine.safetensors")
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    known = {"architecture": str(config["architecture"])} if config.get("architecture") else {}
    return {**known, "pretrained_cfg": json.dumps({k: config[k] for k in _KEPT if k in config})}


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a state dict saved with `torch.save`, on the CPU; nothing else is unpickled.

    A prefix ``module.`` on all names is taken off, and so is a mapping ``{"state_dict": …}`` or ``{"model": …}``.

    Raises:
        CheckpointError: no such file, truncated, not a state dict of tensors, or not finite.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"no file at {path}; give the path of a state dict ({', '.join(TORCH_SUFFIXES)})"
        ) from None
    except UnpicklingError:  # its own text recommends to run whatever the file holds
        raise CheckpointError(
            f"{path} is damaged, or holds pickled objects beside tensors, which are not loaded; save the tensors "
            "alone: torch.save(model.state_dict(), path)"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a complete file of torch.save: {error}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise CheckpointError(
            f"{path} holds {_kind(found)}, not a state dict of tensors; save it with "
            "torch.save(model.state_dict(), path)"
        )
    tensors = {str(name): value for name, value in found.items()}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return check_finite(path, tensors)


def difference(found: Shapes, expected: Shapes) -> str:
    """In words, how the tensors of a file differ from those expected; "" where they do not."""
    parts = [
        _listed("missing", [name for name in expected if name not in found]),
        _listed("unexpected", [name for name in found if name not in expected]),
        _listed(
            "of another shape",
            [
                f"{name} {found[name]} instead of {expected[name]}"
                for name in expected
                if name in found and found[name] != expected[name]
            ],
        ),
    ]
    return "; ".join(part for part in parts if part)


def check_shapes(path: Path, architecture: str, shapes: Shapes) -> None:
    """Raise `CheckpointError` unless the tensors in a file are those of an architecture, by name and shape."""
    if wrong := difference(shapes, shapes_for(architecture, shapes)):
        right = architecture_of(shapes)
        hint = "" if right in (None, architecture) else f'. Its shapes are those of architecture="{right}"'
        raise CheckpointError(f"{path} does not fit {architecture}: {wrong}{hint}")


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by name."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def _recognised(path: Path, shapes: Shapes) -> str:
    if "patch_embed.proj.weight" not in shapes:
        raise CheckpointError(
            f"{path} is not the state dict of a timm vision transformer: patch_embed.proj.weight is missing; it holds "
            f"{', '.join(list(shapes)[:4])}, …"
        )
    name = architecture_of(shapes)
    if name is None:
        raise InvalidInputError(
            f"the shapes in {path} do not say which architecture it is; name it as timm does: "
            'load_model(path, architecture="vit_…"), or --architecture on the command line'
        )
    return name


def _config(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    """What the header says about images, as timm has it; empty where it says nothing."""
    try:
        config = json.loads(header.get("pretrained_cfg", "{}"))
        return {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in _KEPT}
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"the header of {path} is damaged: {error}") from error


def _listed(what: str, names: Iterable[str]) -> str:
    names = list(names)
    if not names:
        return ""
    return f"{what}: {', '.join(names[:3])}" + (f", … ({len(names)} in all)" if len(names) > 3 else "")


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        other = next((type(v).__name__ for v in value.values() if not isinstance(v, Tensor)), None)
        return "nothing" if other is None else f"a mapping with values of type {other}"
    return f"a value of type {type(value).__name__}"
