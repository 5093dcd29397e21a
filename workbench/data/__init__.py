"""External files and the images and data sets made of them.

The functions of the cache are here; the data sets (`emoji`, `images`, `imagenet`) are modules that are
imported when they are first used, because they need torch.

Example:
    >>> import workbench as wb
    >>> wb.data.fetch("emoji-noto")
    >>> image = wb.data.images.read_image("cat.png", size=224)
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from workbench.data.cache import cache_dir
from workbench.data.fetch import fetch, fetch_default, locate, status, verify
from workbench.data.manifest import load_manifest

_MODULES = (
    "aasce",
    "drr",
    "emoji",
    "emoji_population",
    "failures",
    "imagenet",
    "images",
    "landmark_checks",
    "landmark_files",
    "own_images",
    "phantom",
    "preprocess",
    "pug",
    "radiographs",
    "vertebrae",
    "views",
)

__all__ = ["cache_dir", "fetch", "fetch_default", "load_manifest", "locate", "status", "verify", *_MODULES]


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
