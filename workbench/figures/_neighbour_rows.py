"""Rows of thumbnails around an edit: what it fixes and what it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures._pictures import (
    Picture,
    add_pictures,
    check_count,
    picture_axes,
    png_uri,
    wrapped,
)
from workbench.figures._sheet import Sheet
from workbench.figures._theme import RIGHT, SMALL, WRONG

if TYPE_CHECKING:
    from workbench.editing import EditTrajectory, StepEvaluation

_COLUMNS = 14
_THUMBNAIL = 72  # pixels of the PNG; shown at about the same size
_HEADING, _ROW = 32, 112  # pixels: a heading, a line of thumbnails


@dataclass(frozen=True)
class NeighbourRow:
    """Thumbnails in one or more lines: pictures, captions, and whether all is well with each."""

    heading: str
    uris: Sequence[str]
    captions: Sequence[str]
    well: Sequence[bool]

    @property
    def height(self) -> int:
        """In pixels, with heading and captions."""
        return _HEADING + _ROW * self.lines

    @property
    def lines(self) -> int:
        """Lines of thumbnails."""
        return -(-len(self.uris) // _COLUMNS)

    def draw(self, sheet: Sheet, top: int) -> None:
        """Add a panel with the thumbnails, `top` pixels below the figure's inner top."""
        pitch = 1.42
        bottom = top + self.height - _HEADING
        panel = sheet.panel((0, 1), (top, bottom), self.heading, picture_axes(_COLUMNS, self.lines * pitch))
        pictures = [
            Picture(
                uri,
                i % _COLUMNS,
                i // _COLUMNS * pitch,
                caption,
                size=0.9,
                border=RIGHT if well else WRONG,
                width=3,
                badge="✓" if well else "✗",
            )
            for i, (uri, caption, well) in enumerate(zip(self.uris, self.captions, self.well, strict=True))
        ]
        add_pictures(panel, pictures, text_size=SMALL - 1)


def neighbour_rows(
    trajectory: EditTrajectory,
    step: int,
    group_images: Sequence[Any] | None,
    protected_images: Sequence[Any] | None,
    titles: Sequence[str] = (),
    lines: int = 2,
) -> list[NeighbourRow]:
    """The rows of thumbnails at a step, the group's in `lines` lines at most; none where nothing was evaluated."""
    found = trajectory.evaluation
    rows = []
    if found is not None and group_images is not None and len(group_images):
        rows.append(_group_row(found, step, group_images, titles, lines * _COLUMNS))
    if found is not None and protected_images is not None and len(protected_images):
        rows.append(_protected_row(found, step, protected_images, trajectory.class_names))
    return rows


def _group_row(
    found: StepEvaluation, step: int, images: Sequence[Any], titles: Sequence[str], most: int
) -> NeighbourRow:
    n = found.group.shape[1]
    check_count("images of the group", images, n)
    if titles:
        check_count("titles", titles, n)
    fixed = found.fixed(step)
    edited = found.evaluated.edited
    # The edited image comes first, the others in their own order.
    shown = sorted(range(n), key=lambda i: i != edited)[:most]
    more = f", {len(shown)} shown" if n > len(shown) else ""
    return NeighbourRow(
        f"the group's failures: <b>{len(fixed)} of {n} right</b>{more}",
        [png_uri(images[i], _THUMBNAIL, 32) for i in shown],
        [
            ("<b>edited</b><br>" if i == edited else "") + wrapped(titles[i] if titles else "", 11)
            for i in shown
        ],
        [i in fixed for i in shown],
    )


def _protected_row(
    found: StepEvaluation, step: int, images: Sequence[Any], class_names: Sequence[str]
) -> NeighbourRow:
    m = found.protected.shape[1]
    check_count("protected images", images, m)
    broken = found.broken(step)
    ever = (found.protected != found.evaluated.before).sum(dim=0).numpy()
    # Those that are broken for most steps come first; the order is the same at every step.
    shown = np.argsort(-ever, kind="stable")[:_COLUMNS]
    now = [class_names[c] for c in found.protected[step][shown].tolist()]
    return NeighbourRow(
        f"protected images: <b>{len(broken)} of {m} changed</b>, {len(shown)} shown with what they are taken for",
        [png_uri(images[i], _THUMBNAIL, 32) for i in shown],
        [wrapped(name, 11) for name in now],
        [i not in broken for i in shown],
    )
