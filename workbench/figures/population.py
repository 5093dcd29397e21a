"""Figures of what a model gets right and wrong over a whole population of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Sheet
from workbench.figures._theme import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY

if TYPE_CHECKING:
    import pandas as pd

    from workbench.data.failures import FailureGroup

_ROLE_COLOURS = {"source": BLUE, "validation": GREEN, "shift": RED}
_STYLE_COLOURS = (RED, BLUE, ORANGE, GREEN, PINK, SKY)


def accuracy_by_style(table: pd.DataFrame, title: str = "") -> go.Figure:
    """Accuracy on each style with a 95 % interval (Wilson), coloured by the style's role.

    Args:
        table: One row an image with ``style``, ``role`` and ``right``, as `workbench.data.failures.accuracy_table`
            gives it.

    Raises:
        InvalidInputError: a column is missing, or there are no rows.
    """
    missing = {"style", "role", "right"} - set(table.columns)
    if missing or table.empty:
        raise InvalidInputError(
            f"an accuracy table has a row an image and the columns style, role and right; this one has "
            f"{len(table)} rows and lacks {', '.join(sorted(missing)) or 'nothing'}"
        )
    counted = table.groupby(["role", "style"], sort=False)["right"].agg(["sum", "count"]).reset_index()
    low, high = wilson_interval(counted["sum"].to_numpy(), counted["count"].to_numpy())
    counted = counted.assign(accuracy=counted["sum"] / counted["count"], low=low, high=high)
    sheet = Sheet(96 + 32 * len(counted), title or "Accuracy by style", "95 % intervals", t=76, l=200, b=36)
    axis = {"range": [0, 1.1], "tickvals": np.linspace(0, 1, 6), "tickformat": ".0%"}
    panel = sheet.panel(axes=Axes(axis, {"autorange": "reversed", "ticklabelstandoff": 6}))
    for role, rows in counted.groupby("role", sort=False):
        colour = _ROLE_COLOURS.get(str(role), GREY)
        panel.draw(
            go.Scatter(
                x=rows["accuracy"].round(4),
                y=rows["style"],
                mode="markers",
                name=str(role),
                marker={"size": 11, "color": colour},
                error_x={
                    "symmetric": False,
                    "array": (rows["high"] - rows["accuracy"]).round(4),
                    "arrayminus": (rows["accuracy"] - rows["low"]).round(4),
                    "thickness": 2,
                    "width": 5,
                },
                customdata=rows[["sum", "count"]].to_numpy(),
                hovertemplate="%{y}<br>%{x:.1%} right (%{customdata[0]} of %{customdata[1]})<extra></extra>",
            )
        )
        for _, row in rows.iterrows():
            text = f"{row['accuracy']:.1%}"
            panel.text(text, row["high"], row["style"], xanchor="left", xshift=10, font={"size": 12})
    return sheet.build()


def failure_group_sizes(groups: Sequence[FailureGroup], most: int = 16, title: str = "") -> go.Figure:
    """Size of the largest failure groups, coloured by style.

    Args:
        groups: As `workbench.data.failures.failure_groups` gives them, the largest first.
        most: Groups to show.

    Raises:
        InvalidInputError: no groups.
    """
    if not groups:
        raise InvalidInputError("no failure groups to show; lower min_size, or look at more styles")
    shown = groups[:most]
    note = f"{len(groups)} groups of at least {min(len(group) for group in groups)} drawings"
    note += f", the largest {len(shown)} shown" if len(shown) < len(groups) else ""
    sheet = Sheet(100 + 26 * len(shown), title or "Failure groups", note, t=76, l=270, b=24)
    names = [group.name for group in shown]
    order = {"categoryorder": "array", "categoryarray": names[::-1], "ticklabelstandoff": 6}
    labels = {"tickvals": names, "ticktext": [name.split(" (")[0] for name in names]}
    panel = sheet.panel(axes=Axes({"rangemode": "tozero", "visible": False}, {**order, **labels}))
    styles = list(dict.fromkeys(group.style for group in shown))
    for style, colour in zip(styles, _STYLE_COLOURS * len(styles), strict=False):
        mine = [group for group in shown if group.style == style]
        panel.draw(
            go.Bar(
                x=[len(group) for group in mine],
                y=[group.name for group in mine],
                orientation="h",
                name=style,
                marker_color=colour,
                text=[str(len(group)) for group in mine],
                textposition="outside",
                cliponaxis=False,
                hovertemplate="%{y}<br>%{x} drawings<extra></extra>",
            )
        )
    return sheet.build(bargap=0.3, showlegend=True)


def wilson_interval(right: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the 95 % Wilson interval of a proportion.

    Example:
        >>> low, high = wilson_interval(np.array([8]), np.array([10]))
        >>> low.round(3), high.round(3)
        (array([0.49]), array([0.943]))
    """
    z = 1.959964
    share = right / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return centre - half, centre + half
