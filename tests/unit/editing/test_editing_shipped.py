"""The shipped classifier and hypernetwork belong together and do what they are for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from workbench.data import emoji
from workbench.data.failures import accuracy_table, failure_groups
from workbench.editing import Editor, EditRequest, MaskHypernetwork
from workbench.models import fingerprint, load_model

NAME = "emoji_vit_s14"


@pytest.fixture(scope="module")
def model(require_data: Callable[..., None]) -> nn.Module:
    require_data("vit-s14-focus", "emojibase", *(f"emoji-{style}" for style in emoji.styles()))
    return load_model(NAME)


@pytest.fixture(scope="module")
def hypernetwork() -> MaskHypernetwork:
    return MaskHypernetwork.load(NAME)


@pytest.mark.slow
def test_the_hypernetwork_was_trained_for_the_classifier(
    model: nn.Module, hypernetwork: MaskHypernetwork
) -> None:
    assert hypernetwork.base == fingerprint(model)


@pytest.mark.slow
def test_the_classifier_knows_its_source_styles_and_errs_on_the_shifts(model: nn.Module) -> None:
    accuracy = accuracy_table(model).groupby("role")["right"].mean()
    assert accuracy["source"] > 0.95
    assert accuracy["validation"] > 0.75
    assert accuracy["shift"] < 0.75
    groups = failure_groups(model)
    assert len(groups) >= 30


@pytest.mark.slow
def test_real_failures_are_edited_away(model: nn.Module, hypernetwork: MaskHypernetwork) -> None:
    editor = Editor.learned(model, hypernetwork, sparsity=0.9)
    for group in failure_groups(model)[:3]:
        failure = group.failures[0]
        trajectory = editor.edit(EditRequest(failure.image, failure.true), record=False)
        assert trajectory.succeeded, trajectory.outcome()
        assert trajectory.predicted_name(0) == failure.wrong_name
        assert trajectory.predicted_name() == failure.true_name
