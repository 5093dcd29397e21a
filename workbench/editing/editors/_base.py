"""What every editor can do, and what the registry says about each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, Literal, Protocol, get_args, get_type_hints, runtime_checkable

from torch import nn

from workbench.editing.editor import EditRequest
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError, UnknownNameError


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
        build: ``build(model, **settings)`` gives the editor; settings not named keep their defaults. Its signature
            says which settings there are (``**settings`` by an unpacked `TypedDict`).
    """

    name: str
    title: str
    family: Literal["mask", "fine-tuning", "low-rank", "locate", "meta", "append"]
    definition: str
    origin: Literal["published", "port"]
    citation: str
    sweep: tuple[Mapping[str, Any], ...]
    build: Callable[..., EditMethod]

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the editor's settings, those that must be given first.

        Example:
            >>> EDITORS["learned-mask"].settings[:2]
            ('hypernetwork', 'sparsity')
        """
        names: list[str] = []
        for parameter in self._parameters:
            if parameter.kind is Parameter.VAR_KEYWORD:
                (group,) = get_args(get_type_hints(self.build)[parameter.name])
                names += get_type_hints(group)
            else:
                names.append(parameter.name)
        return tuple(names)

    def __call__(self, model: nn.Module, **settings: Any) -> EditMethod:
        """The editor for `model`.

        Raises:
            UnknownNameError: a setting that this editor does not have.
            InvalidInputError: a setting that must be given is not, a setting out of range, or a model that cannot
                be edited.
        """
        for name in settings:
            if name not in self.settings:
                raise UnknownNameError(f"setting of the editor {self.name}", name, self.settings)
        missing = [p.name for p in self._parameters if p.name not in settings and _must_be_given(p)]
        if missing:
            raise InvalidInputError(
                f"the editor {self.name} needs {', '.join(missing)}; pass "
                f"make_editor({self.name!r}, model, {missing[0]}=…)"
            )
        return self.build(model, **settings)

    @property
    def _parameters(self) -> list[Parameter]:
        """The builder's parameters without the model."""
        return list(signature(self.build).parameters.values())[1:]


def _must_be_given(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind is not Parameter.VAR_KEYWORD
