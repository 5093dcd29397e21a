"""Picking one failure by position, and the failures like it."""

from __future__ import annotations

from types import ModuleType

import pytest
from torch import nn

from workbench.data.failures import failures, group_of, pick
from workbench.errors import InvalidInputError, UnknownNameError


def test_picks_the_largest_group_first(tiny_emoji: ModuleType, emoji_vit: nn.Module) -> None:
    everything = failures(emoji_vit, "openmoji")
    picked = [pick(emoji_vit, "openmoji", i) for i in range(len(everything))]
    assert sorted(f.concept for f in picked) == [f.concept for f in everything]
    sizes = [len(group_of(emoji_vit, f)) for f in picked]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    largest = [f.confidence for f in picked[: sizes[0]]]
    assert largest == sorted(largest, reverse=True)


@pytest.mark.parametrize("index", [-1, 999])
def test_says_how_many_there_are(emoji_vit: nn.Module, index: int) -> None:
    n = len(failures(emoji_vit, "openmoji"))
    text = (
        rf"failure {index} of style 'openmoji' is not there: the model has {n} failures in it; "
        rf"give an index in 0\.\.{n - 1}$"
    )
    with pytest.raises(InvalidInputError, match=text):
        pick(emoji_vit, "openmoji", index)


def test_says_that_there_are_none(emoji_vit: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.data.failures.failures", lambda *_: [])
    with pytest.raises(InvalidInputError, match="the model has 0 failures in it; choose another style"):
        pick(emoji_vit, "noto", 0)


def test_names_the_nearest_style(emoji_vit: nn.Module) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown style 'openmojo'; did you mean 'openmoji'\?"):
        pick(emoji_vit, "openmojo", 0)


def test_the_group_of_a_failure_holds_all_that_are_like_it(emoji_vit: nn.Module) -> None:
    everything = failures(emoji_vit, "openmoji")
    for failure in everything:
        group = group_of(emoji_vit, failure)
        alike = [f for f in everything if (f.true, f.wrong) == (failure.true, failure.wrong)]
        assert failure in group.failures
        assert sorted(f.concept for f in group.failures) == sorted(f.concept for f in alike)
