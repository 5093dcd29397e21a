"""A figure of several panels, each with axes of its own, placed by hand.

Columns are fractions of the width, which follows the page; rows are pixels, because the height is fixed. Parts are
collected as plain values and handed to plotly once: adding them to a figure one at a time is quadratic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import plotly.graph_objects as go

from workbench.figures._theme import TEMPLATE, title_text


class Axes(NamedTuple):
    """Settings of a panel's horizontal and vertical axis, in plotly's words.

    Args:
        x: Horizontal.
        y: Vertical.
        square: Keep a unit as long on one as on the other, whatever the width of the page.
    """

    x: Mapping[str, Any] = {}
    y: Mapping[str, Any] = {}
    square: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a sheet."""

    sheet: Sheet
    number: int

    @property
    def x(self) -> str:
        """Name of the horizontal axis, as traces and annotations refer to it."""
        return "x" if self.number == 1 else f"x{self.number}"

    @property
    def y(self) -> str:
        """Name of the vertical axis."""
        return "y" if self.number == 1 else f"y{self.number}"

    def draw(self, trace: Any) -> None:
        """Put a trace on these axes."""
        trace.update(xaxis=self.x, yaxis=self.y)
        self.sheet.traces.append(trace)

    def text(self, text: str, x: Any, y: Any, **style: Any) -> None:
        """A note at data coordinates."""
        place = {"text": text, "x": x, "y": y, "xref": self.x, "yref": self.y}
        self.sheet.annotations.append({**place, **style})

    def picture(self, uri: str, x: float, y: float, size: float) -> None:
        """A picture with its upper left corner at data coordinates."""
        place = {"x": x, "y": y, "sizex": size, "sizey": size, "xref": self.x, "yref": self.y}
        self.sheet.images.append({"source": uri, **place})

    def boxes(self, corners: Iterable[tuple[float, float, float, float]], **line: Any) -> None:
        """Rectangles (x0, y0, x1, y1) at data coordinates, all of one look and hence one shape."""
        paths = [f"M{x0:g},{y0:g}H{x1:g}V{y1:g}H{x0:g}Z" for x0, y0, x1, y1 in corners]
        if paths:
            shape = {"type": "path", "path": "".join(paths), "xref": self.x, "yref": self.y, "line": line}
            self.sheet.shapes.append(shape)

    def line_across(self, y: float, **line: Any) -> None:
        """A horizontal line at a data value, from edge to edge."""
        self._shape("line", (0, 1), (y, y), line=line, xref=f"{self.x} domain", layer="below")

    def line_down(self, x: float, **line: Any) -> None:
        """A vertical line at a data value, from edge to edge."""
        self._shape("line", (x, x), (0, 1), line=line, yref=f"{self.y} domain", layer="below")

    def _shape(self, kind: str, x: tuple[float, float], y: tuple[float, float], **style: Any) -> None:
        place = {"x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1], "xref": self.x, "yref": self.y}
        self.sheet.shapes.append({"type": kind, **place, **style})


class Sheet:
    """A figure in the workbench's look that panels are added to.

    Args:
        height: In pixels, title included.
        title: Bold; empty for none.
        note: Behind the title, quieter.
        margin: Changes to the template's margins, in pixels.
    """

    def __init__(self, height: int, title: str = "", note: str = "", **margin: int) -> None:
        margin = {"l": 56, "r": 16, "t": 56, "b": 44, **margin}
        self.inner = height - margin["t"] - margin["b"]
        self.count = 0
        self.traces: list[Any] = []
        self.annotations: list[dict[str, Any]] = []
        self.shapes: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {"template": TEMPLATE, "height": height, "margin": margin}
        if title:
            self.layout["title"] = {"text": title_text(title, note)}

    def panel(
        self,
        columns: tuple[float, float] = (0, 1),
        rows: tuple[float, float] | None = None,
        title: str = "",
        axes: Axes | None = None,
    ) -> Panel:
        """Add a panel.

        Args:
            columns: Left and right edge, fractions of the width.
            rows: Top and bottom edge, pixels below the figure's inner top; all of it by default.
            title: Above the panel, left-aligned.
            axes: Changes to the template's axes.
        """
        axes = axes or Axes()
        self.count += 1
        panel = Panel(self, self.count)
        top, bottom = rows or (0, self.inner)
        domain = (max(0.0, 1 - bottom / self.inner), min(1.0, 1 - top / self.inner))
        linked = {"scaleanchor": panel.x, "scaleratio": 1} if axes.square else {}
        suffix = "" if self.count == 1 else str(self.count)
        self.layout[f"xaxis{suffix}"] = {"domain": columns, "anchor": panel.y, **axes.x}
        self.layout[f"yaxis{suffix}"] = {"domain": domain, "anchor": panel.x, **linked, **axes.y}
        if title:
            self._heading(title, columns[0], domain[1])
        return panel

    def build(self, **layout: Any) -> go.Figure:
        """The figure, with changes to its layout."""
        parts = {"annotations": self.annotations, "shapes": self.shapes, "images": self.images}
        return go.Figure(self.traces, {**self.layout, **parts, **layout})

    def legend_above(self, gap: int = 0) -> dict[str, Any]:
        """Settings of a legend that is always shown, `gap` pixels above the panels."""
        return {"legend": {"y": 1 + gap / self.inner, "yanchor": "bottom"}, "showlegend": True}

    def _heading(self, text: str, x: float, y: float) -> None:
        place = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        self.annotations.append({"text": text, **place, "font": {"size": 12}, "align": "left"})
