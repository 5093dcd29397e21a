"""What every figure promises: pure, small, and legible on light and dark pages."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import plotly.graph_objects as go
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench import figures
from workbench.editing import EditTrajectory, cutmix
from workbench.editing.masks import SoftMasks
from workbench.figures import _theme

LARGEST = 100_000  # bytes of JSON


@pytest.fixture
def drawn(
    make_soft: Callable[..., SoftMasks],
    trajectory: EditTrajectory,
    image_maker: Callable[..., Tensor],
    group: Tensor,
    protected: Tensor,
) -> dict[str, Callable[[], go.Figure]]:
    """Every figure of masks and images at full size, by name of its function."""
    soft, other = make_soft(1, 0), make_soft(1, 1).binarize(0.9)
    mask, pictures = (
        soft.binarize(0.9),
        F.interpolate(image_maker(12, 16, 16), size=(112, 112), mode="nearest"),
    )
    mixed = cutmix(pictures[:6], pictures[6:], (14, 14), torch.Generator().manual_seed(0))
    return {
        "mask_heatmap": lambda: figures.mask_heatmap(soft),
        "nested_masks": lambda: figures.nested_masks(soft, [0.5, 0.75, 0.9, 0.95]),
        "mask_comparison": lambda: figures.mask_comparison(mask, other),
        "density_per_matrix": lambda: figures.density_per_matrix({"a": mask, "b": other}),
        "iou_matrix": lambda: figures.iou_matrix([mask, other] * 12, ["x"] * 24, ["g"] * 24),
        "image_grid": lambda: figures.image_grid(pictures[:8], ["t"] * 8),
        "cutmix_pairs": lambda: figures.cutmix_pairs(
            pictures[:4], pictures[6:10], _first(mixed, 4), [mask] * 4
        ),
        "edit_course": lambda: figures.edit_course(trajectory, 1),
        "class_probabilities": lambda: figures.class_probabilities(trajectory, 1),
        "weight_change": lambda: figures.weight_change(trajectory, 1),
        "edit_step": lambda: figures.edit_step(trajectory, 1, group, protected),
        "neighbours": lambda: figures.neighbours(trajectory, 1, group, protected),
    }


def _first(mixed: Any, count: int) -> Any:
    return type(mixed)(mixed.images[:count], mixed.rectangles[:count], mixed.patch)


NAMES = [
    "mask_heatmap",
    "nested_masks",
    "mask_comparison",
    "density_per_matrix",
    "iou_matrix",
    "image_grid",
    "cutmix_pairs",
    "edit_course",
    "class_probabilities",
    "weight_change",
    "edit_step",
    "neighbours",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_small_and_the_same_twice(name: str, drawn: dict[str, Callable[[], go.Figure]]) -> None:
    text = drawn[name]().to_json()
    assert text == drawn[name]().to_json()
    assert len(text) < LARGEST
    json.loads(text)  # no NaN outside encoded arrays


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_leaves_page_and_text_colour_to_its_template(
    name: str, drawn: dict[str, Callable[[], go.Figure]]
) -> None:
    layout = drawn[name]().layout
    assert layout.template.layout.paper_bgcolor == layout.template.layout.plot_bgcolor == _theme.CLEAR
    assert layout.paper_bgcolor is None
    assert layout.font.color is None
    assert not [note.text for note in layout.annotations if note.font.color is not None]
    assert layout.height is not None
    assert layout.width is None


def test_figures_do_not_change_what_they_are_given(
    trajectory: EditTrajectory, group: Tensor, protected: Tensor, soft: SoftMasks
) -> None:
    before = copy.deepcopy((trajectory.probabilities, trajectory.row_change, group, soft.values))
    figures.edit_step(trajectory, 2, group, protected)
    figures.weight_change(trajectory, 2)
    figures.nested_masks(soft, [0.5, 0.9])
    after = (trajectory.probabilities, trajectory.row_change, group, soft.values)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_text_and_marks_stand_out_on_both_pages(page: str) -> None:
    assert _contrast(_theme.TEXT, page) > 4.2
    for colour in (_theme.RIGHT, _theme.WRONG, _theme.GREEN, _theme.VIOLET, _theme.GREY):
        assert _contrast(colour, page) > 3


def _sources() -> Iterator[str]:
    from pathlib import Path

    for path in Path(figures.__file__).parent.glob("*.py"):
        yield path.read_text(encoding="utf-8")


def test_no_figure_shows_itself() -> None:
    assert not [source for source in _sources() if re.search(r"\.show\(|\.write_(image|html)\(", source)]
