"""Prefix tokens in memory and in files: the same values from everywhere, within the budget, and never damaged ones."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from workbench.errors import IntegrityError, InvalidInputError, WorkbenchError
from workbench.models import PrefixCache, SplitViT, TokenStore
from workbench.models.prefix_cache import _BATCH
from workbench.models.token_store import write_tokens


@pytest.fixture
def split(vit: nn.Module) -> SplitViT:
    return SplitViT(vit, 2)


@pytest.fixture
def prefixes(split: SplitViT, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through the prefix, call by call."""
    calls: list[int] = []
    original = SplitViT.prefix

    def counted(self: SplitViT, images: Tensor) -> Tensor:
        calls.append(len(images))
        return original(self, images)

    monkeypatch.setattr(SplitViT, "prefix", counted)
    return calls


def tokens_of(store: TokenStore, batch_size: int = 5) -> Tensor:
    return torch.cat([chunk.clone() for chunk in store.chunks(batch_size)])


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("budget", [1 << 30, 0])
def test_tokens_are_the_prefix_and_are_computed_once(
    split: SplitViT, images: Tensor, tmp_path: Path, prefixes: list[int], budget: int
) -> None:
    wanted = split.prefix(images)
    prefixes.clear()
    cache = PrefixCache(budget, tmp_path)
    store = cache.tokens(split, images)
    assert (store.shape, len(store), store.nbytes) == (tuple(wanted.shape), 12, wanted.nbytes)
    assert store.in_memory == (budget > 0)
    assert cache.used == (wanted.nbytes if budget else 0)
    assert torch.equal(tokens_of(store), wanted)
    again = cache.tokens(split, images.clone())
    assert torch.equal(tokens_of(again), wanted)
    assert sum(prefixes) == 12


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
@pytest.mark.parametrize("budget", [1 << 30, 0])
def test_chunks(split: SplitViT, images: Tensor, tmp_path: Path, budget: int, batch_size: int) -> None:
    store = PrefixCache(budget, tmp_path).tokens(split, images)
    chunks = list(store.chunks(batch_size))
    assert [len(c) for c in chunks] == [min(batch_size, 12 - i) for i in range(0, 12, batch_size)]
    assert torch.equal(torch.cat(chunks), split.prefix(images))
    with pytest.raises(InvalidInputError, match="batch_size is 0; it must be at least 1"):
        next(store.chunks(0))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(sizes=st.lists(st.integers(0, 23), min_size=1, max_size=5))
def test_batches_do_not_matter(
    vit: nn.Module, image_maker: Callable[..., Tensor], tmp_path: Path, sizes: list[int]
) -> None:
    """Neither for what is found again, nor for a single bit of it."""
    split, total = SplitViT(vit, 1, "attention"), sum(sizes)
    images = image_maker(total) if total else torch.empty(0, 3, 32, 32)
    cache = PrefixCache(folder=tmp_path)
    whole = cache.tokens(split, images)
    batched = cache.tokens(split, list(images.split(sizes)))
    assert len(batched) == total
    if total:
        assert batched is whole
        fresh = PrefixCache(folder=tmp_path / "other").tokens(split, list(images.split(sizes)))
        assert torch.equal(tokens_of(fresh), tokens_of(whole))


def test_many_images_go_through_the_prefix_in_batches(
    split: SplitViT, image_maker: Callable[..., Tensor], prefixes: list[int]
) -> None:
    PrefixCache().tokens(split, list(image_maker(2 * _BATCH + 3).split(7)))
    assert prefixes == [_BATCH, _BATCH, 3]


def test_what_tokens_are_known_by(
    make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor], prefixes: list[int]
) -> None:
    """Model, entry, images, and how they are scaled; not what the tail computes."""
    cache, model, images = PrefixCache(), make_vit(), image_maker(3)
    first = cache.tokens(SplitViT(model, 2), images)
    assert cache.tokens(SplitViT(model, 2, pooled_only=True), images) is first
    rescaled = make_vit()
    rescaled.pretrained_cfg = {**rescaled.pretrained_cfg, "mean": (0.4, 0.5, 0.5)}
    others = [
        (SplitViT(model, 1), images),
        (SplitViT(model, 2, "attention"), images),
        (SplitViT(make_vit(seed=1), 2), images),
        (SplitViT(rescaled, 2), images),
        (SplitViT(model, 2), image_maker(3, seed=1)),
        (SplitViT(model, 2), images.flip(0)),
    ]
    for split, other in others:
        store = cache.tokens(split, other)
        assert store is not first
        assert torch.equal(tokens_of(store), split.prefix(other))
    assert sum(prefixes) == 3 * 7 + 3 * len(others)


def test_images_of_another_shape_with_the_same_bytes_are_others(make_vit: Callable[..., nn.Module]) -> None:
    split, cache = SplitViT(make_vit(dynamic_img_size=True), 2), PrefixCache()
    wide, high = torch.zeros(2, 3, 16, 64), torch.zeros(2, 3, 64, 16)
    assert not torch.equal(tokens_of(cache.tokens(split, wide)), tokens_of(cache.tokens(split, high)))


def test_the_least_recently_used_leaves_memory(
    split: SplitViT, image_maker: Callable[..., Tensor], tmp_path: Path, prefixes: list[int]
) -> None:
    sets = [image_maker(4, seed=seed) for seed in range(3)]
    wanted = [split.prefix(images) for images in sets]
    cache = PrefixCache(budget=2 * wanted[0].nbytes, folder=tmp_path)
    first, second = (cache.tokens(split, images) for images in sets[:2])
    assert not list(tmp_path.iterdir())  # within the budget nothing is written
    cache.tokens(split, sets[0])
    third = cache.tokens(split, sets[2])
    assert [s.in_memory for s in (first, second, third)] == [True, False, True]
    assert cache.used == cache.budget
    prefixes.clear()
    for images, tokens in zip(sets, wanted, strict=True):
        assert torch.equal(tokens_of(cache.tokens(split, images)), tokens)
    assert torch.equal(tokens_of(second), wanted[1])  # who holds it need not know that it moved
    assert not prefixes


def test_a_store_moves_while_it_is_read(split: SplitViT, images: Tensor, tmp_path: Path) -> None:
    store = PrefixCache().tokens(split, images)
    wanted, found = tokens_of(store), []
    for chunk in store.chunks(5):
        found.append(chunk.clone())
        store.spill(tmp_path / "moved.npy")
    assert torch.equal(torch.cat(found), wanted)


def test_another_process_finds_the_file(
    split: SplitViT, images: Tensor, tmp_path: Path, prefixes: list[int]
) -> None:
    wanted = tokens_of(PrefixCache(0, tmp_path).tokens(split, images))
    prefixes.clear()
    store = PrefixCache(folder=tmp_path).tokens(
        split, images
    )  # a new cache knows what is on the disk, no more
    assert not prefixes
    assert not store.in_memory
    assert torch.equal(tokens_of(store), wanted)
    np.testing.assert_array_equal(np.load(only_file(tmp_path), allow_pickle=False), wanted.numpy())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.data())
def test_a_damaged_file_is_computed_anew(
    vit: nn.Module, image_maker: Callable[..., Tensor], tmp_path: Path, data: st.DataObject
) -> None:
    split, images = SplitViT(vit, 1), image_maker(2)
    wanted = tokens_of(PrefixCache(0, tmp_path).tokens(split, images))
    path = only_file(tmp_path)
    sound = path.read_bytes()
    if data.draw(st.booleans(), "truncate"):
        damaged = sound[: data.draw(st.integers(0, len(sound) - 1), "length")]
    else:
        place = data.draw(st.integers(0, len(sound) - 1) | st.integers(0, 127), "place")
        damaged = sound[:place] + bytes([sound[place] ^ data.draw(st.integers(1, 255))]) + sound[place + 1 :]
    path.write_bytes(damaged)
    with pytest.raises(IntegrityError, match=r"is (truncated|damaged or truncated.*); delete it"):
        TokenStore.open(path)
    assert torch.equal(tokens_of(PrefixCache(0, tmp_path).tokens(split, images)), wanted)
    assert path.read_bytes() == sound


def test_a_file_of_something_else_is_not_taken(split: SplitViT, images: Tensor, tmp_path: Path) -> None:
    wanted = tokens_of(PrefixCache(0, tmp_path).tokens(split, images))
    path = only_file(tmp_path)
    with path.open("wb") as file:
        np.save(file, np.array([{"not": "tokens"}]), allow_pickle=True)
    assert torch.equal(tokens_of(PrefixCache(0, tmp_path).tokens(split, images)), wanted)


def test_what_was_opened_outlives_its_file(split: SplitViT, images: Tensor, tmp_path: Path) -> None:
    store = PrefixCache(0, tmp_path).tokens(split, images)
    only_file(tmp_path).unlink()
    assert torch.equal(tokens_of(store), split.prefix(images))


def test_chunks_of_a_file_are_the_callers_own(split: SplitViT, images: Tensor, tmp_path: Path) -> None:
    store = PrefixCache(0, tmp_path).tokens(split, images)
    for chunk in store.chunks(5):
        chunk.zero_()
    assert torch.equal(tokens_of(store), split.prefix(images))


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    split: SplitViT, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WorkbenchError, match=r"no space left on the disk while writing .*\.npy"):
        PrefixCache(0, tmp_path).tokens(split, images)
    store = PrefixCache(folder=tmp_path).tokens(split, images)
    with pytest.raises(WorkbenchError, match="no space left on the disk"):
        store.spill(tmp_path / "x.npy")
    assert store.in_memory
    assert not list(tmp_path.iterdir())


def test_a_failing_batch_leaves_no_half_file(split: SplitViT, images: Tensor, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"must lie in \[0, 1\]"):
        PrefixCache(0, tmp_path).tokens(split, torch.cat([images, images, 255 * images]))
    assert not list(tmp_path.iterdir())


def test_an_iterator_is_refused(split: SplitViT, images: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="are a generator, which can be gone through only once"):
        PrefixCache().tokens(split, (batch for batch in images.split(3)))
    with pytest.raises(InvalidInputError, match="budget is -1; it is a number of bytes, at least 0"):
        PrefixCache(budget=-1)


def test_no_images(split: SplitViT, images: Tensor) -> None:
    store = PrefixCache().tokens(split, images[:0])
    assert (len(store), list(store.chunks())) == (0, [])


def test_the_default_folder_is_in_the_data_cache(empty_cache: Path) -> None:
    assert PrefixCache().folder == empty_cache / "prefix"


def test_a_type_that_numpy_lacks_is_refused(tmp_path: Path) -> None:
    tokens = torch.zeros(2, 3, 4, dtype=torch.bfloat16)
    with pytest.raises(
        InvalidInputError, match=r"of type torch\.bfloat16 cannot be written.*use a model in float32"
    ):
        TokenStore(tokens).spill(tmp_path / "x.npy")


def test_a_prefix_in_half_the_precision(split: SplitViT, images: Tensor) -> None:
    plain, cache = split.prefix(images), PrefixCache()
    half = SplitViT(split.model, split.first_block, prefix_dtype=torch.bfloat16)
    tokens = tokens_of(cache.tokens(half, images))
    assert tokens.dtype == torch.float32
    assert torch.equal(tokens, half.prefix(images))
    assert torch.equal(tokens_of(cache.tokens(split, images)), plain)  # kept apart
    assert 0 < (tokens - plain).norm() < 0.02 * plain.norm()


def test_a_prefix_with_plain_attention_is_kept_apart(split: SplitViT, images: Tensor) -> None:
    cache = PrefixCache()
    plain = SplitViT(split.model, split.first_block, plain_attention=True)
    for each in (split, plain):
        assert torch.equal(tokens_of(cache.tokens(each, images)), each.prefix(images))
    assert not torch.equal(plain.prefix(images), split.prefix(images))


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both write the same file, over and over; whoever opens it sees a whole one."""
    script = """
import sys, torch
from pathlib import Path
from workbench.models.token_store import TokenStore, write_tokens
path, fill = Path(sys.argv[1]), float(sys.argv[2])
for _ in range(40):
    write_tokens(path, (6, 5, 64), torch.float32, [torch.full((3, 5, 64), fill)] * 2)
    (chunk,) = TokenStore.open(path).chunks(6)
    assert chunk.min() == chunk.max(), chunk
"""
    command = [sys.executable, "-c", script, str(tmp_path / "tokens.npy")]
    running = [subprocess.Popen([*command, fill], stderr=subprocess.PIPE, text=True) for fill in ("1", "2")]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.npy"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_file_takes_no_more_memory_than_a_chunk(tmp_path: Path) -> None:
    path, size = tmp_path / "large.npy", 64
    batches: Iterator[Tensor] = (torch.full((1, 256, 1024), float(i)) for i in range(size))  # 1 MiB each
    write_tokens(path, (size, 256, 1024), torch.float32, batches)
    script = """
import sys
from workbench.models.token_store import TokenStore

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return {l.split(":")[0]: int(l.split()[1]) for l in lines if l.startswith(("VmHWM", "VmRSS"))}

import torch
torch.zeros(1 << 20).sum()
before = resident()["VmRSS"]
store = TokenStore.open(sys.argv[1])
total = sum(float(chunk[:, 0, 0].sum()) for chunk in store.chunks(2))
assert total == sum(range(64)), total
print((resident()["VmHWM"] - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 40  # MiB, of 64 in the file; its digest is checked in pieces of 16
