"""Picking one failure by position, and the failures like it."""

from __future__ import annotations

from types import ModuleType

import pytest
from torch import nn

from workbench.data.failures import failure_groups, failures, group_of, pick
from workbench.errors import InvalidInputError, UnknownNameError


def test_picks_every_failure_once_and_a_new_kind_each_time(
    tiny_emoji: ModuleType, emoji_vit: nn.Module
) -> None:
    everything, groups = failures(emoji_vit, "openmoji"), failure_groups(emoji_vit, ("openmoji",), min_size=1)
    assert len(groups) > 1
    assert len(groups[0]) > len(groups[-1])
    picked = [pick(emoji_vit, "openmoji", i) for i in range(len(everything))]
    assert sorted(f.concept for f in picked) == [f.concept for f in everything]
    assert picked[: len(groups)] == [group.failures[0] for group in groups]
    assert picked[len(groups)] == groups[0].failures[1]
    ranks = [group_of(emoji_vit, f).failures.index(f) for f in picked]
    assert ranks == sorted(ranks)


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
