"""Vision transformers from the ``.npz`` files of AugReg (*How to train your ViT?*), as Google publishes them.

The file says itself what the network is like; timm's own loader converts it. That loader ignores what it does not
know and leaves what it does not find, so the file's content is checked first.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from workbench._compat import ensure_torchvision_imports
from workbench.errors import CheckpointError
from workbench.models.architectures import architecture_of
from workbench.models.state_dicts import check_shapes, difference, shapes_of

ensure_torchvision_imports()

from timm.models.vision_transformer import VisionTransformer  # noqa: E402

# What all these models were trained with.
_CONFIG = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
}


def load_augreg(path: Path, architecture: str | None = None) -> VisionTransformer:
    """The vision transformer in an AugReg file, of whatever size; images are normalised to [-1, 1].

    Args:
        path: ``.npz`` file of a plain ViT (no convolutional stem), with a head.
        architecture: timm's name of it; the file is refused if it is another one.

    Raises:
        CheckpointError: no such file, damaged, not finite, or not a plain ViT as AugReg publishes it.
    """
    shapes = _array_shapes(path)
    model = _untrained(path, shapes)
    if wrong := difference(shapes, _expected(model)):
        raise CheckpointError(
            f"{path} does not fit a plain vision transformer as AugReg publishes it: {wrong}"
        )
    own = shapes_of(model.state_dict())
    if architecture is not None:
        check_shapes(path, architecture, own)
    model.load_pretrained(str(path))
    vit: Any = model
    vit.pretrained_cfg = {
        **_CONFIG,
        "architecture": architecture or architecture_of(own),
        "input_size": (3, *vit.patch_embed.img_size),
        "num_classes": vit.num_classes,
    }
    return model


def _untrained(path: Path, shapes: dict[str, tuple[int, ...]]) -> VisionTransformer:
    block = "Transformer/encoderblock_0/"
    try:
        patch, _, _, width = shapes["embedding/kernel"]
        _, positions, _ = shapes["Transformer/posembed_input/pos_embedding"]
        _, heads, per_head = shapes[f"{block}MultiHeadDotProductAttention_1/query/kernel"]
        _, hidden = shapes[f"{block}MlpBlock_3/Dense_0/kernel"]
        _, classes = shapes["head/kernel"]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a vision transformer as AugReg publishes it ({error}); it holds "
            f"{', '.join(list(shapes)[:4])}, …"
        ) from None
    if heads * per_head != width or not patch or positions < 2:
        raise CheckpointError(
            f"{path} has {heads} heads of {per_head} channels at a width of {width}; it is damaged"
        )
    depth = len({name.split("/")[1] for name in shapes if name.startswith("Transformer/encoderblock_")})
    return VisionTransformer(
        img_size=patch * round((positions - 1) ** 0.5),
        patch_size=patch,
        num_classes=classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=hidden / width,
        weight_init="skip",  # every tensor will be replaced
    )


def _array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of an ``.npz`` file, all of which must be finite floating-point numbers."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise CheckpointError(f"{path} is a single array, not an .npz archive")
            shapes = {}
            for name in file.files:
                array = file[name]
                if array.dtype.kind != "f" or not np.isfinite(array).all():
                    raise CheckpointError(f"{path} holds values that are not finite numbers in {name}")
                shapes[name] = array.shape
            return shapes
    except FileNotFoundError:
        raise CheckpointError(f"no file at {path}; give the path of an .npz file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} is not a complete .npz file of arrays: {error}") from error


def _expected(model: VisionTransformer) -> dict[str, tuple[int, ...]]:
    """What an AugReg file of a plain ViT holds: names and shapes as Flax has them."""
    vit: Any = model
    width, heads = vit.embed_dim, vit.blocks[0].attn.num_heads
    per_head, hidden = width // heads, vit.blocks[0].mlp.fc1.out_features
    patch = vit.patch_embed.patch_size
    shapes: dict[str, tuple[int, ...]] = {
        "cls": (1, 1, width),
        "embedding/kernel": (*patch, 3, width),
        "embedding/bias": (width,),
        "head/kernel": (width, vit.num_classes),
        "head/bias": (vit.num_classes,),
        "Transformer/posembed_input/pos_embedding": tuple(vit.pos_embed.shape),
        "Transformer/encoder_norm/scale": (width,),
        "Transformer/encoder_norm/bias": (width,),
    }
    for i in range(len(vit.blocks)):
        block = f"Transformer/encoderblock_{i}/"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{block}{norm}/scale": (width,), f"{block}{norm}/bias": (width,)}
        attention = f"{block}MultiHeadDotProductAttention_1/"
        for part in ("query", "key", "value"):
            shapes[f"{attention}{part}/kernel"] = (width, heads, per_head)
            shapes[f"{attention}{part}/bias"] = (heads, per_head)
        shapes |= {f"{attention}out/kernel": (heads, per_head, width), f"{attention}out/bias": (width,)}
        for name, (into, out) in {"Dense_0": (width, hidden), "Dense_1": (hidden, width)}.items():
            shapes |= {
                f"{block}MlpBlock_3/{name}/kernel": (into, out),
                f"{block}MlpBlock_3/{name}/bias": (out,),
            }
    return shapes
