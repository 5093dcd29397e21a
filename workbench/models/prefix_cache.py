"""Prefix tokens, computed once per model and set of images, within a byte budget.

What was used last stays in memory; the rest goes to memory-mapped files, where other processes find it too.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.data.cache import cache_dir
from workbench.errors import IntegrityError, InvalidInputError
from workbench.models.loading import fingerprint
from workbench.models.split import SplitViT
from workbench.models.token_store import TokenStore, write_tokens

#: Images, or batches of them that can be gone through more than once (a list, a loader).
Images = Float[Tensor, "images 3 height width"] | Iterable[Float[Tensor, "batch 3 height width"]]

#: Images that go through the prefix together, in whatever batches they come: tokens depend on it in the last bit.
_BATCH = 8


class PrefixCache:
    """Tokens at a tail's entry, for sets of images that are asked for again and again.

    They are known by the model's fingerprint, the tail's entry, the type that the prefix runs in and the SHA-256 of the
    images. The same images in other batches are the same set. In memory they stay on the model's device.

    Args:
        budget: Bytes of tokens to keep in memory. Beyond it the least recently used go to files, and a set larger
            than the budget is written to one while it is computed.
        folder: Of the files; None for ``prefix`` in the data cache. It may be deleted at any time. A file that is
            damaged or truncated is computed anew.

    Example:
        >>> cache = PrefixCache(budget=2 << 30)
        >>> split = SplitViT(model, first_block=7)
        >>> for tokens in cache.tokens(split, images).chunks():
        ...     logits = split.tail(tokens)
    """

    def __init__(self, budget: int = 1 << 30, folder: Path | None = None) -> None:
        if budget < 0:
            raise InvalidInputError(f"budget is {budget}; it is a number of bytes, at least 0")
        self.budget = budget
        self.folder = cache_dir() / "prefix" if folder is None else Path(folder)
        self._stores: OrderedDict[str, TokenStore] = OrderedDict()  # least recently used first

    @property
    def used(self) -> int:
        """Bytes of tokens in memory."""
        return sum(store.nbytes for store in self._stores.values() if store.in_memory)

    def tokens(self, split: SplitViT, images: Images, base: str | None = None) -> TokenStore:
        """The tokens of `images` at the entry of `split`'s tail, from memory, from a file, or computed.

        Args:
            split: The model in two parts.
            images: Values in [0, 1]: a tensor, or batches. Batches are gone through twice, to know the set and
                to compute it.
            base: `fingerprint(split.model)`, where it is known already.

        Raises:
            InvalidInputError: images that are not ones, or an iterator, which can be gone through only once.
            WorkbenchError: a file is needed and the disk is full or the folder cannot be written to.
        """
        if isinstance(images, Iterator):
            raise InvalidInputError(
                f"images are a {type(images).__name__}, which can be gone through only once; give a tensor, a list "
                "of batches or a loader"
            )
        count, name = self._identify(split, images, base or fingerprint(split.model))
        path = self.folder / f"{name}.npy"
        store = self._stores.get(name) or _opened(path) or self._computed(split, images, count, path)
        self._stores[name] = store
        self._stores.move_to_end(name)
        return store

    def _identify(self, split: SplitViT, images: Images, base: str) -> tuple[int, str]:
        """Number of images, and a name for their tokens."""
        digest, count, kind = hashlib.sha256(), 0, ""
        for batch in _batches(images):
            digest.update(batch.detach().cpu().contiguous().numpy().data)
            count += len(batch)
            kind = f"{tuple(batch.shape[1:])} {batch.dtype}"
        config = getattr(split.model, "pretrained_cfg", None) or {}
        scaling = (config.get("mean"), config.get("std"))
        entry = f"{split.first_block} {split.entry} {split.prefix_dtype} {split.plain_attention} {scaling}"
        return count, hashlib.sha256(f"{base} {entry} {kind} {digest.hexdigest()}".encode()).hexdigest()

    def _computed(self, split: SplitViT, images: Images, count: int, path: Path) -> TokenStore:
        if count == 0:
            return TokenStore(torch.empty(0, 1, split.model.embed_dim))
        batches = (split.prefix(batch) for batch in _rebatched(_batches(images), _BATCH))
        first = next(batches)
        shape, size = (count, *first.shape[1:]), count * first[0].nbytes
        if size > self.budget:
            write_tokens(path, shape, first.dtype, chain([first], batches))
            return TokenStore.open(path)
        self._keep_to(self.budget - size)
        tokens, end = first.new_empty(shape), 0
        for batch in chain([first], batches):
            tokens[end : end + len(batch)] = batch
            end += len(batch)
        return TokenStore(tokens)

    def _keep_to(self, size: int) -> None:
        """Move what was used least recently to files until no more than `size` bytes are in memory."""
        for name, store in self._stores.items():
            if self.used > size:
                store.spill(self.folder / f"{name}.npy")


def _batches(images: Images) -> Iterable[Tensor]:
    return [images] if isinstance(images, Tensor) else images


def _rebatched(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same images, `size` at a time."""
    rest: Tensor | None = None
    for batch in batches:
        *whole, rest = (batch if rest is None else torch.cat([rest, batch])).split(size)
        yield from whole
    if rest is not None and len(rest):
        yield rest


def _opened(path: Path) -> TokenStore | None:
    """The tokens in a file, or None where there is no sound one: it will be written anew."""
    try:
        return TokenStore.open(path)
    except (FileNotFoundError, IntegrityError):
        return None
