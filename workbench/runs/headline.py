"""The few numbers a notebook stands for, shown as a table and readable by machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from workbench.errors import InvalidInputError

HEADLINE_MIME = "application/vnd.workbench.headline+json"
"""MIME type under which an executed notebook carries its headline numbers."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Headline:
    """Headline numbers by label, in order; ``None`` stands for undefined. Made by `headline`."""

    values: Mapping[str, Scalar]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {HEADLINE_MIME: dict(self.values), "text/html": self._html(), "text/plain": repr(self)}

    def _html(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{escape(label)}</th>'
            f'<td style="text-align:right">{escape(format_value(value))}</td></tr>'
            for label, value in self.values.items()
        )
        return f'<table class="headline">{rows}</table>'

    def __repr__(self) -> str:
        return "\n".join(f"{label}: {format_value(value)}" for label, value in self.values.items())


def headline(values: Mapping[str, Any]) -> Headline:
    """Show a notebook's headline numbers; written as the last line of a cell.

    The cell's output is a small table. It also carries the numbers as JSON, which the gallery and
    ``workbench demo`` read back from the executed notebook.

    Args:
        values: label to number, text, bool or ``None`` (undefined). NumPy and torch scalars are converted.

    Raises:
        InvalidInputError: no values, a label that is not text, a value that is no scalar, NaN or infinity.

    Example:
        >>> headline({"reliability": 1.0, "locality": 0.87346, "steps": 4, "generalization": None})
        reliability: 1.000
        locality: 0.873
        steps: 4
        generalization: –
    """
    if not values:
        raise InvalidInputError("headline() got no values: pass at least one, as in headline({'steps': 4})")
    return Headline({_checked_label(label): _scalar(label, value) for label, value in values.items()})


def format_value(value: Scalar) -> str:
    """A headline value as short text: three decimals for floats of moderate size, ``–`` for undefined.

    Example:
        >>> format_value(0.87346), format_value(2e-05), format_value(1024), format_value(None)
        ('0.873', '2e-05', '1024', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.3g}"
    return str(value)


def _checked_label(label: object) -> str:
    if not isinstance(label, str) or not label:
        raise InvalidInputError(f"headline() got the label {label!r}: expected a non-empty text")
    return label


def _scalar(label: object, value: Any) -> Scalar:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # NumPy scalar, torch tensor
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if not isinstance(value, float):
        given = type(value).__name__
        raise InvalidInputError(f"headline() got a {given} for {label!r}: expected a number, text or None")
    if not math.isfinite(value):
        raise InvalidInputError(f"headline() got {value} for {label!r}: pass None where it is undefined")
    return value
