"""Figures of masks: where an edit may change a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from workbench.errors import InvalidInputError
from workbench.figures._pictures import Picture, add_pictures, picture_axes, png_uri, wrapped
from workbench.figures._sheet import Axes, Sheet
from workbench.figures._theme import BLUE, FAINT, GREEN, ORANGE, PINK, RED, SKY, TEXT, VIOLET
from workbench.figures._unit_map import HEADING, add_legend, add_unit_maps, discrete, map_height

if TYPE_CHECKING:
    from workbench.editing import BinaryMask, EditSpace, SoftMasks

_WITH_PICTURES = 0.15  # of the width

#: (image, caption): pictures beside a map.
Pictures = Sequence[tuple[Any, str]]


def mask_heatmap(mask: BinaryMask | SoftMasks, title: str = "", pictures: Pictures = ()) -> go.Figure:
    """A map of a mask over block, matrix and hidden unit.

    Args:
        mask: Binary masks show which units may change; soft ones how high each ranks (several are averaged).
        title: Default: what kind of mask it is.
        pictures: Images (3, H, W) in [0, 1] with captions, drawn to the left.

    Example:
        >>> mask_heatmap(masks.binarize(sparsity=0.9))
    """
    from workbench.editing import BinaryMask  # brings torch, which whoever has a mask has loaded

    if isinstance(mask, BinaryMask):
        return _binary_map(mask, title, pictures)
    return _soft_map(mask, title, pictures)


def nested_masks(soft: SoftMasks, sparsities: Sequence[float], title: str = "") -> go.Figure:
    """One soft mask cut at several sparsities: each unit is coloured by the highest sparsity that keeps it.

    Masks are nested, so a unit kept at 0.95 is kept at every lower sparsity too.

    Args:
        soft: The masks of one image (several are averaged).
        sparsities: Fractions of zeros, each in [0, 1), at most six.

    Raises:
        InvalidInputError: none or too many sparsities, or one outside [0, 1).
    """
    levels = sorted(set(sparsities))
    if not 1 <= len(levels) <= 6:
        raise InvalidInputError(
            f"{len(levels)} sparsities to nest; give 1 to 6, for example [0.5, 0.75, 0.9]"
        )
    masks = [soft.binarize(sparsity) for sparsity in levels]
    depth = np.sum([mask.bits.numpy() for mask in masks], axis=0)
    percent = small_array([0.0, *(round(100 * s, 3) for s in levels)])
    coding = Coding(
        values=percent,
        names=("never kept", *(f"up to sparsity {s:g}" for s in levels)),
        colours=(FAINT, *_ramp(len(levels))),
        hover="kept up to sparsity %{z} %",
    )
    notes = [f"{(row == len(levels)).sum()} to {(row > 0).sum()} of {len(row)}" for row in depth]
    counts = f"{masks[-1].count:,} of {depth.size:,} units at sparsity {levels[-1]:g}"
    return _coded_map(percent[depth], soft.space, coding, notes, (title or "Nested masks", counts))


def mask_comparison(
    a: BinaryMask,
    b: BinaryMask,
    names: tuple[str, str] = ("first", "second"),
    title: str = "",
    pictures: Pictures = (),
) -> go.Figure:
    """Two masks on one map: units in both, in the first only and in the second only, with their IoU.

    The title also gives the IoU that two random masks of these sizes would have.

    Raises:
        InvalidInputError: the masks are of different spaces.
    """
    iou = a.iou(b)
    in_a, in_b = a.bits.numpy(), b.bits.numpy()
    coding = Coding(
        values=np.array([0, 1, 10, 11], dtype=np.uint8),
        names=("neither", f"only {names[0]}", f"only {names[1]}", "both"),
        colours=(FAINT, SKY, ORANGE, VIOLET),
        hover=f"in ({names[1]}, {names[0]}): %{{z:02d}}",
    )
    notes = [f"{row.sum()} shared" for row in in_a & in_b]
    note = f"IoU {iou:.2f}, by chance {chance_iou(a.count, b.count, in_a.size):.2f}"
    codes = (10 * in_b + in_a).astype(np.uint8)
    return _coded_map(codes, a.space, coding, notes, (title or "Two masks", note), pictures)


def density_per_matrix(masks: BinaryMask | Mapping[str, BinaryMask], title: str = "") -> go.Figure:
    """Fraction of units that may change in each matrix, for one mask or several by name.

    Dotted lines show each mask's overall density: top-k is taken over all matrices together, so the shares differ.
    """
    named = dict(masks) if isinstance(masks, Mapping) else {masks.origin: masks}
    if not named:
        raise InvalidInputError("no masks to compare; give a mask, or a dictionary of masks by name")
    sheet = Sheet(340, title or "Density of each matrix", b=36)
    panel = sheet.panel(axes=Axes(y={"title": {"text": "fraction that may change"}, "rangemode": "tozero"}))
    for (name, mask), colour in zip(named.items(), _cycle(len(named)), strict=True):
        density = mask.density_per_matrix()
        panel.draw(
            go.Bar(
                x=[address.removeprefix("blocks.") for address in density.index],
                y=density.to_numpy().round(4),
                name=name,
                marker_color=colour,
                hovertemplate="blocks.%{x}<br>%{y:.3f} may change<extra>" + name + "</extra>",
            )
        )
    for overall in sorted({round(mask.density, 3) for mask in named.values()}):
        panel.line_across(overall, color=TEXT, width=1.5, dash="dot")
    return sheet.build(bargap=0.35, bargroupgap=0.08, showlegend=len(named) > 1)


def chance_iou(a: int, b: int, size: int) -> float:
    """IoU to expect of two random masks with `a` and `b` of `size` units (ratio of expected counts).

    Example:
        >>> round(chance_iou(100, 100, 1000), 3)
        0.053
    """
    shared = a * b / size
    union = a + b - shared
    return shared / union if union else 1.0


@dataclass(frozen=True)
class Coding:
    """What the few numbers of a map stand for: increasing values with names and colours, background first."""

    values: np.ndarray
    names: Sequence[str]
    colours: Sequence[str]
    hover: str

    def legend(self) -> list[tuple[str, str]]:
        """Name and colour of everything but the background."""
        return list(zip(self.names, self.colours, strict=True))[1:]


def _binary_map(mask: BinaryMask, title: str, pictures: Pictures) -> go.Figure:
    codes = mask.bits.numpy().astype(np.uint8)
    coding = Coding(np.arange(2), ("stays", "may change"), (FAINT, BLUE), "may change: %{z}")
    notes = [f"{row.sum()} of {len(row)}" for row in codes]
    note = f"{mask.count:,} of {codes.size:,} units may change (sparsity {mask.sparsity:.2f})"
    return _coded_map(codes, mask.space, coding, notes, (title or f"A {mask.origin} mask", note), pictures)


def _soft_map(masks: SoftMasks, title: str, pictures: Pictures) -> go.Figure:
    values = masks.values.numpy().mean(axis=0)
    percent = (values * 100).round().astype(np.uint8)
    notes = [f"mean {row.mean():.2f}" for row in values]
    heading = (title or f"A {masks.origin} soft mask", f"mean {values.mean():.2f}")
    sheet = _map_sheet(masks.space, heading, top=44, right=70)
    left = _WITH_PICTURES if pictures else 0.0
    add_unit_maps(sheet, percent, masks.space, notes, "soft mask %{z} %", left)
    _add_pictures(sheet, pictures)
    bar = {"ticksuffix": " %", "thickness": 12, "outlinewidth": 0, "tickfont": {"size": 12}}
    low, high = int(percent.min()), max(int(percent.max()), int(percent.min()) + 1)
    return sheet.build(coloraxis={"colorscale": "Viridis", "cmin": low, "cmax": high, "colorbar": bar})


def _coded_map(
    codes: np.ndarray,
    space: EditSpace,
    coding: Coding,
    notes: Sequence[str],
    heading: tuple[str, str],
    pictures: Pictures = (),
) -> go.Figure:
    sheet = _map_sheet(space, heading, top=84)
    left = _WITH_PICTURES if pictures else 0.0
    panels = add_unit_maps(sheet, codes, space, notes, coding.hover, left, xgap=1, ygap=1)
    add_legend(panels[0], coding.legend())
    _add_pictures(sheet, pictures)
    return sheet.build(
        coloraxis=discrete(coding.values.tolist(), coding.colours), **sheet.legend_above(gap=4)
    )


def _map_sheet(space: EditSpace, heading: tuple[str, str], top: int, right: int = 8) -> Sheet:
    return Sheet(top + map_height(space) + 12, *heading, t=top, b=12, l=4, r=right)


def _add_pictures(sheet: Sheet, pictures: Pictures) -> None:
    """Stack pictures in the free column on the left of the maps."""
    if not pictures:
        return
    panel = sheet.panel(
        (0, _WITH_PICTURES - 0.02), (HEADING, sheet.inner), axes=picture_axes(1, 1.5 * len(pictures))
    )
    stacked = [
        Picture(png_uri(image), 0, 1.5 * i, wrapped(caption)) for i, (image, caption) in enumerate(pictures)
    ]
    add_pictures(panel, stacked)


def small_array(values: Sequence[float]) -> np.ndarray:
    """The values as bytes where they are small whole numbers, else as 32-bit floats."""
    array = np.asarray(values)
    whole = np.all(array == array.round()) and array.min() >= 0 and array.max() < 256
    return array.astype(np.uint8 if whole else np.float32)


def _ramp(count: int) -> list[str]:
    """Up to six colours from cool to hot, all visible on light and dark."""
    kept = {1: [5], 2: [0, 5], 3: [0, 1, 5], 4: [0, 1, 4, 5], 5: [0, 1, 2, 4, 5], 6: range(6)}[count]
    return [[SKY, BLUE, GREEN, PINK, ORANGE, RED][i] for i in kept]


def _cycle(count: int) -> list[str]:
    colours = [BLUE, ORANGE, GREEN, PINK, SKY, RED]
    return [colours[i % len(colours)] for i in range(count)]
