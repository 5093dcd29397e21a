"""Shared by all tests: no network unless a test is marked for it, and small real vision transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

import workbench  # noqa: F401  first of all: from here on torchvision, hence timm, imports beside a CPU-only torch

if TYPE_CHECKING:
    from torch import Tensor, nn

#: A test without the `network` mark may talk to this machine only (notebook kernels, local servers).
LOCAL_HOSTS = ["127.0.0.1", "::1", "localhost"]

# The same examples everywhere, and no time limit on machines that are busy.
settings.register_profile("workbench", deadline=None, derandomize=True)
settings.load_profile("workbench")

#: Classes of the small models.
CLASSES = ("bird", "boat", "chair", "drum", "fern", "kite", "moth")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("network") is None:
            item.add_marker(pytest.mark.allow_hosts(LOCAL_HOSTS))


def build_vit(seed: int = 0, **changes: Any) -> nn.Module:
    """A small timm ViT with seeded weights, large enough that predictions differ between images.

    Keywords go to timm's `VisionTransformer`: 5 blocks of width 48 on 32 px in 8 px patches unless told otherwise.
    Other keywords give other sizes, register tokens, pooling: nothing in the package may count on one of them.
    """
    from timm.models.vision_transformer import VisionTransformer

    sizes = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 5,
        "num_heads": 4,
        "num_classes": len(CLASSES),
    }
    model = VisionTransformer(**{**sizes, **changes})
    _fill(model, seed)
    half = (0.5, 0.5, 0.5)
    model.pretrained_cfg = {
        "input_size": (3, *model.patch_embed.img_size),
        "mean": half,
        "std": half,
        "label_names": CLASSES if model.num_classes == len(CLASSES) else None,
    }
    return model.eval().requires_grad_(False)


def _fill(model: nn.Module, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
                value.copy_(1 + 0.1 * noise)
            elif value.ndim >= 2 and name.endswith("weight"):
                value.copy_(1.6 * noise / value[0].numel() ** 0.5)
            else:
                value.copy_(0.05 * noise)


@pytest.fixture(scope="session")
def make_vit() -> Callable[..., nn.Module]:
    """`build_vit(seed=0, **changes)`."""
    return build_vit


@pytest.fixture
def vit(make_vit: Callable[..., nn.Module]) -> nn.Module:
    """A small ViT of seven classes, new for every test."""
    return make_vit()


@pytest.fixture
def images() -> Tensor:
    """Twelve images for `vit`, in [0, 1]: coarse coloured noise, so that predictions differ."""
    return make_images(12)


def make_images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    fine = torch.rand(count, 3, height, width, generator=generator)
    return 0.8 * F.interpolate(coarse, size=(height, width), mode="bilinear") + 0.2 * fine


@pytest.fixture(scope="session")
def image_maker() -> Callable[..., Tensor]:
    """`make_images(count, height=32, width=32, seed=0)`: images for models of other sizes."""
    return make_images


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data cache with nothing in it."""
    folder = tmp_path / "data-cache"
    monkeypatch.setenv("WORKBENCH_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def require_data() -> Callable[..., None]:
    """Skips a test, with the reason, unless the manifest's entries of these names have been fetched."""

    def require(*names: str) -> None:
        from workbench.data import status

        missing = [name for name in names if status(name) != "present"]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}, fetched first by: workbench data fetch --default")

    return require


@pytest.fixture
def tiny_emoji(
    tmp_path_factory: pytest.TempPathFactory, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The emoji data module over nine small sets (`tiny_emoji.py`) instead of the fetched ones."""
    import tiny_emoji as sets

    from workbench.data import emoji, failures

    root = tmp_path_factory.mktemp("emoji")
    sets.write(root)
    monkeypatch.setattr(emoji, "locate", lambda name: root / name)
    cached = (emoji.concepts, emoji.kinds, emoji.labels, emoji._read_json, failures._cached_logits)
    for function in cached:
        function.cache_clear()
    yield emoji
    for function in cached:
        function.cache_clear()


@pytest.fixture
def emoji_vit(tiny_emoji: ModuleType, make_vit: Callable[..., nn.Module]) -> nn.Module:
    """A small classifier of the tiny emoji kinds, untrained: right on some drawings and wrong on most."""
    kinds = tiny_emoji.kinds()
    model = make_vit(img_size=tiny_emoji.DEFAULT_SIZE, patch_size=28, num_classes=len(kinds))
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": kinds}
    return model
