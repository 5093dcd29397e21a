"""Any folder of images as training images: random resized crops, a pure function of iteration and seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from workbench.data.images import read_image
from workbench.errors import InvalidInputError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def image_files(folder: str | Path) -> list[Path]:
    """Image files in a folder and its subfolders, sorted.

    Raises:
        InvalidInputError: no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is not a folder; give one that holds images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not files:
        raise InvalidInputError(f"{folder} holds no images ({', '.join(sorted(_SUFFIXES))})")
    return files


class FolderCrops:
    """Random crops of a folder's images, as the published meta-training takes them: scale 0.25 to 1, no flip.

    Args:
        folder: Searched with its subfolders; labels are not needed.
        size: Side of the crops in pixels.
        seed: Seed of the draws.

    Example:
        >>> FolderCrops("imagenet/train", size=224).batch(iteration=0, count=16).shape
        torch.Size([16, 3, 224, 224])
    """

    def __init__(self, folder: str | Path, size: int, seed: int = 0) -> None:
        self.files, self.size, self.seed = image_files(folder), size, seed

    def batch(self, iteration: int, count: int) -> Float[Tensor, "count 3 size size"]:
        """`count` crops in [0, 1]; a pure function of the iteration."""
        random = np.random.default_rng((self.seed, iteration))
        chosen = random.choice(len(self.files), size=count, replace=len(self.files) < count)
        return torch.stack([self._crop(read_image(self.files[i]), random) for i in chosen])

    def _crop(self, image: Tensor, random: np.random.Generator) -> Tensor:
        height, width = image.shape[-2:]
        area = random.uniform(0.25, 1.0) * height * width
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        w = int(np.clip(round((area * ratio) ** 0.5), 1, width))
        h = int(np.clip(round((area / ratio) ** 0.5), 1, height))
        top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
        crop = image[None, :, top : top + h, left : left + w]
        size = (self.size, self.size)
        return F.interpolate(crop, size=size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(
            0, 1
        )
