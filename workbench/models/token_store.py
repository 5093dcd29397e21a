"""Tokens of many images, read a few images at a time, from memory or from a memory-mapped file.

A file is a plain ``.npy`` followed by the SHA-256 of all that stands before: numpy reads it as it is, and damage shows.
"""

from __future__ import annotations

import hashlib
import io
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import IntegrityError, InvalidInputError
from workbench.files import atomic_path

_DIGEST_BYTES = hashlib.sha256().digest_size

#: How much of a file is looked at in one go while its digest is checked.
_PIECE = 16 << 20


class TokenStore:
    """Tokens of many images, (images, tokens, dim), that need not be in memory.

    Args:
        tokens: The tokens themselves, or a file of them (see `open`).

    Example:
        >>> store = PrefixCache().tokens(split, images)
        >>> for tokens in store.chunks(16):
        ...     logits = split.tail(tokens)
    """

    def __init__(self, tokens: Float[Tensor, "images tokens dim"] | TokenFile) -> None:
        self._tokens = tokens

    @classmethod
    def open(cls, path: str | Path) -> TokenStore:
        """The tokens in a file that `write_tokens` wrote; raises as `TokenFile` does."""
        return cls(TokenFile(path))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        where = "in memory" if self.in_memory else "in a file"
        return f"TokenStore({' x '.join(map(str, self.shape))}, {self.nbytes:,} bytes {where})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, tokens, dim)."""
        return tuple(self._tokens.shape)

    @property
    def nbytes(self) -> int:
        """Size of the tokens, wherever they are."""
        return self._tokens.nbytes

    @property
    def in_memory(self) -> bool:
        """False for tokens that are read from a file."""
        return isinstance(self._tokens, Tensor)

    def chunks(self, batch_size: int = 32) -> Iterator[Float[Tensor, "batch tokens dim"]]:
        """All tokens in order, `batch_size` images at a time; of a file, no more than that is in memory.

        Raises:
            InvalidInputError: a batch size below 1.
        """
        if batch_size < 1:
            raise InvalidInputError(f"batch_size is {batch_size}; it must be at least 1")
        for start in range(0, len(self), batch_size):
            yield self._tokens[start : start + batch_size]

    def spill(self, path: Path) -> None:
        """Move the tokens from memory to a file, also for everybody who holds this store.

        Raises:
            WorkbenchError: the disk is full or the folder cannot be written to; the tokens stay in memory.
        """
        if isinstance(self._tokens, Tensor):
            write_tokens(path, self.shape, self._tokens.dtype, self.chunks())
            self._tokens = TokenFile(path)


class TokenFile:
    """Tokens in a file, of which only the images asked for are read.

    Args:
        path: A file that `write_tokens` wrote. It may be replaced or removed later: what was opened stays readable.

    Raises:
        IntegrityError: it is no such file, or truncated, or not what was written.
        FileNotFoundError: there is none.
    """

    def __init__(self, path: str | Path) -> None:
        with Path(path).open("rb") as file:
            end = file.seek(0, io.SEEK_END) - _DIGEST_BYTES
            if end <= 0:
                raise IntegrityError(f"{path} is truncated; delete it")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if self._digest(end) != self._map[end:]:
                raise IntegrityError(f"{path} is damaged or truncated: its SHA-256 is another; delete it")
            file.seek(0)
            np.lib.format.read_magic(file)
            self.shape, _, self._dtype = np.lib.format.read_array_header_1_0(file)
            self._offset = file.tell()

    @property
    def nbytes(self) -> int:
        """Size of the tokens."""
        return int(np.prod(self.shape, dtype=np.int64)) * self._dtype.itemsize

    def __getitem__(self, images: slice) -> Tensor:
        start, stop, _ = images.indices(self.shape[0])
        stride = self.nbytes // max(1, self.shape[0])
        data = self._read(self._offset + start * stride, self._offset + stop * stride)
        array = np.frombuffer(data, self._dtype).reshape(stop - start, *self.shape[1:])
        return torch.from_numpy(array)

    def _read(self, start: int, stop: int) -> bytearray:
        """A copy of some bytes; the pages they lie in do not stay with this process."""
        data = bytearray(memoryview(self._map)[start:stop])
        if hasattr(self._map, "madvise") and stop > start:  # not on every system
            page = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, page, stop - page)
        return data

    def _digest(self, end: int) -> bytes:
        digest = hashlib.sha256()
        for start in range(0, end, _PIECE):
            digest.update(self._read(start, min(start + _PIECE, end)))
        return digest.digest()


def write_tokens(path: Path, shape: Sequence[int], dtype: torch.dtype, batches: Iterable[Tensor]) -> None:
    """Write tokens to a file, batch by batch and atomically.

    Args:
        path: Where to; an existing file is replaced.
        shape: (images, tokens, dim) of all batches together.
        dtype: A floating point type that numpy has.
        batches: The tokens in order.

    Raises:
        InvalidInputError: numpy has no such type.
        WorkbenchError: the disk is full or the folder cannot be written to.
    """
    header = io.BytesIO()
    described = {"descr": _numpy_dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(header, described)
    digest = hashlib.sha256(header.getvalue())
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.getvalue())
        for batch in batches:
            values = batch.detach().cpu().contiguous().numpy()
            file.write(values.data)
            digest.update(values.data)
        file.write(digest.digest())


def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError:
        raise InvalidInputError(
            f"tokens of type {dtype} cannot be written to a file; use a model in float32 and "
            "SplitViT(…, prefix_dtype=torch.bfloat16)"
        ) from None
