"""Nine small emoji sets in the layout of the published ones, with what those have of oddities.

Four kinds of eight concepts each, drawn in nine styles as plain shapes; besides them a concept that is excluded by
name, one that a style does not draw, and one of a group that is not looked at.
"""

from __future__ import annotations

import json
from pathlib import Path

from workbench.data import emoji

#: Unicode subgroup -> (kind it becomes, Unicode group, concepts).
SUBGROUPS = {
    "animal-bird": ("bird", "Animals & Nature", "dove duck eagle owl parrot penguin swan turkey"),
    "animal-mammal": ("mammal", "Animals & Nature", "bear cat cow dog fox goat horse pig"),
    "food-fruit": ("produce", "Food & Drink", "banana cherries grapes kiwi lemon mango peach pear"),
    "transport-air": (
        "vehicle",
        "Travel & Places",
        "airplane canoe ferry helicopter rocket sailboat ship speedboat",
    ),
}
EXCLUDED = "paw-prints"
NOT_EVERYWHERE = "unicorn"
NOT_AN_OBJECT = "grinning-face"

#: Side of the drawing's own box by style; styles not named leave it to the format's default of 16.
BOXES = {"noto": 128, "twemoji": 36, "openmoji": 72}

KINDS = tuple(sorted(kind for kind, _, _ in SUBGROUPS.values()))
CONCEPTS = tuple(sorted(name for _, _, names in SUBGROUPS.values() for name in names.split()))


def write(root: Path) -> None:
    """Write all manifest entries below `root`, one folder an entry."""
    subgroup_of = {name: subgroup for subgroup, (_, _, names) in SUBGROUPS.items() for name in names.split()}
    subgroup_of |= {EXCLUDED: "animal-mammal", NOT_EVERYWHERE: "animal-mammal"}
    names = sorted(subgroup_of)
    codes = {name: f"1f{400 + i}" for i, name in enumerate(names)} | {"airplane": "2708-fe0f"}
    for position, style in enumerate(emoji.styles()):
        folder = root / f"emoji-{style}"
        folder.mkdir(parents=True)
        drawn = [name for name in names if not (name == NOT_EVERYWHERE and style == "openmoji")]
        _dump(folder / "icons.json", _icons(drawn, style, position))
    categories: dict[str, list[str]] = {group: [] for group in emoji.OBJECT_GROUPS}
    for name, subgroup in subgroup_of.items():
        categories[SUBGROUPS[subgroup][1]].append(name)
    categories["Smileys & Emotion"] = [NOT_AN_OBJECT]
    _dump(root / "emoji-noto/metadata.json", {"categories": categories})
    chars = {code: name for name, code in codes.items()} | {"1f600": NOT_AN_OBJECT, "1f999": "bear"}
    _dump(root / "emoji-noto/chars.json", chars)
    (root / "emojibase").mkdir()
    numbers = {subgroup: i for i, subgroup in enumerate(SUBGROUPS)}
    _dump(
        root / "emojibase/groups.json",
        {"groups": {"3": "nature"}, "subgroups": {str(i): subgroup for subgroup, i in numbers.items()}},
    )
    entries = [
        {"hexcode": codes[name].upper().replace("-FE0F", ""), "group": 3, "subgroup": numbers[subgroup]}
        for name, subgroup in subgroup_of.items()
    ]
    _dump(root / "emojibase/data.json", [{"hexcode": "1F1E6"}, *entries])  # a component has no subgroup


def _icons(names: list[str], style: str, position: int) -> dict[str, object]:
    side = BOXES.get(style, 16)
    icons: dict[str, object] = {name: {"body": _body(i, position, side)} for i, name in enumerate(names)}
    set_of_icons: dict[str, object] = {"prefix": style, "icons": icons}
    if style in BOXES:
        set_of_icons |= {"width": side, "height": side}
    if style == "emojione":  # it calls the dog a hound, and draws the cat twice as wide
        icons["hound"] = icons.pop("dog")
        icons["cat"] = {"body": _body(names.index("cat"), position, 32), "width": 32, "height": 32}
        set_of_icons["aliases"] = {"puppy": {"parent": "hound"}, "dog": {"parent": "puppy"}}
    return set_of_icons


def _body(concept: int, style: int, side: int) -> str:
    """A shape that says which concept it is by place and size, and which style by colour."""
    unit = side / 16
    x, y, size = 3 + concept % 6, 3 + concept // 6, 3 + concept % 5
    colour = f"hsl({40 * style},{30 + 8 * style}%,{30 + concept}%)"
    return (
        f'<rect x="{x * unit}" y="{y * unit}" width="{size * unit}" height="{size * unit}" fill="{colour}"/>'
        f'<circle cx="{8 * unit}" cy="{(4 + concept % 7) * unit}" r="{2 * unit}" fill="currentColor"/>'
    )


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
