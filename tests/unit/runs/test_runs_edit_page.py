"""The page of an edit: one file that holds everything and asks for nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import Tensor, nn

from workbench.data.own_images import OwnCase, OwnImages
from workbench.editing import Editor, EditReport, EditRequest, EditResult, EditSettings, RandomMask
from workbench.models import logits_of
from workbench.runs import write_edit_page


@pytest.fixture
def result(vit: nn.Module, images: Tensor) -> EditResult:
    target = int(logits_of(vit, images[:1]).topk(2).indices[0, 1])
    settings = EditSettings(blocks=(1, 2), learning_rate=2e-3, max_steps=30)
    return Editor(vit, RandomMask(0.5), settings).edit(EditRequest(images[0], target))


@pytest.fixture
def page(vit: nn.Module, result: EditResult, images: Tensor, tmp_path: Path) -> str:
    around = OwnImages(tuple(f"<{i}>.png" for i in range(12)), images)
    case = OwnCase("<wrong>.png", images[0], int(result.targets[0]), "", "", 0.5, around, around)
    report = EditReport.of(vit, result, case, model_name="small & tiny", editor="random-mask")
    return write_edit_page(report, tmp_path / "fix.html").read_text(encoding="utf-8")


def body(page: str) -> str:
    """The page without the drawing library and the figures' data."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_it_shows_course_changes_images_and_settings(page: str, result: EditResult) -> None:
    assert page.count('<div class="figure">') == 4  # course, lengths, units, images
    text = body(page)
    for shown in ("blocks.1.mlp.fc1", result.edit.base, "max_steps", "SR 1.000", "All neighbours (11)"):
        assert shown in text
    assert f"{result.predicted_name(0)} → {result.target_name}" in text
    assert '<img src="data:image/png;base64,' in text


def test_it_loads_nothing_and_names_are_text(page: str) -> None:
    text = body(page)
    assert "&lt;wrong&gt;.png" in text
    assert "<wrong>" not in text
    assert "small &amp; tiny" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_it_does_without_neighbours_and_mask(result: EditResult, tmp_path: Path) -> None:
    plain = EditResult(**{name: getattr(result, name) for name in EditResult.__dataclass_fields__})
    path = write_edit_page(EditReport("small", "x.png", "ft", plain), tmp_path / "fix.html")
    page = path.read_text(encoding="utf-8")
    assert page.count('<div class="figure">') == 2  # course and lengths
    assert "Neighbours and protected images" not in page


def test_neighbours_that_are_only_the_image_itself_leave_no_figure(
    vit: nn.Module, result: EditResult, tmp_path: Path
) -> None:
    alone = OwnImages(("x.png",), result.images)
    case = OwnCase("x.png", result.images[0], int(result.targets[0]), "", "", 0.5, alone)
    report = EditReport.of(vit, result, case, model_name="small", editor="ft")
    page = write_edit_page(report, tmp_path / "fix.html").read_text(encoding="utf-8")
    assert "All neighbours (0)" in page
    assert page.count('<div class="figure">') == 3  # course, lengths, units
