"""A user's own images, as the model at hand wants to see them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.folders import image_files
from workbench.data.images import open_rgb, read_image, resize_and_crop, to_tensor
from workbench.models.preprocessing import input_size


@dataclass(frozen=True)
class OwnImages:
    """Images with the names of their files.

    Args:
        names: One an image: the path below the folder they come from.
        images: (n, 3, size, size), in [0, 1].
    """

    names: tuple[str, ...]
    images: Float[Tensor, "n 3 height width"]

    def __len__(self) -> int:
        return len(self.names)

    def without(self, image: Float[Tensor, "3 height width"]) -> OwnImages:
        """All but those that are, pixel for pixel, the image given."""
        kept = [i for i, mine in enumerate(self.images) if not torch.equal(mine, image)]
        return OwnImages(tuple(self.names[i] for i in kept), self.images[kept])


def read_for(model: nn.Module, path: str | Path) -> Float[Tensor, "3 size size"]:
    """Read an image file for a model: scaled and cut as its ``pretrained_cfg`` asks, in [0, 1].

    Transparency, the camera's orientation and the errors are `read_image`'s.

    Example:
        >>> read_for(load_model("emoji_vit_s14"), "wrong.png").shape
        torch.Size([3, 112, 112])
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    size = input_size(model)
    if config.get("crop_mode") == "squash":
        return read_image(path, size=(size, size))
    resize = math.floor(size / config.get("crop_pct", 1.0))
    bilinear = config.get("interpolation") == "bilinear"
    picture = resize_and_crop(open_rgb(path), resize, size, "bilinear" if bilinear else "bicubic")
    return to_tensor(picture)


def read_folder(model: nn.Module, folder: str | Path) -> OwnImages:
    """Read every image of a folder and its subfolders for a model, sorted by path.

    Raises:
        InvalidInputError: no such folder, no image in it, or one that cannot be read (named in the message).
    """
    files = image_files(folder)
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    return OwnImages(names, torch.stack([read_for(model, path) for path in files]))
