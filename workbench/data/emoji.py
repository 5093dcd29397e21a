"""Nine emoji sets as one image dataset with a natural style shift.

A *concept* (``"red-apple"``) is drawn once in each of nine *styles* by different designers; a *drawing* is one
concept in one style. Five colour styles are the source population; four others are the shifts. The concepts are
those of Unicode's object categories that all nine sets draw. A *kind* is a class: concepts merged by what they
look like (`workbench.data.emoji_kinds`).

Source: SVG bodies in the npm packages ``@iconify-json/*``; Unicode groups from ``emojibase-data``. Licences and
credits are in NOTICE.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from workbench.data.cache import cache_dir
from workbench.data.emoji_kinds import kind_of
from workbench.data.fetch import locate
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.files import atomic_path, sha256_of

Role = Literal["source", "validation", "shift"]

#: Unicode groups whose members are things one can draw without faces, hands, letters or flags.
OBJECT_GROUPS = ("Activities", "Animals & Nature", "Food & Drink", "Objects", "Travel & Places")

#: Side in pixels at which the default models look at a drawing: 8 by 8 patches of 14 pixels.
DEFAULT_SIZE = 112


@dataclass(frozen=True)
class Style:
    """One emoji set: its name, its part in the experiment, and the manifest entry that holds it."""

    name: str
    role: Role

    @property
    def entry(self) -> str:
        """Name of the data manifest entry."""
        return f"emoji-{self.name}"


_STYLES = (
    Style("noto", "source"),
    Style("twemoji", "source"),
    Style("emojione", "source"),
    Style("fluent-emoji-flat", "source"),
    Style("noto-v1", "validation"),
    Style("openmoji", "shift"),
    Style("emojione-monotone", "shift"),
    Style("fluent-emoji-high-contrast", "shift"),
    Style("fluent-emoji", "shift"),
)


def styles(role: Role | None = None) -> tuple[str, ...]:
    """Names of the styles, all nine or those of one role (``"source"``, ``"validation"``, ``"shift"``)."""
    return tuple(style.name for style in _STYLES if role is None or style.role == role)


def check_style(name: str) -> str:
    """Return `name` if it is a style; raise `UnknownNameError` with the nearest style otherwise."""
    if name not in styles():
        raise UnknownNameError("style", name, styles())
    return name


@cache
def concepts() -> pd.DataFrame:
    """One row a concept, sorted by name; the row number is the concept's index everywhere.

    Columns: ``concept`` (``"red-apple"``), ``hexcode`` (``"1f34e"``), ``group``, ``subgroup`` (Unicode's), and
    ``kind`` (the class; missing for concepts that belong to no visual kind).

    Raises:
        MissingDataError: the sets are not in the cache; the message says what to type.
    """
    categories = _read_json("emoji-noto", "metadata.json")["categories"]
    hexcodes = {name: code for code, name in reversed(_read_json("emoji-noto", "chars.json").items())}
    names = {name for group in OBJECT_GROUPS for name in categories[group]} & set(hexcodes)
    for style in _STYLES:
        icons = _read_json(style.entry, "icons.json")
        names &= set(icons["icons"]) | set(icons.get("aliases", {}))
    subgroups = _unicode_subgroups()
    rows = []
    for name in sorted(names):
        group, subgroup = subgroups[_bare(hexcodes[name])]
        rows.append((name, hexcodes[name], group, subgroup, kind_of(name, subgroup)))
    return pd.DataFrame(rows, columns=["concept", "hexcode", "group", "subgroup", "kind"])


@cache
def kinds() -> tuple[str, ...]:
    """Names of the classes, sorted; the position is the class index of the default classifier."""
    return tuple(sorted(set(concepts()["kind"].dropna())))


@cache
def labels() -> np.ndarray:
    """Class index of each concept, shape (concepts,), int64; -1 for concepts of no kind."""
    index = {kind: position for position, kind in enumerate(kinds())}
    return np.array([index.get(kind, -1) for kind in concepts()["kind"]], dtype=np.int64)


def drawings(style: str, size: int = DEFAULT_SIZE) -> UInt8[np.ndarray, "concepts size size 4"]:
    """All concepts in one style, rasterised once with resvg and then read from the cache (memory-mapped).

    Args:
        style: One of `styles()`.
        size: Side in pixels, 16 to 2048.

    Returns:
        RGBA with straight (not premultiplied) alpha; the background is transparent. Read-only.

    Example:
        >>> drawings("noto").shape
        (649, 112, 112, 4)
    """
    check_style(style)
    if not 16 <= size <= 2048:
        raise InvalidInputError(f"size {size} px is outside 16..2048; the default models use {DEFAULT_SIZE}")
    path = _raster_path(style, size)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                pixels = _rasterise(style, size)
                with atomic_path(path) as temporary, temporary.open("wb") as file:
                    np.save(file, pixels, allow_pickle=False)
    loaded: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return loaded


def image(style: str, concept: str, size: int = DEFAULT_SIZE) -> Float[Tensor, "3 size size"]:
    """One drawing on white, as a tensor in [0, 1].

    Example:
        >>> image("openmoji", "lizard").shape
        torch.Size([3, 112, 112])
    """
    return on_white(drawings(style, size)[concept_index(concept)][None])[0]


def concept_index(concept: str) -> int:
    """Row of a concept in `concepts()`; raises `UnknownNameError` with the nearest name."""
    names = concepts()["concept"]
    found = np.flatnonzero(names == concept)
    if found.size == 0:
        raise UnknownNameError("concept", concept, list(names))
    return int(found[0])


def class_index(kind: str) -> int:
    """Class index of a kind; raises `UnknownNameError` with the nearest name."""
    if kind not in kinds():
        raise UnknownNameError("class", kind, kinds())
    return kinds().index(kind)


def on_white(pixels: UInt8[np.ndarray, "batch size size 4"]) -> Float[Tensor, "batch 3 size size"]:
    """Composite RGBA drawings on white and return them as float images in [0, 1]."""
    rgba = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
    alpha = rgba[:, 3:]
    return rgba[:, :3] * alpha + (1 - alpha)


def _raster_path(style: str, size: int) -> Path:
    from importlib.metadata import version

    # The pixels depend on the set, on the concepts kept, and on the rasteriser.
    source = sha256_of(locate(f"emoji-{style}") / "icons.json")[:12]
    count = len(concepts())
    name = f"{style}-{size}px-{count}-{source}-resvg{version('resvg-py')}.npy"
    return cache_dir() / "rasters" / name


def _rasterise(style: str, size: int) -> np.ndarray:
    import resvg_py
    from PIL import Image

    icons = _read_json(f"emoji-{style}", "icons.json")
    pixels = np.empty((len(concepts()), size, size, 4), dtype=np.uint8)
    for row, name in enumerate(tqdm(concepts()["concept"], desc=f"rasterising {style}", leave=False)):
        png = resvg_py.svg_to_bytes(svg_string=_svg(icons, name, size), skip_system_fonts=True)
        with Image.open(io.BytesIO(bytes(png))) as picture:
            pixels[row] = np.asarray(picture.convert("RGBA"))
    return pixels


def _svg(icons: dict[str, Any], name: str, size: int) -> str:
    icon = _resolve(icons, name)
    box = [icon.get(key, icons.get(key, default)) for key, default in _BOX]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000" '
        f'width="{size}" height="{size}" viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>'
    )


_BOX = (("left", 0), ("top", 0), ("width", 16), ("height", 16))


def _resolve(icons: dict[str, Any], name: str) -> dict[str, Any]:
    """Follow aliases to the icon that has a body; an alias may override the box."""
    overrides: dict[str, Any] = {}
    while name not in icons["icons"]:
        alias = icons["aliases"][name]
        overrides = {**{k: v for k, v in alias.items() if k != "parent"}, **overrides}
        name = alias["parent"]
    return {**icons["icons"][name], **overrides}


def _unicode_subgroups() -> dict[str, tuple[str, str]]:
    tables = _read_json("emojibase", "groups.json")
    return {
        _bare(entry["hexcode"]): (
            tables["groups"][str(entry["group"])],
            tables["subgroups"][str(entry["subgroup"])],
        )
        for entry in _read_json("emojibase", "data.json")
        if "subgroup" in entry
    }


def _bare(hexcode: str) -> str:
    """A code point sequence in lower case without the variation selector, which sets disagree about."""
    return hexcode.lower().replace("-fe0f", "")


@cache
def _read_json(entry: str, name: str) -> Any:
    return json.loads((locate(entry) / name).read_text(encoding="utf-8"))
