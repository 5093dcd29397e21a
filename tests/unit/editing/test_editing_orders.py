"""Edits put together: what more than one of them changes, and whether each still does what it was made for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from workbench.editing import (
    AppendedUnits,
    Change,
    Edit,
    Editor,
    EditRequest,
    EditSettings,
    RandomMask,
    applied,
    order_effect,
    overlap_table,
)
from workbench.errors import CheckpointError, InvalidInputError
from workbench.models import fingerprint, logits_of
from workbench.models.preprocessing import class_names

FC1 = "blocks.2.mlp.fc1"


@pytest.fixture
def edits(vit: nn.Module, requests: list[EditRequest]) -> list[Edit]:
    """Three edits of the same rows for different images."""
    settings = EditSettings(blocks=(1, 2, 3), learning_rate=2e-3, max_steps=30)
    editor = Editor(vit, RandomMask(0.5), settings)
    results = [editor.edit(request) for request in requests[:3]]
    assert all(result.succeeded for result in results)
    return [result.edit for result in results]


def rows(index: list[int]) -> Edit:
    return Edit("base", {FC1: Change(0, torch.tensor(index), torch.ones(len(index), 4))})


def test_overlaps_are_counted_pair_by_pair() -> None:
    table = overlap_table([rows([1, 2, 3]), rows([3, 4]), rows([2, 3])], ["a", "b", "c"])
    assert table.values.tolist() == [["a", "b", FC1, 1], ["a", "c", FC1, 2], ["b", "c", FC1, 1]]
    assert overlap_table([rows([1]), rows([2])], ["a", "b"]).empty


def test_effect_is_that_of_the_model_with_the_edits_in_it(
    vit: nn.Module, edits: list[Edit], images: Tensor
) -> None:
    found, names = order_effect(vit, edits, images[:3]), class_names(vit)
    assert found["alone"].tolist() == found["wanted"].tolist()
    for edit, image, told in zip(edits, images, found["p alone"], strict=False):
        with applied(vit, edit):
            assert told == pytest.approx(
                float(logits_of(vit, image[None]).softmax(1)[0, edit.info["targets"][0]]), abs=1e-5
            )
    with applied(vit, edits[0].compose(edits[1]).compose(edits[2])):
        together = logits_of(vit, images[:3])
    assert found["in order"].tolist() == [names[c] for c in together.argmax(1)]
    assert found["p in order"].tolist() == pytest.approx(found["p reversed"].tolist(), abs=1e-5)


def test_an_image_for_each_edit_is_needed(vit: nn.Module, edits: list[Edit], images: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="2 images for 3 edits"):
        order_effect(vit, edits, images[:2])


def test_edits_must_be_of_this_model_and_say_their_target(
    vit: nn.Module, edits: list[Edit], images: Tensor, make_vit: Callable[..., nn.Module]
) -> None:
    with pytest.raises(CheckpointError, match="made on a model with fingerprint"):
        order_effect(make_vit(seed=1), edits, images[:3])
    untold = Edit(fingerprint(vit), edits[0].changes)
    with pytest.raises(InvalidInputError, match="does not say which class it was made for"):
        order_effect(vit, [edits[0], untold], images[:2])


def test_appended_units_of_two_edits_do_not_go_together(vit: nn.Module, images: Tensor) -> None:
    units = vit.get_parameter("blocks.2.mlp.fc1.weight").shape[0]
    appended = Edit(
        fingerprint(vit),
        {
            FC1: AppendedUnits(0, torch.ones(1, 48), units, torch.zeros(1)),
            "blocks.2.mlp.fc2": AppendedUnits(1, torch.ones(1, 48), units),
        },
        {"targets": [1]},
    )
    with pytest.raises(InvalidInputError, match="two edits that append units cannot be in one model"):
        order_effect(vit, [appended, appended], images[:2])
