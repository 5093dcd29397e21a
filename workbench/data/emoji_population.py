"""The source population: views of the colour styles, as classifiers and hypernetworks are trained on it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.data import emoji
from workbench.data.views import ViewSettings, augmented_views


def classified() -> np.ndarray:
    """Indices of the concepts that belong to a kind, increasing."""
    return np.flatnonzero(emoji.labels() >= 0)


def source_epoch(
    epoch: int, seed: int = 0, settings: ViewSettings | None = None
) -> tuple[Float[Tensor, "images 3 size size"], Int[Tensor, " images"]]:
    """One new view of every drawing of the source styles, with its class; a pure function of epoch and seed."""
    concepts = classified()
    first = (seed * 10_000 + epoch) * 100
    sources = emoji.styles("source")
    views = [augmented_views(emoji.drawings(s)[concepts], first + i, settings) for i, s in enumerate(sources)]
    return torch.cat(views), torch.from_numpy(emoji.labels()[concepts]).repeat(len(sources))


def source_batch(
    iteration: int, count: int, seed: int = 0, size: int = emoji.DEFAULT_SIZE
) -> Float[Tensor, "count 3 size size"]:
    """Views of `count` drawings of the source styles drawn at random; a pure function of iteration and seed."""
    random = np.random.default_rng((seed, iteration))
    sources, concepts = emoji.styles("source"), classified()
    which = random.integers(len(sources), size=count)
    rows = random.choice(concepts, size=count)
    pixels = np.stack([emoji.drawings(sources[s], size)[r] for s, r in zip(which, rows, strict=True)])
    return augmented_views(pixels, seed=int(random.integers(2**62)))
