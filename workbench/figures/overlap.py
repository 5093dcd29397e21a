"""How alike the masks of many images are, within groups of the same failure and between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._sheet import Axes, Panel, Sheet
from workbench.figures._theme import ORANGE, SMALL
from workbench.figures.masks import chance_iou

if TYPE_CHECKING:
    from workbench.editing import BinaryMask


@dataclass(frozen=True)
class MaskOverlap:
    """Intersection over union of every pair of masks.

    Args:
        iou: (masks, masks), symmetric, 1 on the diagonal.
        within: Mean over pairs of different masks of the same group; None where there is no such pair.
        between: Mean over pairs of different groups; None where there is one group only.
        chance: IoU to expect of two random masks of the mean size.
    """

    iou: np.ndarray
    within: float | None
    between: float | None
    chance: float


def mask_overlap(masks: Sequence[BinaryMask], groups: Sequence[str]) -> MaskOverlap:
    """Compare every mask with every other.

    Args:
        masks: Of one space.
        groups: The group each belongs to.

    Raises:
        InvalidInputError: fewer than two masks, not one group a mask, or masks of different spaces.

    Example:
        >>> mask_overlap([mask, mask], ["cats", "cats"]).within
        1.0
    """
    if len(masks) < 2 or len(groups) != len(masks):
        raise InvalidInputError(
            f"{len(masks)} masks and {len(groups)} groups; give at least two masks and one group for each"
        )
    iou = np.array([[a.iou(b) for b in masks] for a in masks])
    names = np.asarray(groups)
    same = names[:, None] == names[None]
    pairs = np.triu(np.ones_like(same), k=1)
    count = int(np.mean([mask.count for mask in masks]))
    return MaskOverlap(
        iou,
        _mean(iou[same & pairs]),
        _mean(iou[~same & pairs]),
        chance_iou(count, count, masks[0].bits.numel()),
    )


def iou_matrix(
    masks: Sequence[BinaryMask], labels: Sequence[str], groups: Sequence[str], title: str = ""
) -> go.Figure:
    """IoU of every pair of masks, groups framed, with the mean within groups and between them.

    Args:
        masks: Of one space; those of a group next to each other.
        labels: Name of each mask, shown on hovering.
        groups: Group of each mask, shown at the side.

    Raises:
        InvalidInputError: fewer than two masks, or not one label and one group a mask.
    """
    overlap = mask_overlap(masks, groups)
    if len(labels) != len(masks):
        raise InvalidInputError(f"{len(labels)} labels for {len(masks)} masks; give one a mask")
    note = f"within groups {_shown(overlap.within)}, between {_shown(overlap.between)}, by chance {overlap.chance:.2f}"
    side = max(300, min(560, 22 * len(masks)))
    sheet = Sheet(side + 76, title or "IoU of masks", note, t=60, b=16, l=8)
    hidden = {"visible": False, "constrain": "domain", "range": [-0.5, len(masks) - 0.5]}
    panel = sheet.panel(
        (0.24, 0.8),
        axes=Axes(
            {**hidden, "constraintoward": "right"},
            {**hidden, "range": [len(masks) - 0.5, -0.5], "scaleanchor": "x", "constraintoward": "top"},
        ),
    )
    _draw_pairs(panel, overlap.iou, labels)
    _frame_groups(panel, groups)
    return sheet.build()


def _draw_pairs(panel: Panel, iou: np.ndarray, labels: Sequence[str]) -> None:
    shown = iou.astype(np.float32).round(3)
    np.fill_diagonal(shown, np.nan)  # a mask with itself says nothing and would stretch the colours
    # The number makes names unique, so that the same thing drawn in two styles keeps two rows.
    names = [f"{i + 1} {label}" for i, label in enumerate(labels)]
    bar = {"x": 0.82, "thickness": 12, "outlinewidth": 0, "tickfont": {"size": 12}, "title": {"text": "IoU"}}
    panel.draw(
        go.Heatmap(
            z=shown,
            x=names,
            y=names,
            colorscale="Viridis",
            colorbar=bar,
            xgap=1,
            ygap=1,
            hovertemplate="%{y} and %{x}<br>IoU %{z:.2f}<extra></extra>",
            hoverongaps=False,
        )
    )


def _frame_groups(panel: Panel, groups: Sequence[str]) -> None:
    """A frame around each run of one group, with its name on the left."""
    frames = []
    starts = [i for i, name in enumerate(groups) if i == 0 or groups[i - 1] != name]
    for start, end in zip(starts, [*starts[1:], len(groups)], strict=True):
        low, high = start - 0.5, end - 0.5
        frames.append((low, low, high, high))
        panel.text(
            groups[start].replace(" (", "<br>("),
            -0.5,
            (low + high) / 2,
            xanchor="right",
            xshift=-8,
            align="right",
            font={"size": SMALL + 1},
        )
    panel.boxes(frames, color=ORANGE, width=2)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
