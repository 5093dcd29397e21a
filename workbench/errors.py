"""The errors the workbench raises, and the helper that names the nearest known word.

Every message says what was given, what was expected, and what to type.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class WorkbenchError(Exception):
    """Base of every error raised on purpose by the workbench."""


class UnknownNameError(WorkbenchError, KeyError):
    """A name (model, style, class, notebook, parameter, …) that is not known.

    Example:
        >>> raise UnknownNameError("style", "notto", ["noto", "twemoji"])
        Traceback (most recent call last):
        ...
        workbench.errors.UnknownNameError: unknown style 'notto'; did you mean 'noto'? Known: noto, twemoji
    """

    def __init__(self, kind: str, given: object, known: Iterable[object], hint: str = "") -> None:
        names = [str(name) for name in known]
        near = did_you_mean(str(given), names)
        shown = ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
        text = f"unknown {kind} {given!r}{near} Known: {shown or 'none'}"
        self.message = f"{text}. {hint}" if hint else text
        super().__init__(kind, given, names, hint)  # so that pickle can make it again

    def __str__(self) -> str:  # KeyError would print the repr
        return self.message


class InvalidInputError(WorkbenchError, ValueError):
    """A value of a known thing that cannot be used: wrong shape, dtype, range or file content."""


class MissingDataError(WorkbenchError, FileNotFoundError):
    """Data or weights that are not there; the message says what to type to get them."""

    def __str__(self) -> str:  # OSError would print its errno form
        return str(self.args[0]) if self.args else ""


class IntegrityError(WorkbenchError):
    """A file whose content is not what was expected: wrong hash, truncated, unsafe archive member."""


class CheckpointError(WorkbenchError):
    """A checkpoint or edit file that does not fit: another model, another shape, not finite."""


class TrainingDivergedError(WorkbenchError):
    """Training met a value that is not finite; the message names the step, the last good state is kept."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, or ``";"`` where none is near.

    Example:
        >>> did_you_mean("twemojy", ["noto", "twemoji"])
        "; did you mean 'twemoji'?"
    """
    near = get_close_matches(given.lower(), [name.lower() for name in known], n=1, cutoff=0.5)
    if not near:
        return ";"
    original = next(name for name in known if name.lower() == near[0])
    return f"; did you mean {original!r}?"
