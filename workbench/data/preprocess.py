"""How benchmark images are scaled and cut before a model sees them, as a value that goes with every result.

The choice decides which images a model gets wrong, so it is explicit: `REPO` is what the published method's
code does, `from_timm` is what a model's own configuration asks for. Normalisation is left to the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.images import open_rgb, resize_and_crop, to_tensor
from workbench.errors import InvalidInputError, UnknownNameError


@dataclass(frozen=True)
class Preprocess:
    """Scale the shorter side to `resize` pixels, cut a centred square of `crop` pixels, map to [0, 1].

    Files are decoded as the usual loaders do: orientation marks and transparency are ignored.

    Example:
        >>> REPO("cat.jpg").shape
        torch.Size([3, 224, 224])
    """

    name: str
    resize: int
    crop: int
    interpolation: Literal["bilinear", "bicubic"]

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise InvalidInputError(f"crop must be between 1 and resize ({self.resize}), not {self.crop}")

    def __call__(self, path: str | Path) -> Float[Tensor, "3 crop crop"]:
        """Read one image file; raises `InvalidInputError` if it cannot be read."""
        image = open_rgb(path, as_stored=True)
        return to_tensor(resize_and_crop(image, self.resize, self.crop, self.interpolation))


#: What the published method's code does: shorter side to 256 (bilinear), middle 224.
REPO = Preprocess("repo", resize=256, crop=224, interpolation="bilinear")


def from_timm(model: nn.Module | Mapping[str, Any]) -> Preprocess:
    """The preprocessing that a timm model's `pretrained_cfg` (or such a mapping) asks for.

    Raises:
        InvalidInputError: the configuration lacks an entry, or asks for something other than a centred square
            crop with bilinear or bicubic scaling.

    Example:
        >>> from_timm({"input_size": (3, 224, 224), "crop_pct": 0.9, "interpolation": "bicubic"}).resize
        248
    """
    config = model if isinstance(model, Mapping) else getattr(model, "pretrained_cfg", {})
    missing = [key for key in ("input_size", "crop_pct", "interpolation") if key not in config]
    if missing:
        raise InvalidInputError(
            f"the model's pretrained_cfg has no {', '.join(missing)}; pass REPO or your own"
        )
    _, height, width = config["input_size"]
    mode, interpolation = config.get("crop_mode") or "center", config["interpolation"]
    if height != width or mode != "center" or interpolation not in ("bilinear", "bicubic"):
        raise InvalidInputError(
            f"expected a square centred crop with bilinear or bicubic scaling, not input_size "
            f"{height}x{width}, crop_mode {mode!r}, interpolation {interpolation!r}; pass your own Preprocess"
        )
    return Preprocess("timm", math.floor(height / config["crop_pct"]), height, interpolation)


def preset(name: str, model: nn.Module | Mapping[str, Any] | None = None) -> Preprocess:
    """The preprocessing called ``"repo"`` or, for a model, ``"timm"``.

    For a model that takes images of another size than 224, ``"repo"`` scales and cuts in the same proportion.

    Raises:
        UnknownNameError: another name.
        InvalidInputError: ``"timm"`` without a model, or with one whose configuration cannot be used.
    """
    if name == "repo":
        return REPO if model is None else _repo_of_side(model)
    if name != "timm":
        raise UnknownNameError("preprocessing", name, ("repo", "timm"))
    if model is None:
        raise InvalidInputError("the preprocessing 'timm' is a model's own: pass the model too")
    return from_timm(model)


def _repo_of_side(model: nn.Module | Mapping[str, Any]) -> Preprocess:
    config = model if isinstance(model, Mapping) else getattr(model, "pretrained_cfg", None) or {}
    side = int(config.get("input_size", (3, REPO.crop, REPO.crop))[-1])
    return replace(REPO, resize=round(side * REPO.resize / REPO.crop), crop=side)
