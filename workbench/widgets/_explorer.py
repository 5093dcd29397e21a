"""What all widgets share: one figure, a line of controls, and a place where failures show."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets
import numpy as np
import plotly.graph_objects as go

#: Seconds for which a page that was asked to show a widget may keep it waiting.
_PATIENCE = 10.0


class Explorer(ipywidgets.VBox):
    """Controls over one live figure. Subclasses keep their state in traits and draw it in `snapshot`.

    Args:
        controls: Widgets of the line above the figure.
        state: Values of the subclass's traits; an unknown name is an error.
    """

    def __init__(self, controls: Sequence[ipywidgets.Widget], **state: Any) -> None:
        self.message = ipywidgets.HTML()
        self.figure = go.FigureWidget()
        self._asked, self._behind = -math.inf, False
        row = ipywidgets.HBox(list(controls), layout={"flex_flow": "row wrap", "align_items": "center"})
        super().__init__(children=[row, self.message, self.figure], **state)
        self.redraw()
        self.figure.observe(self._answered, "_js2py_traceDeltas")

    def snapshot(self) -> go.Figure:
        """The figure as it is now, static: for readers without a kernel, and for reports."""
        raise NotImplementedError

    def drawing(self) -> go.Figure:
        """What the live figure should look like; the snapshot, unless a subclass lets it do more."""
        return self.snapshot()

    def redraw(self, *_: Any) -> None:
        """Draw the state. A failure is shown above the figure, which then stays as it was.

        A page that is just drawing the figure for the first time is left alone, since it would lose its clicks and its
        width; it is drawn anew once it has answered.
        """
        if time.monotonic() - self._asked < _PATIENCE:
            self._behind = True
            return
        try:
            show(self.figure, self.drawing())
            self.message.value = ""
            self.drawn()
        # Whatever goes wrong in a callback would be lost in the kernel's log; here the reader sees it.
        except Exception as error:
            self.report(error)

    def drawn(self) -> None:
        """Called when the live figure has been drawn."""

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self._asked = time.monotonic()
        return super()._repr_mimebundle_(**options)

    def _answered(self, change: Any) -> None:
        """The page has drawn the figure: let it fill the width, which it did not know before, and catch up."""
        if change["new"] is None:
            return
        if self._asked > -math.inf:
            self.figure.layout.autosize = True
        self._asked = -math.inf
        if self._behind:
            self._behind = False
            self.redraw()

    def report(self, error: Exception) -> None:
        """Show above the figure what went wrong; the next drawing takes it away."""
        text = escape(f"{type(error).__name__}: {error}")
        self.message.value = f'<div role="alert" style="color:#D55E00;white-space:pre-wrap">{text}</div>'


def show(widget: go.FigureWidget, figure: go.Figure) -> None:
    """Make a live figure look like another, sending only what differs.

    Traces of the same kinds in the same order are updated in place, others replaced.
    """
    kinds = [trace.type for trace in figure.data]
    with widget.batch_update():
        if [trace.type for trace in widget.data] == kinds:
            for old, new in zip(widget.data, figure.data, strict=True):
                old.update(_changes(old.to_plotly_json(), new.to_plotly_json()), overwrite=True)
        before, after = widget.layout.to_plotly_json(), figure.layout.to_plotly_json()
        for name in before.keys() | after.keys():
            if name != "autosize" and before.get(name) != after.get(name):
                widget.layout[name] = after.get(name)
    if [trace.type for trace in widget.data] != kinds:
        widget.data = ()
        widget.add_traces(figure.data)


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Settings of a trace that differ; None for those that are gone. Checking a setting costs plotly more than this."""
    names = before.keys() | after.keys() - {"type"}
    differing = {name: after.get(name) for name in names if not _same(before.get(name), after.get(name))}
    differing.pop("uid", None)  # a live trace's own name
    return differing


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    return bool(a == b)
