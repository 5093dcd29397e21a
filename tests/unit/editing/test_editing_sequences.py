"""Edits one after the other, added up, and stopped before they change too much; sweeps of editors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.editing import (
    Editor,
    EditRequest,
    EditSettings,
    FullMask,
    LearnedMask,
    MaskHypernetwork,
    RandomMask,
)
from workbench.editing.conflicts import compose_all, conflict_matrix
from workbench.editing.editors.attention import AttentionFineTuning
from workbench.editing.judging import Judge
from workbench.editing.sequences import edit_in_sequence, mask_of, on_edited_model
from workbench.editing.stopping import LocalityStop
from workbench.editing.sweeps import measure_edit, measure_sweeps, setting_label
from workbench.errors import CheckpointError, InvalidInputError, UnknownNameError
from workbench.models import SplitViT, fingerprint

BLOCKS = (1, 2, 3)
SETTINGS = EditSettings(blocks=BLOCKS, learning_rate=2e-4, max_steps=6)


@dataclass(frozen=True)
class Group:
    """Images with one wanted class."""

    images: Tensor
    targets: Tensor
    name: str = "some"
    style: str = "noise"


@pytest.fixture
def judge(vit: nn.Module, images: Tensor) -> Judge:
    return Judge(vit, images[6:])


# Sequences


def test_a_sequence_leaves_the_model_alone_and_adds_up(vit: nn.Module, requests: list[EditRequest]) -> None:
    before = fingerprint(vit)
    method_for = on_edited_model("ft", vit, blocks=BLOCKS, learning_rate=2e-4, max_steps=6)
    steps = list(edit_in_sequence(vit, method_for, requests[:3]))
    assert fingerprint(vit) == before
    assert [step.number for step in steps] == [1, 2, 3]
    assert all(step.total.base == before for step in steps)
    added = {a: sum(s.result.edit.changes[a].added_to(torch.zeros_like(w)) for s in steps)
             for a, w in Editor(vit, FullMask(), SETTINGS).space.weights(vit).items()}  # fmt: skip
    for address, change in steps[-1].total.changes.items():
        assert torch.allclose(change.added_to(torch.zeros_like(added[address])), added[address], atol=1e-6)


def test_the_total_gives_the_logits_that_the_last_edit_ended_with(
    vit: nn.Module, requests: list[EditRequest]
) -> None:
    method_for = on_edited_model("ft", vit, blocks=BLOCKS, learning_rate=2e-4, max_steps=6)
    *_, last = edit_in_sequence(vit, method_for, requests[:3])
    split = SplitViT(vit, last.total.first_block or 0)
    logits = split(requests[2].images[None], last.total.weights(vit))
    assert torch.allclose(logits.softmax(1)[0], last.result.probabilities[-1], atol=1e-5)


def test_later_edits_are_made_on_what_earlier_ones_left(vit: nn.Module, requests: list[EditRequest]) -> None:
    """The same request again finds itself met, or nearly so: it starts where the first one ended."""
    method_for = on_edited_model("ft", vit, blocks=BLOCKS, learning_rate=2e-4, max_steps=6)
    first, second = edit_in_sequence(vit, method_for, [requests[0], requests[0]])
    assert second.result.losses[0] == pytest.approx(float(first.result.losses[-1]), abs=1e-4)
    assert first.result.edit.base == fingerprint(vit) != second.result.edit.base


def test_a_learned_mask_is_that_of_the_unedited_model(
    vit: nn.Module, hypernetwork: MaskHypernetwork, requests: list[EditRequest]
) -> None:
    settings = {"hypernetwork": hypernetwork, "sparsity": 0.8, "learning_rate": 2e-3, "max_steps": 3}
    steps = edit_in_sequence(
        vit, on_edited_model("learned-mask", vit, **settings), [requests[0], requests[1]]
    )
    unedited = Editor(vit, LearnedMask(hypernetwork, 0.8), SETTINGS)
    for step, request in zip(steps, requests, strict=False):
        expected = mask_of(unedited, request)
        assert torch.equal(expected.bits, unedited.edit(request).mask.bits)
        for address, change in step.result.edit.changes.items():
            assert set(change.index.tolist()) <= set(expected.rows(address).tolist())


def test_a_given_mask_is_the_mask(vit: nn.Module, request_: EditRequest) -> None:
    mask = mask_of(Editor(vit, RandomMask(0.5), SETTINGS), request_)
    assert mask_of(Editor(vit, mask, SETTINGS), request_) is mask


def test_an_unknown_editor_is_named_before_any_edit(vit: nn.Module) -> None:
    with pytest.raises(UnknownNameError, match="unknown editor 'random'; did you mean 'random-mask'"):
        on_edited_model("random", vit)


# Editors that append units


class Appending:
    """Gives an edit that appends a hidden unit."""

    def __init__(self, model: nn.Module) -> None:
        self.inner = Editor(model, FullMask(), SETTINGS)

    def edit(self, request: EditRequest):
        from dataclasses import replace

        from workbench.editing import AppendedUnits

        result = self.inner.edit(request)
        unit = AppendedUnits(
            0, torch.zeros(1, self.inner.space.width), self.inner.space.units, torch.zeros(1)
        )
        return replace(result, edit=replace(result.edit, changes={"blocks.3.mlp.fc1": unit}))


def test_an_editor_that_appends_units_cannot_go_on(vit: nn.Module, requests: list[EditRequest]) -> None:
    with pytest.raises(InvalidInputError, match=r"appends hidden units.*cannot follow one another"):
        list(edit_in_sequence(vit, lambda model, _: Appending(model), requests[:2]))


# Conflicts


def test_conflicts_of_edits_by_hand(vit: nn.Module, requests: list[EditRequest], judge: Judge) -> None:
    """Opposite wishes for one image cannot both hold; an edit of other rows shares nothing."""
    editor = Editor(vit, RandomMask(0.5), EditSettings(blocks=BLOCKS, learning_rate=5e-4, max_steps=40))
    asked = [requests[0], EditRequest(requests[0].images, (requests[0].target + 1) % 7)]
    results = [editor.edit(request) for request in asked]
    assert all(result.reliability == 1 for result in results)
    matrix = conflict_matrix(judge, results)
    assert matrix.survives.diagonal().all()
    assert not (matrix.survives[0, 1] and matrix.survives[1, 0])
    assert len(matrix.conflicts) >= 1
    assert matrix.survival == matrix.survives[~np.eye(2, dtype=bool)].mean() < 1
    assert matrix.shared[0, 1] > 0.9  # one mask
    for i, j in matrix.conflicts:
        both = compose_all([results[i].edit, results[j].edit])
        assert int(judge.predictions(both, results[i].images)[0]) != int(results[i].targets[0])


def test_rows_shared_are_counted_from_each_side(
    vit: nn.Module, requests: list[EditRequest], judge: Judge
) -> None:
    edits = [Editor(vit, RandomMask(s), SETTINGS).edit(r) for s, r in zip((0.5, 0.9), requests, strict=False)]
    shared = conflict_matrix(judge, edits).shared  # masks of one seed are nested
    assert shared[1, 0] > 0.99
    assert shared[0, 1] < 0.25


def test_an_edit_that_never_worked_is_no_conflict(
    vit: nn.Module, requests: list[EditRequest], judge: Judge
) -> None:
    weak = Editor(vit, RandomMask(0.9), EditSettings(blocks=BLOCKS, learning_rate=1e-9, max_steps=1))
    matrix = conflict_matrix(judge, [weak.edit(request) for request in requests[:2]])
    assert not matrix.survives.any()
    assert matrix.conflicts == []
    assert matrix.survival is None


def test_conflicts_need_two_edits_and_a_sum_one(judge: Judge) -> None:
    with pytest.raises(InvalidInputError, match="0 edits: give at least two"):
        conflict_matrix(judge, [])
    with pytest.raises(InvalidInputError, match="no edits to compose"):
        compose_all([])


# Stopping


@pytest.mark.parametrize("bound", [0.0, 0.2, 0.5])
def test_an_edit_stops_before_it_changes_too_much(
    vit: nn.Module, images: Tensor, request_: EditRequest, bound: float
) -> None:
    editor = Editor(
        vit, FullMask(), EditSettings(blocks=BLOCKS, learning_rate=2e-4, max_steps=30, stop_loss=1e-6)
    )
    watched = images[2:]
    stopped = LocalityStop(editor, watched, bound).edit(request_)
    judge = Judge(vit, watched)
    assert float(judge.changed(stopped.edit).double().mean()) <= bound
    whole = editor.edit(request_)
    assert stopped.steps < whole.steps
    assert torch.equal(stopped.losses, whole.losses[: stopped.steps + 1])
    longer = Editor(
        vit, FullMask(), EditSettings(blocks=BLOCKS, learning_rate=2e-4, max_steps=stopped.steps + 1)
    )
    assert float(judge.changed(longer.edit(request_).edit).double().mean()) > bound
    assert stopped.settings["locality_bound"] == stopped.edit.info["settings"]["locality_bound"] == bound
    assert stopped.settings["max_steps"] == 30


def test_a_bound_that_is_never_met_leaves_the_edit_as_it_is(
    vit: nn.Module, images: Tensor, request_: EditRequest
) -> None:
    editor = Editor(vit, RandomMask(0.5), SETTINGS)
    whole, stopped = editor.edit(request_), LocalityStop(editor, images[2:], 0.999).edit(request_)
    assert stopped.steps == whole.steps
    assert stopped.succeeded == whole.succeeded
    assert torch.equal(stopped.losses, whole.losses)


def test_where_the_first_step_is_too_much_nothing_changes(
    vit: nn.Module, images: Tensor, request_: EditRequest
) -> None:
    editor = Editor(vit, FullMask(), EditSettings(blocks=BLOCKS, learning_rate=5e-2, max_steps=5))
    stopped = LocalityStop(editor, images[2:], 0.0).edit(request_)
    assert (stopped.steps, len(stopped), stopped.succeeded) == (0, 1, False)
    assert not stopped.edit.changes
    assert len(stopped.to_frame()) == 1


def test_a_stop_needs_a_share_and_images(vit: nn.Module, images: Tensor) -> None:
    editor = Editor(vit, FullMask(), SETTINGS)
    with pytest.raises(InvalidInputError, match=r"bound is 1\.0; it is a share of predictions"):
        LocalityStop(editor, images, 1.0)
    with pytest.raises(InvalidInputError, match="no images to watch"):
        LocalityStop(editor, images[:0])


# Attention


def test_attention_is_tuned_and_nothing_else(vit: nn.Module, request_: EditRequest) -> None:
    before = fingerprint(vit)
    result = AttentionFineTuning(vit, 2e-4, max_steps=20, blocks=(2, 3)).edit(request_)
    assert fingerprint(vit) == before
    assert set(result.edit.changes) == {f"blocks.{b}.attn.{part}" for b in (2, 3) for part in ("qkv", "proj")}
    assert (result.edit.first_block, result.edit.entry) == (2, "attention")
    assert result.losses[-1] < result.losses[0]
    with_edit = SplitViT(vit, 2, "attention")(request_.images[None], result.edit.weights(vit))
    assert torch.allclose(with_edit.softmax(1)[0], result.probabilities[-1], atol=1e-5)


def test_the_first_step_of_attention_is_that_of_rmsprop(vit: nn.Module, request_: EditRequest) -> None:
    result = AttentionFineTuning(vit, 1e-4, max_steps=1, stop_loss=1e-9, blocks=(3,)).edit(request_)
    largest = max(float(change.delta.abs().max()) for change in result.edit.changes.values())
    assert largest == pytest.approx(1e-3, rel=1e-3)  # lr · g / sqrt(0.01 g²)


def test_attention_of_blocks_that_are_not_there_is_refused(vit: nn.Module) -> None:
    with pytest.raises(InvalidInputError, match=r"blocks \(4, 5\) must be one or more of 0\.\.4"):
        AttentionFineTuning(vit, blocks=(4, 5))


# Sweeps


def test_an_edit_is_measured_by_the_rest_of_its_group(
    vit: nn.Module, images: Tensor, requests: list[EditRequest], judge: Judge
) -> None:
    targets = torch.tensor([int(request.target) for request in requests[:6]])
    group = Group(images[:6], targets)
    editor = Editor(vit, FullMask(), SETTINGS)
    row = measure_edit(editor, judge, group, edited=2)
    edit = editor.edit(requests[2]).edit
    right = judge.predictions(edit, group.images) == targets
    assert row["gr"] == pytest.approx((int(right.sum()) - int(right[2])) / 5)
    assert row["lr"] == pytest.approx(1 - float(judge.changed(edit).double().mean()))
    assert (row["group"], row["style"], row["size"], row["edited"]) == ("some", "noise", 6, 2)
    with pytest.raises(InvalidInputError, match="image 6 of group 'some' is not there: it has 6"):
        measure_edit(editor, judge, group, edited=6)


def test_a_sweep_has_one_row_a_setting_and_group(vit: nn.Module, images: Tensor, judge: Judge) -> None:
    from workbench.editing.editors import EDITORS
    from workbench.editing.pareto import front_areas

    groups = [Group(images[k : k + 3], torch.tensor([1, 1, 1]), f"g{k}") for k in (0, 3)]
    shared = {name: {"blocks": BLOCKS, "max_steps": 2} for name in ("ft", "random-mask")}
    rows = measure_sweeps(vit, ["random-mask", "ft"], groups, judge, shared, progress=False)
    assert len(rows) == 2 * (len(EDITORS["random-mask"].sweep) + len(EDITORS["ft"].sweep))
    assert rows["setting"].iloc[0] == "sparsity 0.95"
    assert set(front_areas(rows)["editor"]) == {"ft", "random-mask"}


def test_a_sweep_of_nothing_is_refused(vit: nn.Module, judge: Judge) -> None:
    with pytest.raises(InvalidInputError, match="0 editors and 0 groups"):
        measure_sweeps(vit, [], [], judge)


def test_settings_as_text() -> None:
    assert setting_label({"sparsity": 0.95, "learning_rate": 2e-5}) == "sparsity 0.95, learning rate 2e-05"
    assert setting_label({"rank": 4}) == "rank 4"
    assert setting_label({}) == "default"


def test_an_edit_of_another_model_is_not_judged(vit: nn.Module, requests: list[EditRequest]) -> None:
    from copy import deepcopy

    other = deepcopy(vit)
    with torch.no_grad():
        other.head.bias.add_(1)
    results = [Editor(vit, FullMask(), SETTINGS).edit(request) for request in requests[:2]]
    with pytest.raises(CheckpointError, match="this edit was made on a model"):
        conflict_matrix(Judge(other, requests[0].images[None]), results)
