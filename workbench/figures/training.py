"""Figures of a hypernetwork's training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Panel, Sheet
from workbench.figures._theme import BLUE, ORANGE, RED, SMALL

if TYPE_CHECKING:
    import pandas as pd

_POINTS = 300  # of a line; longer logs are averaged
_PANELS = (
    ("pseudo-failures' loss (KL)", (("kl_start", "first search step", BLUE), ("kl", "last search step", RED))),
    ("density", (("label_density", "searched masks", BLUE), ("mask_density", "predicted masks", RED))),
    ("specific to the image", (("label_specific", "searched masks", BLUE), ("mask_specific", "predicted masks", RED))),
    ("prediction loss", (("bce", "cross-entropy", ORANGE),)),
)  # fmt: skip


def training_curves(log: pd.DataFrame, title: str = "") -> go.Figure:
    """The course of a meta-training: what the search gains, how dense and how specific masks are, how they are learnt.

    Args:
        log: The CSV that `workbench train hypernetwork` writes, read with pandas.

    Raises:
        InvalidInputError: no rows, or not such a log.

    Example:
        >>> training_curves(pd.read_csv("runs/hypernetwork.csv"))
    """
    needed = ["iteration", *(column for _, lines in _PANELS for column, _, _ in lines)]
    missing = [column for column in needed if column not in log.columns]
    if missing or log.empty:
        raise InvalidInputError(
            f"a training log has one row an iteration; this one has {len(log)} rows and lacks "
            f"{', '.join(missing) or 'nothing'}"
        )
    per_point = -(-len(log) // _POINTS)
    means = log[needed].groupby(np.arange(len(log)) // per_point).mean()
    note = f"{len(log):,} iterations" + (f", means over {per_point}" if per_point > 1 else "")
    sheet = Sheet(560, title or "Training of the hypernetwork", note, t=72)
    for k, (heading, lines) in enumerate(_PANELS):
        left, top = 0.53 * (k % 2), 240 * (k // 2)
        label = {"title": {"text": "iteration"}} if k >= 2 else {}
        axes = Axes({"showgrid": False, **label}, {"rangemode": "tozero"})
        panel = sheet.panel((left, left + 0.47), (top, top + 188), _heading(heading, lines), axes)
        for column, name, colour in lines:
            _draw_line(panel, means, column, name, colour)
    return sheet.build()


def _heading(text: str, lines: tuple[tuple[str, str, str], ...]) -> str:
    """The panel's heading with its legend in it: the lines' names in their colours."""
    names = "   ".join(f"<span style='color:{colour}'>━</span> {name}" for _, name, colour in lines)
    return f"<b>{text}</b>   <span style='font-size:{SMALL}px'>{names}</span>"


def _draw_line(panel: Panel, means: pd.DataFrame, column: str, name: str, colour: str) -> None:
    trace = go.Scatter(
        x=means["iteration"].astype(np.float32),
        y=means[column].astype(np.float32),
        mode="lines",
        line={"color": colour, "width": 1.8},
        name=name,
        showlegend=False,
        hovertemplate=f"iteration %{{x:.0f}}<br>{name} %{{y:.4f}}<extra></extra>",
    )
    panel.draw(trace)
