"""IoU within groups and between them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import plotly.graph_objects as go
import pytest

from workbench.editing.masks import SoftMasks
from workbench.errors import InvalidInputError
from workbench.figures import iou_matrix, mask_overlap
from workbench.figures.masks import chance_iou

MakeSoft = Callable[..., SoftMasks]
GROUPS = ["cats", "cats", "dogs", "dogs", "dogs"]


def test_means_are_those_of_the_pairs(make_soft: MakeSoft) -> None:
    masks = [make_soft(1, seed).binarize(0.7) for seed in range(5)]
    overlap = mask_overlap(masks, GROUPS)
    within = [masks[i].iou(masks[j]) for i, j in combinations(range(5), 2) if GROUPS[i] == GROUPS[j]]
    between = [masks[i].iou(masks[j]) for i, j in combinations(range(5), 2) if GROUPS[i] != GROUPS[j]]
    assert (len(within), len(between)) == (4, 6)
    assert overlap.within == pytest.approx(np.mean(within))
    assert overlap.between == pytest.approx(np.mean(between))
    assert overlap.chance == pytest.approx(chance_iou(masks[0].count, masks[0].count, 9216))
    assert np.array_equal(overlap.iou, overlap.iou.T)
    assert (np.diag(overlap.iou) == 1).all()


def test_a_mean_over_no_pairs_is_undefined(make_soft: MakeSoft) -> None:
    masks = [make_soft(1, seed).binarize(0.7) for seed in range(2)]
    assert mask_overlap(masks, ["a", "a"]).between is None
    assert mask_overlap(masks, ["a", "b"]).within is None
    assert "within groups –" in iou_matrix(masks, ["x", "y"], ["a", "b"]).layout.title.text


def test_the_matrix_shows_every_pair_and_frames_the_groups(
    make_soft: MakeSoft, texts: Callable[[go.Figure], str]
) -> None:
    masks = [make_soft(1, seed).binarize(0.7) for seed in range(5)]
    figure = iou_matrix(masks, list("abcde"), GROUPS)
    (heat,) = figure.data
    assert np.isnan(np.diag(heat.z)).all()
    assert heat.z[0, 3] == pytest.approx(masks[0].iou(masks[3]), abs=1e-3)
    assert (heat.y[0], heat.x[3]) == ("1 a", "4 d")
    (frames,) = figure.layout.shapes
    assert frames.path == "M-0.5,-0.5H1.5V1.5H-0.5ZM1.5,1.5H4.5V4.5H1.5Z"
    assert {"cats", "dogs"} <= set(texts(figure).split("\n"))


def test_refuses_what_does_not_fit(make_soft: MakeSoft) -> None:
    mask = make_soft().binarize(0.5)
    with pytest.raises(InvalidInputError, match="1 masks and 1 groups; give at least two masks"):
        mask_overlap([mask], ["a"])
    with pytest.raises(InvalidInputError, match="2 masks and 1 groups"):
        mask_overlap([mask, mask], ["a"])
    with pytest.raises(InvalidInputError, match="1 labels for 2 masks"):
        iou_matrix([mask, mask], ["x"], ["a", "a"])
