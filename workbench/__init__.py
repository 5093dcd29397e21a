"""A workbench for looking inside vision models and changing them.

Every name loads on first use, so ``import workbench`` takes milliseconds and does not import torch.

Example:
    >>> import workbench as wb
    >>> model = wb.load_model("emoji_vit_s14")
    >>> [style.name for style in wb.data.emoji.STYLES]  # submodules load the same way
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench import data, editing, figures, models, runs, spine, widgets
    from workbench.editing import (
        BinaryMask,
        Edit,
        Editor,
        EditRequest,
        EditSettings,
        EditTrajectory,
        EvaluationSet,
        FullMask,
        GradientMask,
        LearnedMask,
        MaskHypernetwork,
        RandomMask,
        SoftMasks,
        applied,
        cutmix,
    )
    from workbench.errors import WorkbenchError
    from workbench.models import SplitViT, list_models, load_model
    from workbench.spine import SpineCascade

    __version__: str

__all__ = [
    "BinaryMask",
    "Edit",
    "EditRequest",
    "EditSettings",
    "EditTrajectory",
    "Editor",
    "EvaluationSet",
    "FullMask",
    "GradientMask",
    "LearnedMask",
    "MaskHypernetwork",
    "RandomMask",
    "SoftMasks",
    "SpineCascade",
    "SplitViT",
    "WorkbenchError",
    "applied",
    "cutmix",
    "data",
    "editing",
    "figures",
    "list_models",
    "load_model",
    "models",
    "runs",
    "spine",
    "widgets",
]

_SUBMODULES = {"data", "editing", "figures", "models", "runs", "spine", "widgets"}
_HOME_OF = {
    "WorkbenchError": "errors",
    "SplitViT": "models",
    "list_models": "models",
    "load_model": "models",
    "SpineCascade": "spine",
}


class _BeforeTorchvision(MetaPathFinder):
    """Runs our torchvision fix at the last moment: when somebody first imports torchvision.

    timm, captum and others import torchvision, by whichever route they are reached. Fixing it here covers
    all of them and lets ``import workbench`` do without torch. It finds nothing itself and leaves when used.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import_module("workbench._compat").ensure_torchvision_imports()
        return None


if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, _BeforeTorchvision())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("vision-workbench")
    if name not in __all__:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    if name in _SUBMODULES:
        return import_module(f"workbench.{name}")
    home = import_module(f"workbench.{_HOME_OF.get(name, 'editing')}")
    globals()[name] = getattr(home, name)  # found here from now on
    return globals()[name]


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
