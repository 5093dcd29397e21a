"""Maps of masks: every unit is drawn, in the right place, with the right address."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from workbench.editing import BinaryMask, EditSpace
from workbench.editing.masks import SoftMasks
from workbench.errors import InvalidInputError
from workbench.figures import density_per_matrix, mask_comparison, mask_heatmap, nested_masks
from workbench.figures._unit_map import fold
from workbench.figures.masks import chance_iou

Texts = Callable[[go.Figure], str]
MakeSoft = Callable[..., SoftMasks]


def maps(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if trace.type == "heatmap"]


def unfolded(figure: go.Figure) -> np.ndarray:
    """What a figure shows of each unit, (matrices, units), found through the unit numbers it shows on hovering."""
    rows = []
    for trace in maps(figure):
        values = np.empty(trace.z.size, dtype=trace.z.dtype)
        values[trace.customdata.ravel()] = trace.z.ravel()
        rows.append(values)
    return np.stack(rows)


def test_a_binary_mask_is_drawn_bit_for_bit(soft: SoftMasks) -> None:
    mask = soft.binarize(0.9)
    figure = mask_heatmap(mask)
    assert np.array_equal(unfolded(figure), mask.bits.numpy())
    for trace, address in zip(maps(figure), mask.space.addresses, strict=True):
        kind = "row" if address.endswith("fc1") else "column"
        assert trace.hovertemplate.startswith(f"{address} {kind} %{{customdata}}<br>")


def test_the_headings_count_the_units(soft: SoftMasks, texts: Texts) -> None:
    mask = soft.binarize(0.9)
    text = texts(mask_heatmap(mask))
    assert "921 of 9,216 units may change (sparsity 0.90)" in text
    for address, row in zip(mask.space.addresses, mask.bits, strict=True):
        assert f"{address}<i>  {int(row.sum())} of 1536</i>" in text


def test_a_soft_mask_is_drawn_in_percent(make_soft: MakeSoft, texts: Texts) -> None:
    soft = make_soft(2)
    figure = mask_heatmap(soft, title="Two images")
    mean = soft.values.numpy().mean(axis=0)
    assert np.array_equal(unfolded(figure), (mean * 100).round().astype(np.uint8))
    assert f"mean {mean.mean():.2f}" in texts(figure)
    assert "Two images" in figure.layout.title.text
    shown = unfolded(figure)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (shown.min(), shown.max())


def test_a_constant_soft_mask_still_has_a_colour_range() -> None:
    space = EditSpace((1,), 12, 4)
    figure = mask_heatmap(SoftMasks(torch.full((1, 2, 12), 0.5), space))
    assert figure.layout.coloraxis.cmin < figure.layout.coloraxis.cmax


def test_the_same_unit_sits_at_the_same_place_in_both_matrices_of_a_block(soft: SoftMasks) -> None:
    figure = mask_heatmap(soft)
    for first, second in zip(maps(figure)[::2], maps(figure)[1::2], strict=True):
        assert np.array_equal(first.customdata, second.customdata)
        below = figure.layout[second.xaxis.replace("x", "xaxis")]
        assert below.matches == first.xaxis
        assert below.domain == figure.layout[first.xaxis.replace("x", "xaxis")].domain


def test_maps_do_not_overlap_and_stay_on_the_page() -> None:
    space = EditSpace(tuple(range(9)), 96, 24)
    figure = mask_heatmap(SoftMasks(torch.rand(1, *space.shape), space))
    boxes = [
        (
            *figure.layout[t.xaxis.replace("x", "xaxis")].domain,
            *figure.layout[t.yaxis.replace("y", "yaxis")].domain,
        )
        for t in maps(figure)
    ]
    assert len(boxes) == 18
    for i, (x0, x1, y0, y1) in enumerate(boxes):
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        for a0, a1, b0, b1 in boxes[:i]:
            assert x1 <= a0 + 1e-9 or a1 <= x0 + 1e-9 or y1 <= b0 + 1e-9 or b1 <= y0 + 1e-9


@pytest.mark.parametrize(
    ("units", "shape"), [(1536, (32, 48)), (3072, (48, 64)), (192, (12, 16)), (7, (1, 7)), (1, (1, 1))]
)
def test_folds_units_into_a_grid_without_gaps(units: int, shape: tuple[int, int]) -> None:
    assert fold(units) == shape


def test_nested_masks_show_the_highest_sparsity_that_keeps_a_unit(soft: SoftMasks) -> None:
    sparsities = [0.95, 0.5, 0.75]
    shown = unfolded(nested_masks(soft, sparsities))
    assert shown.dtype == np.uint8
    expected = np.zeros(shown.shape, dtype=int)
    for sparsity in sorted(sparsities):
        expected[soft.binarize(sparsity).bits.numpy()] = round(100 * sparsity)
    assert np.array_equal(shown, expected)
    names = [trace.name for trace in nested_masks(soft, sparsities).data if trace.type == "scatter"]
    assert names == ["up to sparsity 0.5", "up to sparsity 0.75", "up to sparsity 0.95"]


def test_nested_masks_take_fractions_of_a_percent(soft: SoftMasks) -> None:
    assert sorted(set(unfolded(nested_masks(soft, [0.5, 0.975])).ravel().tolist())) == [0, 50, 97.5]


def test_nested_masks_refuse_what_cannot_be_told_apart(soft: SoftMasks) -> None:
    with pytest.raises(InvalidInputError, match="7 sparsities to nest; give 1 to 6"):
        nested_masks(soft, [i / 10 for i in range(7)])
    with pytest.raises(InvalidInputError, match=r"sparsity 1.5 is outside \[0, 1\)"):
        nested_masks(soft, [0.5, 1.5])


def test_a_comparison_tells_both_from_either(make_soft: MakeSoft, texts: Texts) -> None:
    a, b = make_soft(1, 0).binarize(0.9), make_soft(1, 1).binarize(0.8)
    figure = mask_comparison(a, b, ("ant", "crab"))
    shown, in_a, in_b = unfolded(figure), a.bits.numpy(), b.bits.numpy()
    assert np.array_equal(shown == 11, in_a & in_b)
    assert np.array_equal(shown == 1, in_a & ~in_b)
    assert np.array_equal(shown == 10, in_b & ~in_a)
    assert f"IoU {a.iou(b):.2f}, by chance {chance_iou(a.count, b.count, a.bits.numel()):.2f}" in texts(
        figure
    )
    assert [t.name for t in figure.data if t.type == "scatter"] == ["only ant", "only crab", "both"]


def test_each_code_has_a_colour_of_its_own(make_soft: MakeSoft) -> None:
    """The colour bar is cut between the codes, so no code is drawn in its neighbour's colour."""
    figure = mask_comparison(make_soft(1, 0).binarize(0.9), make_soft(1, 1).binarize(0.9))
    axis = figure.layout.coloraxis
    colours = []
    for code in (0, 1, 10, 11):
        place = (code - axis.cmin) / (axis.cmax - axis.cmin)
        low = [colour for edge, colour in axis.colorscale if edge <= place][-1]
        high = next(colour for edge, colour in axis.colorscale if edge >= place)
        assert low == high
        colours.append(low)
    assert len(set(colours)) == 4
    legend = [t.marker.color for t in figure.data if t.type == "scatter"]
    assert legend == colours[1:]


def test_chance_iou_is_what_random_masks_have() -> None:
    space = EditSpace((0, 1, 2), 512, 8)
    draw = torch.Generator().manual_seed(0)

    def random_mask(count: int) -> BinaryMask:
        bits = torch.zeros(space.size, dtype=torch.bool)
        bits[torch.randperm(space.size, generator=draw)[:count]] = True
        return BinaryMask(bits.view(space.shape), space)

    found = np.mean([random_mask(900).iou(random_mask(300)) for _ in range(40)])
    assert chance_iou(900, 300, space.size) == pytest.approx(found, rel=0.05)
    assert chance_iou(0, 0, 10) == 1.0


def test_pictures_stand_beside_the_map(soft: SoftMasks, images: torch.Tensor, texts: Texts) -> None:
    figure = mask_heatmap(soft.binarize(0.5), pictures=[(images[0], "a crab"), (images[1], "an ant")])
    assert len(figure.layout.images) == 2
    assert all(image.source.startswith("data:image/png;base64,") for image in figure.layout.images)
    assert {"a crab", "an ant"} <= set(texts(figure).split("\n"))
    assert all(trace.coloraxis == "coloraxis" for trace in maps(figure))
    right = figure.layout[figure.layout.images[0].xref.replace("x", "xaxis")].domain[1]
    assert all(figure.layout[t.xaxis.replace("x", "xaxis")].domain[0] > right for t in maps(figure))


def test_density_per_matrix_shows_what_the_masks_say(make_soft: MakeSoft) -> None:
    masks = {"one": make_soft(1, 0).binarize(0.9), "two": make_soft(1, 1).binarize(0.5)}
    figure = density_per_matrix(masks)
    assert [bar.name for bar in figure.data] == ["one", "two"]
    for bar, mask in zip(figure.data, masks.values(), strict=True):
        assert bar.y == pytest.approx(mask.density_per_matrix().to_numpy(), abs=1e-4)
        assert [f"blocks.{x}" for x in bar.x] == list(mask.space.addresses)
    assert [line.y0 for line in figure.layout.shapes] == [0.1, 0.5]


def test_density_of_one_mask_needs_no_legend(soft: SoftMasks) -> None:
    figure = density_per_matrix(soft.binarize(0.9))
    assert [bar.name for bar in figure.data] == ["learned"]
    assert figure.layout.showlegend is False
    with pytest.raises(InvalidInputError, match="no masks to compare"):
        density_per_matrix({})
