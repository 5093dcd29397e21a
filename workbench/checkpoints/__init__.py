"""Small trained weights that the workbench's own commands made, each a safetensors file with a card beside it.

A *card* says what the weights are and how they were made: command, data, seed, settings, metrics, time.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import CheckpointError, UnknownNameError
from workbench.files import atomic_path, write_json

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """What a checkpoint is and how it was made."""

    name: str
    kind: str
    description: str
    command: str
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None


def versions() -> dict[str, str]:
    """Versions of what trained or measured something: python and the libraries that shape the result."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "timm", "numpy")},
    }


def list_checkpoints(kind: str) -> tuple[str, ...]:
    """Names of the shipped checkpoints of one kind (``"classifier"``, ``"hypernetwork"``, ``"mend"``)."""
    return tuple(read_card(path).name for path in sorted(_FOLDER.glob(f"{kind}-*.json")))


def load_checkpoint(kind: str, name_or_path: str | Path) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card of a shipped checkpoint (by name) or of a ``.safetensors`` file (by path).

    Raises:
        UnknownNameError: no shipped checkpoint of that kind and name; the message names the nearest.
        CheckpointError: the file is truncated, its card is missing, or it is of another kind.
    """
    path = _resolve(kind, name_or_path)
    card = read_card(path.with_suffix(".json"))
    if card.kind != kind:
        raise CheckpointError(f"{path} holds a {card.kind}, not a {kind}")
    return read_tensors(path), card


def shipped_path(kind: str, name: str) -> Path:
    """Where the package keeps a checkpoint: ``<kind>-<name>.safetensors``."""
    return _FOLDER / f"{kind}-{name}.safetensors"


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], card: Card) -> Path:
    """Write ``<path>.safetensors`` and its card ``<path>.json``, each atomically, and return the former's path."""
    from safetensors.torch import save_file

    path = Path(path).with_suffix(".safetensors")
    with atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary)
    write_json(path.with_suffix(".json"), asdict(card))
    return path


def read_card(path: Path) -> Card:
    """The card in a JSON file; raises `CheckpointError` where it is missing or not a card."""
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CheckpointError(
            f"no card at {path}: a checkpoint is a .safetensors file with a .json card beside it"
        ) from None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint card: {error}") from error


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; refuses files that are missing, truncated or not finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"no file at {path}; give the path of a .safetensors file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a complete safetensors file: {error}") from error
    return check_finite(path, tensors)


def read_header(path: str | Path) -> dict[str, str]:
    """What a safetensors file says in its header, by key; nothing where it has none.

    Raises:
        CheckpointError: missing, truncated or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except FileNotFoundError:
        raise CheckpointError(f"no file at {path}; give the path of a .safetensors file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a complete safetensors file: {error}") from error


def check_finite(path: str | Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file; raise `CheckpointError` where some are not finite, with their names."""
    bad = [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if bad:
        raise CheckpointError(f"{path} holds values that are not finite in {', '.join(bad[:3])}")
    return tensors


def _resolve(kind: str, name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        return path
    shipped = shipped_path(kind, str(name_or_path))
    if not shipped.exists():
        raise UnknownNameError(
            kind, name_or_path, list_checkpoints(kind), hint="or give the path of a .safetensors file"
        )
    return shipped
