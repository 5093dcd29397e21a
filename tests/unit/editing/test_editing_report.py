"""What an edit did, counted by hand, and the report as Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from workbench.data.own_images import OwnCase, OwnImages
from workbench.editing import (
    AppendedUnits,
    Change,
    Edit,
    Editor,
    EditReport,
    EditRequest,
    EditResult,
    EditSettings,
    LowRankChange,
    RandomMask,
    applied,
    change_table,
)
from workbench.editing.report import Neighbours, Protected, plain
from workbench.models import logits_of


def own(count: int) -> OwnImages:
    return OwnImages(tuple(f"{i}.png" for i in range(count)), torch.zeros(count, 3, 2, 2))


def neighbours(before: list[int], after: list[int]) -> Neighbours:
    return Neighbours(own(len(before)), 1, torch.tensor(before), torch.tensor(after))


def test_only_neighbours_that_were_wrong_count() -> None:
    found = neighbours(before=[0, 0, 2, 1, 1], after=[1, 0, 1, 1, 0])
    assert (found.wrong.tolist(), found.fixed.tolist(), found.lost.tolist()) == ([0, 1, 2], [0, 2], [4])
    assert found.still_wrong.tolist() == [1]
    assert found.gr == pytest.approx(2 / 3)
    assert found.sentence() == (
        "GR 0.667: 2 of 3 wrong neighbours are right now; 2 were right before and are left out, 1 of them lost"
    )


def test_gr_is_undefined_where_no_neighbour_was_wrong() -> None:
    found = neighbours(before=[1, 1], after=[1, 0])
    assert found.gr is None
    assert found.sentence() == "GR undefined: all 2 neighbours were right before the edit, 1 of them lost"


def test_protected_images_are_compared_with_what_they_were_taken_for() -> None:
    found = Protected(own(4), torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 0, 3]))
    assert found.changed.tolist() == [2]
    assert found.lr == 0.75
    assert found.sentence() == "LR 0.750: 3 of 4 protected images kept their prediction"


@pytest.fixture
def result(vit: nn.Module, request_: EditRequest) -> EditResult:
    settings = EditSettings(blocks=(1, 2, 3), learning_rate=2e-3, max_steps=30)
    return Editor(vit, RandomMask(0.5), settings).edit(request_)


@pytest.fixture
def case(result: EditResult, images: Tensor) -> OwnCase:
    """Every image of the fixture as a neighbour, the edited one among them, and as a protected image."""
    around = OwnImages(tuple(f"{i}.png" for i in range(12)), images)
    target = int(result.targets[0])
    return OwnCase("a|b.png", result.images[0], target, result.target_name, "other", 0.5, around, around)


@pytest.fixture
def report(vit: nn.Module, result: EditResult, case: OwnCase) -> EditReport:
    return EditReport.of(vit, result, case, model_name="small", editor="random-mask")


def test_judged_as_by_the_model_with_the_edit_in_it(
    vit: nn.Module, result: EditResult, report: EditReport, images: Tensor
) -> None:
    before = logits_of(vit, images).argmax(1)
    with applied(vit, result.edit):
        after = logits_of(vit, images).argmax(1)
    assert report.protected is not None
    assert report.neighbours is not None
    assert torch.equal(report.protected.before, before)
    assert torch.equal(report.protected.after, after)
    assert report.neighbours.own.names == tuple(f"{i}.png" for i in range(1, 12)), "the edited image counts"
    assert torch.equal(report.neighbours.after, after[1:])


def test_sentences_and_likeliest_classes(report: EditReport) -> None:
    sentences = report.sentences()
    assert [sentence[:2] for sentence in sentences] == ["SR", "GR", "LR"]
    assert sentences[0].startswith("SR 1.000: the image is right")
    likeliest = report.likeliest(3)
    assert len(likeliest) == 3
    assert likeliest["after"][0] == report.result.target_name
    assert likeliest["before"][0] == report.result.predicted_name(0)
    assert likeliest["p after"].is_monotonic_decreasing


def test_without_other_images_there_is_sr_alone(vit: nn.Module, result: EditResult, case: OwnCase) -> None:
    alone = replace(case, neighbours=None, protected=None)
    report = EditReport.of(vit, result, alone, model_name="small", editor="random-mask")
    assert [sentence[:2] for sentence in report.sentences()] == ["SR"]
    assert "Neighbours" not in report.to_markdown()


def test_markdown_holds_everything_and_its_tables_are_whole(report: EditReport) -> None:
    text = report.to_markdown()
    for heading in (
        "What the model sees",
        "What changed",
        "Neighbours that were wrong",
        "Protected",
        "Settings",
    ):
        assert f"\n## {heading}" in text
    assert report.result.edit.base in text
    assert "a\\|b.png" in text
    assert "| max_steps | 30 |" in text
    assert "| sparsity | 0.5 |" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    for table in tables:
        counts = {line.replace("\\|", "").count("|") for line in table.strip().splitlines()}
        assert len(counts) == 1, table


def test_change_table_names_every_kind_of_change() -> None:
    rows = Change(0, torch.tensor([1, 4]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    rank = LowRankChange(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0, 2.0]]))
    edit = Edit(
        "base",
        {
            "a": rows,
            "b": Change(1, rows.index, rows.delta),
            "c": rank,
            "d": AppendedUnits(0, torch.ones(1, 4), first=8),
        },
    )
    table = change_table(edit)
    assert table["change"].tolist() == ["rows", "columns", "rank 1", "new rows"]
    assert table["units"].tolist() == [2, 2, 1, 1]
    assert table["length"].tolist() == pytest.approx([5, 5, 2, 2])
    assert table["scalars"].sum() == edit.parameters
    assert change_table(Edit("base", {})).empty


@pytest.mark.parametrize(
    ("value", "text"), [(2e-5, "2e-05"), ([7, 8], "7, 8"), ([], "none"), ({"a": 0.5}, "a 0.5"), ("x", "x")]
)
def test_settings_as_text(value: object, text: str) -> None:
    assert plain(value) == text
