"""What every editor can do, and what the registry says about each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import nn

from workbench.editing.editor import EditRequest
from workbench.editing.trajectory import EditResult


@runtime_checkable
class EditMethod(Protocol):
    """Makes edits of one model, which is never changed."""

    def edit(self, request: EditRequest) -> EditResult:
        """Edit so that the request is met; an edit that does not work is a result, no error."""
        ...


@dataclass(frozen=True)
class EditorEntry:
    """An editor as the registry knows it.

    Args:
        name: What it is asked for by: ``"ft-l2"``.
        title: For tables and legends.
        family: ``"mask"`` (masked fine-tuning), ``"fine-tuning"``, ``"low-rank"``, ``"locate"``, ``"meta"`` or
            ``"append"``.
        definition: One sentence: what it does.
        origin: ``"published"`` where the method's own code defines it, ``"port"`` where the design for vision
            transformers is ours (specification, section 6.3).
        citation: Where the method comes from.
        sweep: Settings that trace its trade-off between generalization and locality, from gentle to strong.
        build: ``build(model, **settings)`` gives the editor; settings not named keep their defaults.
    """

    name: str
    title: str
    family: Literal["mask", "fine-tuning", "low-rank", "locate", "meta", "append"]
    definition: str
    origin: Literal["published", "port"]
    citation: str
    sweep: tuple[Mapping[str, Any], ...]
    build: Callable[..., EditMethod]

    def __call__(self, model: nn.Module, **settings: Any) -> EditMethod:
        """The editor for `model`."""
        return self.build(model, **settings)
