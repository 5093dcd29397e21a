"""The state of a training run in a file: written whole or not at all, and refused where it belongs to another run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import CheckpointError
from workbench.files import atomic_path


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of tensors and plain values, atomically.

    Example:
        >>> write_state(Path("state.pt"), {"identity": "run 1", "step": 25, "network": network.state_dict()})
    """
    import torch

    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def read_state(
    path: Path, identity: object, other: str = "another model or other settings"
) -> dict[str, Any]:
    """Read what `write_state` wrote; nothing but tensors and plain values is unpickled.

    Args:
        path: The file.
        identity: What the run is; the file must hold an equal value as ``identity``.
        other: What a file with another identity belongs to, for the message.

    Raises:
        CheckpointError: the file is damaged or truncated, is something else, or belongs to another run.
    """
    import torch

    try:
        saved = torch.load(path, weights_only=True)
    except Exception as error:  # of damaged files the unpickler makes errors of any kind
        raise CheckpointError(
            f"{path} is not a complete training state; delete it to start anew: {error}"
        ) from error
    foreign = not isinstance(saved, dict) or "identity" not in saved
    if foreign or saved["identity"] != identity:
        doubt = ", or is not the state of a training run" if foreign else ""
        raise CheckpointError(
            f"{path} belongs to {other}{doubt}; delete it to start anew, or choose another file"
        )
    return saved
