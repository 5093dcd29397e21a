"""Figures of what any edit did: they show what the edit and the report hold."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench import figures
from workbench.data.own_images import OwnImages
from workbench.editing import Edit, EditReport, EditResult, EditTrajectory, LowRankChange
from workbench.editing.report import Neighbours, Protected, change_table
from workbench.errors import InvalidInputError
from workbench.models import fingerprint

LARGEST = 100_000  # bytes of JSON


@pytest.fixture
def report(trajectory: EditTrajectory, image_maker) -> EditReport:
    """Twenty neighbours and twenty protected images with known predictions; class 1 is right."""
    around = OwnImages(tuple(f"image-{i}.png" for i in range(20)), image_maker(20))
    before, after = torch.zeros(20, dtype=torch.long), torch.zeros(20, dtype=torch.long)
    before[:2], after[1:5] = 1, 1
    return EditReport(
        "small", "x.png", "random-mask", trajectory,
        Neighbours(around, 1, before, after), Protected(around, before, after),
    )  # fmt: skip


def headings(report: EditReport) -> list[str]:
    return [note.text for note in figures.judged_images(report).layout.annotations]


def test_bars_are_the_lengths_of_the_changes(trajectory: EditTrajectory) -> None:
    (bars,) = figures.change_lengths(trajectory.edit).data
    table = change_table(trajectory.edit)
    assert list(bars.y) == [address.removeprefix("blocks.") for address in table["address"]]
    assert np.allclose(bars.x, table["length"], atol=1e-5)
    assert bars.text[0] == f"{table['units'][0]:,} rows"


def test_every_kind_of_change_can_be_drawn(vit: nn.Module) -> None:
    change = LowRankChange(torch.ones(144, 2), torch.ones(2, 48))
    (bars,) = figures.change_lengths(Edit(fingerprint(vit), {"blocks.0.attn.qkv": change})).data
    assert list(bars.text) == ["144 rank 2"]


def test_an_edit_without_changes_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="changes nothing"):
        figures.change_lengths(Edit("base", {}))


def test_rows_count_the_fixed_the_lost_and_the_changed(report: EditReport) -> None:
    assert headings(report) == [
        "neighbours that were wrong: <b>3 of 18 right now</b>, 13 shown",
        "neighbours that were right: <b>1 of 2 still right</b>",
        "protected images: <b>4 of 20 changed</b>, 14 shown",
    ]


def test_badges_say_how_each_image_fares_and_changed_ones_come_first(report: EditReport) -> None:
    badges = [trace.text for trace in figures.judged_images(report).data if set(trace.text) <= {"✓", "✗"}]
    edited = "✓" if report.result.reliability == 1 else "✗"
    assert ["".join(row) for row in badges] == [edited + "✓✓✓" + "✗" * 10, "✗✓", "✗" * 4 + "✓" * 10]


def test_captions_are_what_each_is_taken_for_now(report: EditReport) -> None:
    names = report.result.class_names
    captions = [t.text for t in figures.judged_images(report).data if not set(t.text) <= {"✓", "✗"}]
    assert list(captions[1]) == [names[0], names[1]]
    assert captions[0][0] == f"<b>edited</b><br>{report.result.predicted_name()}"


def test_it_is_small_and_leaves_the_report_as_it_was(report: EditReport) -> None:
    before = copy.deepcopy(report.neighbours)
    text = figures.judged_images(report).to_json()
    assert len(text) < LARGEST
    json.loads(text)
    assert report.neighbours is not None
    assert before is not None
    assert torch.equal(report.neighbours.own.images, before.own.images)


def test_without_other_images_the_edited_one_is_there(trajectory: EditTrajectory) -> None:
    alone = EditReport("small", "x.png", "ft", trajectory)
    assert headings(alone) == ["the edited image"]
    assert len(figures.judged_images(alone).layout.images) == 1


def test_the_course_of_an_edit_without_a_mask_can_be_drawn(
    trajectory: EditTrajectory, images: Tensor
) -> None:
    plain = EditResult(**{name: getattr(trajectory, name) for name in EditResult.__dataclass_fields__})
    assert figures.edit_course(plain).data[0].y.shape == (len(plain),)
    assert len(figures.class_probabilities(plain).data[0].x) > 1
