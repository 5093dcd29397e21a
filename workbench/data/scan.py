"""What a model says of many image files: its prediction, and how sure it is. Kept in the cache."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.data.cache import cache_dir
from workbench.data.failures import SENSITIVE_GAP
from workbench.data.imagenet import ImageList
from workbench.errors import InvalidInputError
from workbench.files import atomic_path
from workbench.models.inference import logits_of
from workbench.models.loading import fingerprint

_BATCH = 32


@dataclass(frozen=True)
class Scan:
    """A model's answers, one an image.

    Args:
        predicted: The likeliest class.
        gap: By how much its probability exceeds the next one's, in [0, 1].
    """

    predicted: Int[Tensor, " n"]
    gap: Float[Tensor, " n"]


def scan(model: nn.Module, images: ImageList, base: str | None = None) -> Scan:
    """Run a model over image files, or take from the cache what it said of the same files before.

    Args:
        model: Any classifier, in evaluation mode.
        images: Files with their preprocessing.
        base: `fingerprint(model)`, where it is known already.

    Raises:
        InvalidInputError: a file that cannot be read; the message names it.

    Example:
        >>> wrong = scan(model, images).predicted != torch.tensor(images.targets)
    """
    path = _path(model, images, base or fingerprint(model))
    found = _kept(path)
    if found is None:
        found = _scanned(model, images)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, predicted=found.predicted.numpy(), gap=found.gap.numpy())
    return found


def sensitive_images(
    model: nn.Module, lists: Iterable[ImageList], gap: float = SENSITIVE_GAP, base: str | None = None
) -> list[ImageList]:
    """Of each list those images that the model gets right, but only just: the published rule for the locality set.

    Args:
        model: The model that will be edited.
        lists: Images with their classes, such as `ImageNetVal().by_class()`.
        gap: The two likeliest classes are less than this apart.
        base: `fingerprint(model)`, where it is known already.

    Raises:
        InvalidInputError: an image without a class, or one that cannot be read.
    """
    base = base or fingerprint(model)
    found = []
    for images in lists:
        if min(images.targets, default=0) < 0:
            raise InvalidInputError(
                f"{images.paths[0]} has no class, so it cannot be said whether it is right"
            )
        said = scan(model, images, base)
        chosen = (said.predicted == torch.tensor(images.targets)) & (said.gap < gap)
        found.append(images.subset(chosen.nonzero().flatten().tolist()))
    return found


def _scanned(model: nn.Module, images: ImageList) -> Scan:
    if len(images) == 0:
        return Scan(torch.empty(0, dtype=torch.long), torch.empty(0))
    device = next(model.parameters()).device
    tops = [logits_of(model, batch.to(device)).softmax(dim=1).topk(2) for batch in images.batches(_BATCH)]
    values = torch.cat([top.values for top in tops]).cpu()
    return Scan(torch.cat([top.indices[:, 0] for top in tops]).cpu(), values[:, 0] - values[:, 1])


def _path(model: nn.Module, images: ImageList, base: str) -> Path:
    config = getattr(model, "pretrained_cfg", None) or {}
    identity = f"{base} {config.get('mean')} {config.get('std')} {images.digest()}"
    return cache_dir() / "scans" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npz"


def _kept(path: Path) -> Scan | None:
    """What the cache holds, or None where there is nothing sound: it will be computed anew."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Scan(torch.from_numpy(file["predicted"]), torch.from_numpy(file["gap"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
