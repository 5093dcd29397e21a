"""Masks: exactly k units, nested, ties by index, and the published way of choosing them."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from workbench.editing import BinaryMask, EditSpace, SoftMasks
from workbench.editing.masks import check_sparsity, kept_units, top_units
from workbench.errors import InvalidInputError

SPACE = EditSpace(blocks=(4, 7), units=10, width=3)

#: Few values, so that ties are common.
scores = st.builds(
    torch.from_numpy,
    arrays("float32", st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.integers(0, 6)),
)
percent = st.integers(0, 99)


@given(scores, percent)
def test_exactly_k_of_the_largest(values: Tensor, zeros: int) -> None:
    bits = top_units(values, zeros / 100)
    k = math.floor(Fraction(100 - zeros, 100) * values.numel())  # exact arithmetic
    assert bits.dtype == torch.bool
    assert bits.shape == values.shape
    assert int(bits.sum()) == k
    if 0 < k < values.numel():
        assert values[bits].min() >= values[~bits].max()


@given(scores, percent, percent)
def test_masks_of_one_score_are_nested(values: Tensor, a: int, b: int) -> None:
    sparse, dense = top_units(values, max(a, b) / 100), top_units(values, min(a, b) / 100)
    assert not (sparse & ~dense).any()


@given(scores, percent)
def test_ties_go_to_the_lower_index(values: Tensor, zeros: int) -> None:
    flat, bits = values.flatten(), top_units(values, zeros / 100).flatten()
    for value in flat.unique():
        chosen = bits[flat == value]
        assert torch.equal(chosen, chosen.sort(descending=True, stable=True).values)


@given(scores, percent)
def test_the_published_choice_is_strictly_above_the_kth(values: Tensor, zeros: int) -> None:
    k = math.floor(Fraction(100 - zeros, 100) * values.numel())
    bits = top_units(values, zeros / 100, "published")
    kth = values.flatten().sort(descending=True).values[max(k, 1) - 1]
    assert torch.equal(bits, values > kth)
    assert int(bits.sum()) <= max(k - 1, 0)


@pytest.mark.parametrize(
    ("sparsity", "k"), [(0, 10), (0.05, 9), (0.1, 9), (0.3, 7), (0.7, 3), (0.9, 1), (0.95, 0)]
)
def test_k_is_safe_against_rounding(sparsity: float, k: int) -> None:
    assert kept_units(10, sparsity) == k


def test_the_published_counts_of_the_published_size() -> None:
    """Specification, section 2.1: 18,432 bits."""
    values = torch.randperm(18_432, generator=torch.Generator().manual_seed(0)).float().view(6, 3072)
    for density, count in ((0.75, 13_823), (0.5, 9_215), (0.25, 4_607), (0.1, 1_842), (0.05, 920)):
        assert int(top_units(values, 1 - density, "published").sum()) == count
        assert int(top_units(values, 1 - density).sum()) == count + 1


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_a_sparsity_outside_its_range(sparsity: float) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"sparsity {sparsity} is outside \[0, 1\): it is the fraction of units"
    ):
        check_sparsity(sparsity)


def test_a_sparsity_in_percent_is_explained() -> None:
    with pytest.raises(InvalidInputError, match=r"for 90 % type 0\.9$"):
        check_sparsity(90)
    with pytest.raises(InvalidInputError, match=r"lets one in ten change$"):
        check_sparsity(1)


def mask_of(*units: tuple[int, int]) -> BinaryMask:
    bits = torch.zeros(SPACE.shape, dtype=torch.bool)
    for unit in units:
        bits[unit] = True
    return BinaryMask(bits, SPACE)


def test_what_a_mask_says_of_itself() -> None:
    mask = mask_of((0, 3), (0, 7), (3, 0), (3, 9))
    assert (mask.count, mask.density, mask.sparsity) == (4, 0.1, 0.9)
    assert mask.rows("blocks.4.mlp.fc1").tolist() == [3, 7]
    assert mask.rows("blocks.4.mlp.fc2").tolist() == []
    assert mask.density_per_matrix().to_dict() == {
        "blocks.4.mlp.fc1": 0.2,
        "blocks.4.mlp.fc2": 0.0,
        "blocks.7.mlp.fc1": 0.0,
        "blocks.7.mlp.fc2": 0.2,
    }
    frame = mask.to_frame()
    assert frame.to_dict("list") == {
        "address": ["blocks.4.mlp.fc1"] * 2 + ["blocks.7.mlp.fc2"] * 2,
        "block": [4, 4, 7, 7],
        "matrix": ["fc1", "fc1", "fc2", "fc2"],
        "unit": [3, 7, 0, 9],
    }
    assert len(mask_of().to_frame()) == 0


def test_intersection_over_union() -> None:
    first, second = mask_of((0, 3), (0, 7), (3, 0)), mask_of((0, 3), (2, 7))
    assert first.iou(second) == second.iou(first) == 0.25
    assert first.iou(first) == 1
    assert mask_of().iou(mask_of()) == 1
    assert mask_of().iou(first) == 0
    with pytest.raises(InvalidInputError, match="masks of different spaces cannot be compared"):
        first.iou(BinaryMask(torch.zeros(4, 9, dtype=torch.bool), EditSpace((4, 7), 9, 3)))


def test_bits_of_another_shape_or_type() -> None:
    with pytest.raises(
        InvalidInputError, match=r"mask bits are torch\.bool of shape \(4, 9\); this space needs torch\.b"
    ):
        BinaryMask(torch.zeros(4, 9, dtype=torch.bool), SPACE)
    with pytest.raises(InvalidInputError, match=r"mask bits are torch\.float32 of shape \(4, 10\)"):
        BinaryMask(torch.zeros(4, 10), SPACE)


def test_soft_masks_of_several_images_are_averaged_first() -> None:
    values = torch.rand(3, *SPACE.shape, generator=torch.Generator().manual_seed(0))
    masks = SoftMasks(values, SPACE, "somehow")
    binary = masks.binarize(sparsity=0.8)
    assert len(masks) == 3
    assert binary.origin == "somehow"
    assert torch.equal(binary.bits, top_units(values.mean(0), 0.8))
    assert binary.count == 8
    assert masks.binarize(0.8, topk="published").count == 7
    with pytest.raises(InvalidInputError, match=r"sparsity 1 is outside \[0, 1\)"):
        masks.binarize(sparsity=1)
