"""Which editor is taken where none, or a special one, is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor, nn

from workbench.checkpoints import Card, save_checkpoint
from workbench.editing import EditRequest, MaskHypernetwork, choose_editor
from workbench.editing.editors import choice
from workbench.errors import CheckpointError, InvalidInputError, UnknownNameError

BLOCKS = (1, 2, 3)


@pytest.fixture
def saved(hypernetwork: MaskHypernetwork, tmp_path: Path) -> Path:
    """A hypernetwork of the small model, as a file."""
    card = Card("small", "hypernetwork", "", "", 0, {}, extra=hypernetwork.extra())
    return save_checkpoint(tmp_path / "hypernetwork-small", hypernetwork.network.state_dict(), card)


def test_without_a_hypernetwork_it_is_the_gradient_mask_and_says_so(vit: nn.Module) -> None:
    found = choose_editor(vit, blocks=BLOCKS)
    assert found.entry.name == "gradient-mask"
    assert found.why.startswith("no hypernetwork was trained on this model, so gradient-mask: fine-tunes the")


def test_the_shipped_hypernetwork_of_this_very_model_is_found(
    vit: nn.Module, make_vit: Callable[..., nn.Module], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "list_checkpoints", lambda kind: ("small",))
    monkeypatch.setattr(choice, "shipped_path", lambda kind, name: saved)
    monkeypatch.setattr("workbench.checkpoints.shipped_path", lambda kind, name: saved)
    found = choose_editor(vit, sparsity=0.5)
    assert found.entry.name == "learned-mask"
    assert found.why.endswith("(hypernetwork small)")
    assert choose_editor(make_vit(seed=1), blocks=BLOCKS).entry.name == "gradient-mask"


def test_a_hypernetwork_given_asks_for_the_learned_mask(vit: nn.Module, saved: Path) -> None:
    assert choose_editor(vit, hypernetwork=saved).entry.name == "learned-mask"


def test_a_hypernetwork_of_another_model_is_refused(make_vit: Callable[..., nn.Module], saved: Path) -> None:
    with pytest.raises(CheckpointError, match="this hypernetwork was trained on a model with fingerprint"):
        choose_editor(make_vit(seed=1), hypernetwork=saved)


def test_the_learned_mask_needs_a_hypernetwork(vit: nn.Module) -> None:
    with pytest.raises(
        InvalidInputError, match="no hypernetwork was trained on this model, and learned-mask needs"
    ):
        choose_editor(vit, "learned-mask")


def test_other_editors_take_no_hypernetwork(vit: nn.Module, saved: Path) -> None:
    with pytest.raises(InvalidInputError, match="random-mask takes no hypernetwork"):
        choose_editor(vit, "random-mask", saved)


def test_unknown_editors_and_settings_name_the_nearest(vit: nn.Module) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'random-mask'"):
        choose_editor(vit, "random-msak")
    with pytest.raises(UnknownNameError, match="did you mean 'sparsity'"):
        choose_editor(vit, "random-mask", sparsety=0.5)


@pytest.mark.parametrize(
    ("depth", "blocks"), [(12, [7, 8, 9]), (9, [4, 5, 6]), (5, [0, 1, 2]), (4, [0, 1]), (1, [0])]
)
def test_shallow_models_are_edited_as_far_from_the_head(
    make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor], depth: int, blocks: list[int]
) -> None:
    found = choose_editor(make_vit(depth=depth), max_steps=1)
    edit = found.editor.edit(EditRequest(image_maker(1), 1)).edit
    assert edit.info["settings"]["blocks"] == blocks
    assert ("of a model with" in found.why) == (depth < 10)


def test_editors_of_all_blocks_keep_them_all(vit: nn.Module) -> None:
    assert "of a model with" not in choose_editor(vit, "knowledge-neurons").why


def test_blocks_that_were_asked_for_are_taken(vit: nn.Module) -> None:
    assert "of a model with" not in choose_editor(vit, blocks=BLOCKS).why
