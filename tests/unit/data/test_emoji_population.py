"""The source population: pure functions of epoch, iteration and seed."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from workbench.data import emoji_population
from workbench.data.emoji_population import classified, source_batch, source_epoch


def test_classified_concepts_are_those_of_a_kind(tiny_emoji: ModuleType) -> None:
    assert len(classified()) == 32
    assert (tiny_emoji.labels()[classified()] >= 0).all()
    assert np.all(np.diff(classified()) > 0)


def test_an_epoch_is_one_view_of_every_source_drawing(tiny_emoji: ModuleType) -> None:
    images, targets = source_epoch(3)
    assert images.shape == (4 * 32, 3, 112, 112)
    assert 0 <= images.min() < images.max() <= 1
    assert torch.equal(targets, torch.from_numpy(tiny_emoji.labels()[classified()]).repeat(4))
    assert targets.bincount().tolist() == [32, 32, 32, 32]


def test_epochs_are_pure_functions_and_differ(tiny_emoji: ModuleType) -> None:
    torch.manual_seed(0)
    first, _ = source_epoch(1)
    torch.manual_seed(9)  # nothing global counts
    again, _ = source_epoch(1)
    assert torch.equal(first, again)
    for other in (source_epoch(2)[0], source_epoch(1, seed=1)[0]):
        assert (first - other).abs().mean() > 0.05
    quarters = first.split(32)
    assert (quarters[0] - quarters[1]).abs().mean() > 0.05  # each style is seen in a view of its own


def test_batches_are_pure_functions_and_differ(tiny_emoji: ModuleType) -> None:
    np.random.seed(0)
    first = source_batch(5, count=6)
    np.random.seed(9)
    assert torch.equal(first, source_batch(5, count=6))
    assert first.shape == (6, 3, 112, 112)
    assert 0 <= first.min() < first.max() <= 1
    for other in (source_batch(6, count=6), source_batch(5, count=6, seed=1)):
        assert (first - other).abs().mean() > 0.05
    assert source_batch(5, count=2, size=56).shape == (2, 3, 56, 56)


def test_batches_draw_every_classified_source_drawing_and_no_other(
    tiny_emoji: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[np.ndarray] = []

    def watched(pixels: np.ndarray, seed: int) -> torch.Tensor:
        taken.extend(pixels)
        return torch.zeros(len(pixels), 3, 16, 16)

    monkeypatch.setattr(emoji_population, "augmented_views", watched)
    source_batch(0, count=1500, size=16)
    sources = {
        d.tobytes() for s in tiny_emoji.styles("source") for d in tiny_emoji.drawings(s, 16)[classified()]
    }
    assert {drawing.tobytes() for drawing in taken} == sources
