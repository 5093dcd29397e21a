"""A figure of the search for the blocks to edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Sheet
from workbench.figures._theme import ORANGE, SMALL

if TYPE_CHECKING:
    import pandas as pd


def window_heatmap(areas: pd.DataFrame, default: Sequence[int] = (), title: str = "") -> go.Figure:
    """Area under the front of plain fine-tuning, by kind of layer and window of blocks.

    Args:
        areas: One row a window: ``kind`` (feed-forward or attention), ``blocks``, ``area``, ``area_low``,
            ``area_high``.
        default: Blocks to frame, 0-based, in the row of the feed-forward networks.
        title: Default: "Which blocks to edit".

    Raises:
        InvalidInputError: no rows, or a column is missing.
    """
    needed = {"kind", "blocks", "area", "area_low", "area_high"}
    missing = sorted(needed - set(areas.columns))
    if missing or areas.empty:
        raise InvalidInputError(
            f"a window search has the columns {', '.join(sorted(needed))}; this one has {len(areas)} rows and lacks "
            f"{', '.join(missing) or 'nothing'}"
        )
    kinds = [kind for kind in ("feed-forward", "attention") if kind in set(areas["kind"])]
    kinds += [kind for kind in dict.fromkeys(areas["kind"]) if kind not in kinds]
    windows = sorted({tuple(blocks) for blocks in areas["blocks"]})
    names = [f"{w[0]}–{w[-1]}" if len(w) > 1 else str(w[0]) for w in windows]
    values = np.full((3, len(kinds), len(windows)), np.nan)
    for row in areas.to_dict("records"):
        at = kinds.index(row["kind"]), windows.index(tuple(row["blocks"]))
        values[:, at[0], at[1]] = row["area"], row["area_low"], row["area_high"]
    note = "area under the front; the frame is the default" if default else "area under the front"
    sheet = Sheet(128 + 64 * len(kinds), title or "Which blocks to edit", note, t=60, b=52, l=110, r=90)
    axes = Axes(
        {"title": {"text": "blocks, 0-based"}, "showgrid": False, "type": "category"},
        {"autorange": "reversed", "showgrid": False, "ticklabelstandoff": 6},
    )
    panel = sheet.panel(axes=axes)
    panel.draw(
        go.Heatmap(
            z=values[0].round(4),
            x=names,
            y=kinds,
            colorscale="Viridis",
            xgap=2,
            ygap=2,
            text=[["" if np.isnan(v) else f"{v:.3f}" for v in row] for row in values[0]],
            texttemplate="%{text}",
            textfont={"size": SMALL + 1},
            customdata=np.moveaxis(values[1:], 0, -1).round(3),
            colorbar={"thickness": 12, "outlinewidth": 0, "tickfont": {"size": 12}},
            hovertemplate="%{y}, blocks %{x}<br>area %{z:.3f} (%{customdata[0]} to %{customdata[1]})<extra></extra>",
            hoverongaps=False,
        )
    )
    if tuple(default) in windows and "feed-forward" in kinds:
        x, y = windows.index(tuple(default)), kinds.index("feed-forward")
        panel.boxes([(x - 0.5, y - 0.5, x + 0.5, y + 0.5)], color=ORANGE, width=3)
    return sheet.build()
