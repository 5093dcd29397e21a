"""Traces as plain values: plotly checks them once, when the figure is built, and not at every step on the way."""

from __future__ import annotations

from typing import Any

#: A trace in plotly's words.
Trace = dict[str, Any]


def scatter(**style: Any) -> Trace:
    """Lines, marks or text."""
    return {"type": "scatter", **style}


def bars(**style: Any) -> Trace:
    """Bars."""
    return {"type": "bar", **style}
