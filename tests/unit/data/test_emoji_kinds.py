"""Concepts merged into visual kinds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from workbench.data import emoji
from workbench.data import emoji_kinds as module
from workbench.data.emoji_kinds import kind_of


@pytest.mark.parametrize(
    ("concept", "subgroup", "kind"),
    [
        ("red-apple", "food-fruit", "produce"),
        ("lizard", "animal-reptile", "bug-or-reptile"),
        ("paw-prints", "animal-mammal", None),  # excluded by name
        ("christmas-tree", "event", "plant"),  # named, of a subgroup that is no kind
        ("money-bag", "money", "clothing"),  # a name counts more than a subgroup
        ("something-new", "event", None),
    ],
)
def test_a_name_counts_more_than_a_subgroup(concept: str, subgroup: str, kind: str | None) -> None:
    assert kind_of(concept, subgroup) == kind


def test_no_concept_is_named_twice() -> None:
    named = [name for names in module._BY_NAME.values() for name in names.split()]
    assert len(named) == len(set(named))
    assert not set(named) & set(module._NONE.split())


def test_every_name_is_one_of_a_real_concept(require_data: Callable[..., None]) -> None:
    require_data("emojibase", *(f"emoji-{style}" for style in emoji.styles()))
    table = emoji.concepts()
    named = {name for names in (*module._BY_NAME.values(), module._NONE) for name in names.split()}
    assert named <= set(table["concept"])
    assert set(module._BY_SUBGROUP) <= set(table["subgroup"])
