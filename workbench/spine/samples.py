"""Radiographs in their frames with their corners: what detectors are trained and measured on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from workbench.data.cache import cache_dir
from workbench.data.phantom import PHANTOM_VERSION, phantom
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.files import atomic_path
from workbench.spine.frames import FRAME, Frame

Level = Literal["clean", "hard", "mixed"]
LEVELS_OF_DIFFICULTY = ("clean", "hard", "mixed")

#: Of five mixed phantoms so many are clean, the others hard.
_CLEAN_OF_FIVE = 3


@dataclass(frozen=True)
class Samples:
    """Radiographs in the frame.

    Args:
        images: (n, 704, 384), uint8.
        corners: (n, 17, 4, 2) in pixels of the frame; NaN where a vertebra is not seen.
        sizes: (n, 2), height and width of each image in the frame, without the padding.
    """

    images: UInt8[Tensor, "n 704 384"]
    corners: Float[Tensor, "n 17 4 2"]
    sizes: Int[Tensor, "n 2"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: slice | Sequence[int] | Tensor) -> Samples:
        """Some of them; a slice shares the memory."""
        return Samples(self.images[chosen], self.corners[chosen], self.sizes[chosen])

    def in_image(self, corners: Float[np.ndarray, "n 17 4 2"]) -> Float[np.ndarray, "n 17 4 2"]:
        """Corners in pixels of the frame as pixels of the images without their padding, whose sizes are `sizes`."""
        padding = (torch.tensor(FRAME) - self.sizes) // 2
        return corners - padding.flip(1).numpy()[:, None, None]

    @classmethod
    def of(cls, cases: Iterable[tuple[np.ndarray, np.ndarray]]) -> Samples:
        """Samples of pairs (image (H, W), uint8 or float in [0, 1]; corners (17, 4, 2) in its pixels).

        Raises:
            InvalidInputError: there are none.
        """
        framed = [_framed(image, corners) for image, corners in cases]
        if not framed:
            raise InvalidInputError("no samples were given; at least one image with its corners is needed")
        images, corners, sizes = zip(*framed, strict=True)
        return cls(torch.stack(images), torch.stack(corners), torch.tensor(sizes))

    def concatenated(self, other: Samples) -> Samples:
        """These and then the others."""
        return Samples(
            torch.cat([self.images, other.images]),
            torch.cat([self.corners, other.corners]),
            torch.cat([self.sizes, other.sizes]),
        )


def phantom_samples(
    set_name: str, count: int, level: Level = "clean", workers: int = 2, progress: bool = True
) -> Samples:
    """The first `count` phantoms of a set, rendered once and kept in the cache folder.

    Args:
        set_name: Name of the set, such as ``"train"`` or ``"test"``; each has its own phantoms.
        count: How many.
        level: ``"clean"``, ``"hard"`` or ``"mixed"``: of five, three clean and two hard.
        workers: Processes that render.
        progress: Show a progress bar.

    Raises:
        UnknownNameError: another level.
        InvalidInputError: `count` is not positive.
    """
    from safetensors.torch import load_file, save_file

    if level not in LEVELS_OF_DIFFICULTY:
        raise UnknownNameError("level", level, LEVELS_OF_DIFFICULTY)
    if count < 1:
        raise InvalidInputError(f"count is {count}; it must be at least 1")
    path = _cache_path(set_name, count, level)
    if not path.exists():
        samples = Samples.of(_render(set_name, count, level, workers, progress))
        with atomic_path(path) as temporary:
            save_file(
                {"images": samples.images, "corners": samples.corners, "sizes": samples.sizes}, temporary
            )
    saved = load_file(path)
    return Samples(saved["images"], saved["corners"], saved["sizes"])


def _cache_path(set_name: str, count: int, level: Level) -> Path:
    return cache_dir() / "spine-phantoms" / f"v{PHANTOM_VERSION}" / f"{set_name}-{level}-{count}.safetensors"


def _render(
    set_name: str, count: int, level: Level, workers: int, progress: bool
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    from joblib import Parallel, delayed

    # joblib's processes start afresh (a fork of running threads may hang) and need no guard in the caller's script.
    drawn = Parallel(n_jobs=workers, return_as="generator", batch_size=8)(
        delayed(_phantom)(set_name, level, index) for index in range(count)
    )
    yield from tqdm(
        drawn, total=count, desc=f"phantoms {set_name} {level}", disable=not progress, mininterval=5
    )


def _phantom(set_name: str, level: Level, index: int) -> tuple[np.ndarray, np.ndarray]:
    one = level if level != "mixed" else ("clean" if index % 5 < _CLEAN_OF_FIVE else "hard")
    drawn = phantom(index, set_name=set_name, level=one)
    return drawn.image, drawn.corners


def _framed(image: np.ndarray, corners: np.ndarray) -> tuple[Tensor, Tensor, tuple[int, int]]:
    pixels = (
        image.astype(np.float32) / 255 if image.dtype == np.uint8 else np.asarray(image, dtype=np.float32)
    )
    frame = Frame.of((pixels.shape[0], pixels.shape[1]))
    values = (frame.image(pixels) * 255).round().clamp(0, 255).to(torch.uint8)
    return values, torch.from_numpy(frame.forward(corners)).float(), frame.scaled
