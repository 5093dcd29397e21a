"""A figure of several panels, each with axes of its own, placed by hand.

Columns are fractions of the width, which follows the page; rows are pixels, because the height is fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import plotly.graph_objects as go

from workbench.figures._theme import SMALL, TEMPLATE, title_text


class Axes(NamedTuple):
    """Settings of a panel's horizontal and vertical axis, in plotly's words."""

    x: Mapping[str, Any] = {}
    y: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Panel:
    """One pair of axes of a figure."""

    figure: go.Figure
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
        self.figure.add_trace(trace)

    def text(self, text: str, x: Any, y: Any, **style: Any) -> None:
        """A note at data coordinates."""
        style = {"showarrow": False, "font": {"size": SMALL}, **style}
        self.figure.add_annotation({"text": text, "x": x, "y": y, "xref": self.x, "yref": self.y, **style})

    def box(self, x0: float, y0: float, x1: float, y1: float, **style: Any) -> None:
        """A rectangle at data coordinates."""
        self.figure.add_shape(type="rect", x0=x0, y0=y0, x1=x1, y1=y1, xref=self.x, yref=self.y, **style)

    def line_across(self, y: float, **line: Any) -> None:
        """A horizontal line at a data value, from edge to edge."""
        self.figure.add_shape(
            type="line",
            x0=0,
            x1=1,
            y0=y,
            y1=y,
            xref=f"{self.x} domain",
            yref=self.y,
            line=line,
            layer="below",
        )

    def line_down(self, x: float, **line: Any) -> None:
        """A vertical line at a data value, from edge to edge."""
        self.figure.add_shape(
            type="line",
            x0=x,
            x1=x,
            y0=0,
            y1=1,
            xref=self.x,
            yref=f"{self.y} domain",
            line=line,
            layer="below",
        )


class Sheet:
    """A figure in the workbench's look that panels are added to.

    Args:
        height: In pixels, title included.
        title: Bold; empty for none.
        note: Behind the title, quieter.
        margin: Changes to the template's margins, in pixels.
    """

    def __init__(self, height: int, title: str = "", note: str = "", **margin: int) -> None:
        self.margin = {"l": 56, "r": 16, "t": 56, "b": 44, **margin}
        self.inner = height - self.margin["t"] - self.margin["b"]
        self.count = 0
        self.figure = go.Figure(layout={"template": TEMPLATE, "height": height, "margin": self.margin})
        if title:
            self.figure.update_layout(title_text=title_text(title, note))

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
        panel = Panel(self.figure, self.count)
        top, bottom = rows or (0, self.inner)
        domain = (max(0.0, 1 - bottom / self.inner), min(1.0, 1 - top / self.inner))
        suffix = "" if self.count == 1 else str(self.count)
        self.figure.layout[f"xaxis{suffix}"] = {"domain": columns, "anchor": panel.y, **axes.x}
        self.figure.layout[f"yaxis{suffix}"] = {"domain": domain, "anchor": panel.x, **axes.y}
        if title:
            self._heading(title, columns[0], domain[1])
        return panel

    def legend_below_title(self, gap: int = 0) -> None:
        """Put the legend right above the panels, `gap` pixels higher where they have headings."""
        self.figure.update_layout(legend={"y": 1 + gap / self.inner, "yanchor": "bottom"}, showlegend=True)

    def _heading(self, text: str, x: float, y: float) -> None:
        self.figure.add_annotation(
            text=text, x=x, y=y, xref="paper", yref="paper", xanchor="left", yanchor="bottom", showarrow=False,
            font={"size": 12}, align="left",
        )  # fmt: skip
