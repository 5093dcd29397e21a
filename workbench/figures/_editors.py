"""How each editor looks, wherever it appears: the colour says its family, the mark which one it is."""

from __future__ import annotations

from typing import NamedTuple

from workbench.figures._theme import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, VIOLET


class Look(NamedTuple):
    """A line's colour, mark and dash."""

    colour: str
    mark: str
    dash: str = "solid"


_LOOKS = {
    "learned-mask": Look(BLUE, "circle"),
    "random-mask": Look(SKY, "circle-open", "dash"),
    "gradient-mask": Look(VIOLET, "diamond", "dot"),
    "ft": Look(RED, "square"),
    "ft-l1": Look(RED, "triangle-up-open", "dash"),
    "ft-l2": Look(ORANGE, "triangle-down", "dot"),
    "ft-linf": Look(ORANGE, "x", "dash"),
    "lora": Look(GREEN, "pentagon"),
    "mend": Look(GREEN, "cross", "dash"),
    "knowledge-neurons": Look(PINK, "star", "dot"),
    "rome": Look(PINK, "hexagon"),
    "t-patcher": Look(GREY, "hourglass", "dot"),
}
_OTHERS = tuple(
    Look(colour, mark)
    for mark in ("circle", "square", "diamond")
    for colour in (BLUE, RED, GREEN, PINK, ORANGE, SKY)
)


def looks_of(editors: list[str]) -> dict[str, Look]:
    """A look for each; names that are not of the registry get others, in order."""
    unknown = [name for name in editors if name not in _LOOKS]
    return {
        name: _LOOKS.get(name) or _OTHERS[unknown.index(name) % len(_OTHERS)]
        for name in dict.fromkeys(editors)
    }
