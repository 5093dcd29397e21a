"""A figure of which edits survive which others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Panel, Sheet
from workbench.figures._theme import RIGHT, SMALL, WRONG


def conflict_matrix(
    survives: Sequence[Sequence[Any]] | np.ndarray,
    shared: Sequence[Sequence[float]] | np.ndarray,
    names: Sequence[str],
    title: str = "",
) -> go.Figure:
    """Two by two: does the edit of the row still hold with the edit of the column in the model, and what they share.

    Args:
        survives: ``[i, j]``: edit i holds beside edit j; on the diagonal alone. (n, n), as in `ConflictMatrix`.
        shared: ``[i, j]``: share of the rows and columns of edit i that edit j changes as well, (n, n).
        names: Of the edits, (n,).
        title: Default: "Edits two by two".

    Raises:
        InvalidInputError: shapes that do not fit each other, or fewer than two edits.

    Example:
        >>> matrix = conflict_matrix(judge, results)  # of workbench.editing
        >>> wb.figures.conflict_matrix(matrix.survives, matrix.shared, ["a", "b"])
    """
    held, common = np.asarray(survives, dtype=float), np.asarray(shared, dtype=float)
    n = len(names)
    if n < 2 or held.shape != (n, n) or common.shape != (n, n):
        raise InvalidInputError(
            f"{n} names, survival of shape {held.shape} and shares of shape {common.shape}; for n edits, at least "
            "two, both are (n, n)"
        )
    apart = ~np.eye(n, dtype=bool)
    lost = int(((held.diagonal()[:, None] == 1) & (held == 0) & apart).sum())
    note = f"{lost} of {n * (n - 1)} times an edit is undone by another; {common[apart].mean():.0%} of units shared"
    side = max(220, min(420, 26 * n))
    sheet = Sheet(side + 150, title or "Edits two by two", note, t=88, b=62, l=230, r=90)
    labels = [f"{i + 1} {name}" for i, name in enumerate(names)]
    first = _panel(sheet, (0, 0.44), labels, "blue: the row's edit holds beside the column's", named=True)
    _draw(first, held, labels, [[0, WRONG], [0.5, WRONG], [0.5, RIGHT], [1, RIGHT]], "holds: %{z}")
    second = _panel(
        sheet, (0.54, 0.98), labels, "share of the row's units that the column changes too", named=False
    )
    bar = {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": 12}, "tickformat": ".0%"}
    common = np.where(apart, common, np.nan)
    _draw(
        second, common.round(3), labels, "Viridis", "shared: %{z:.0%}", colorbar=bar, zmin=0, showscale=True
    )
    return sheet.build()


def _panel(
    sheet: Sheet, columns: tuple[float, float], labels: list[str], title: str, *, named: bool
) -> Panel:
    numbers = {"tickvals": labels, "ticktext": [label.split(" ")[0] for label in labels], "showgrid": False}
    rows = {"showgrid": False, "autorange": "reversed", "ticklabelstandoff": 6, "tickfont": {"size": SMALL}}
    if not named:
        rows |= {"tickvals": labels, "ticktext": numbers["ticktext"]}
    return sheet.panel(columns, title=title, axes=Axes({**numbers, "tickfont": {"size": SMALL}}, rows))


def _draw(panel: Panel, values: np.ndarray, labels: list[str], scale: Any, says: str, **style: Any) -> None:
    look = {"zmin": 0, "zmax": 1, "showscale": False} if "showscale" not in style else {}
    panel.draw(
        go.Heatmap(
            z=values,
            x=labels,
            y=labels,
            colorscale=scale,
            xgap=2,
            ygap=2,
            hovertemplate=f"%{{y}}<br>beside %{{x}}<br>{says}<extra></extra>",
            hoverongaps=False,
            **{**look, **style},
        )
    )
