"""Let torchvision's Python part import beside a torch build that lacks its compiled operators.

torchvision wheels are built for CUDA. Beside a CPU-only torch their shared library does not load, and
``import torchvision`` (hence ``import timm``) stops because two operator schemas are missing. Declaring the
schemas is enough for everything that does not call a compiled operator; nothing is declared where they exist.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# The library object must stay alive as long as the process: its schemas go with it.
_LIBRARY: torch.library.Library | None = None


def _operators_present() -> bool:
    """Whether torchvision's compiled operators can be loaded next to this torch."""
    spec = find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return True
    from pathlib import Path

    folder = Path(next(iter(spec.submodule_search_locations)))
    for library in sorted(folder.glob("_C*.so")) + sorted(folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(library))
        except (OSError, RuntimeError):
            return False
    return hasattr(torch.ops.torchvision, "nms")


def ensure_torchvision_imports() -> None:
    """Declare torchvision's operator schemas if, and only if, its compiled operators are absent."""
    global _LIBRARY
    if _LIBRARY is not None or _operators_present():
        return
    _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS.values():
        _LIBRARY.define(schema)
