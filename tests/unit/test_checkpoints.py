"""Trained weights and their cards: a round trip, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workbench import checkpoints as module
from workbench.checkpoints import (
    Card,
    list_checkpoints,
    load_checkpoint,
    read_card,
    read_tensors,
    save_checkpoint,
    shipped_path,
    versions,
)
from workbench.errors import CheckpointError, UnknownNameError

CARD = Card(
    name="tiny",
    kind="hypernetwork",
    description="for a test",
    command="workbench train hypernetwork",
    seed=3,
    settings={"iterations": 2, "blocks": [1, 2]},
    metrics={"kl": 0.25},
    extra={"depth": 1},
    versions={"torch": "2"},
    seconds=1.5,
)
TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.tensor([1.5], dtype=torch.float16),
    "c": torch.tensor([7]),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "hypernetwork-tiny.safetensors", TENSORS, CARD)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped checkpoints with one hypernetwork, ``tiny``, and one classifier, ``small``."""
    folder = tmp_path / "shelf"
    monkeypatch.setattr(module, "_FOLDER", folder)
    save_checkpoint(shipped_path("hypernetwork", "tiny"), TENSORS, CARD)
    save_checkpoint(
        shipped_path("classifier", "small"), TENSORS, replace(CARD, name="small", kind="classifier")
    )
    return folder


def same(found: dict[str, Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(
        torch.equal(v, TENSORS[k]) and v.dtype == TENSORS[k].dtype for k, v in found.items()
    )


def test_a_round_trip(saved: Path, tmp_path: Path) -> None:
    tensors, card = load_checkpoint("hypernetwork", saved)
    assert same(tensors)
    assert card == CARD
    assert load_checkpoint("hypernetwork", str(saved))[1] == CARD
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "hypernetwork-tiny.json",
        "hypernetwork-tiny.safetensors",
    ]


def test_views_are_saved_as_what_they_show(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "t", {"t": torch.arange(6.0).view(2, 3).T}, CARD)
    assert path == tmp_path / "t.safetensors"
    assert read_tensors(path)["t"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_shipped_ones_are_found_by_kind_and_name(shelf: Path) -> None:
    assert list_checkpoints("hypernetwork") == ("tiny",)
    assert list_checkpoints("classifier") == ("small",)
    assert same(load_checkpoint("hypernetwork", "tiny")[0])


def test_an_unknown_name_names_the_nearest(shelf: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown hypernetwork 'tinny'; did you mean 'tiny'\? Known: tiny\. or "
    ):
        load_checkpoint("hypernetwork", "tinny")
    with pytest.raises(UnknownNameError, match=r"or give the path of a \.safetensors file"):
        load_checkpoint("hypernetwork", "small")  # that is a classifier


def test_another_kind(saved: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"hypernetwork-tiny\.safetensors holds a hypernetwork, not a classifier"
    ):
        load_checkpoint("classifier", saved)


def test_a_missing_card_and_a_missing_file(saved: Path, tmp_path: Path) -> None:
    saved.with_suffix(".json").unlink()
    with pytest.raises(
        CheckpointError, match=r"no card at .*hypernetwork-tiny\.json: a checkpoint is a \.safetensors"
    ):
        load_checkpoint("hypernetwork", saved)
    with pytest.raises(
        CheckpointError, match=r"no file at .*absent\.safetensors; give the path of a \.safetensors"
    ):
        read_tensors(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    "content", ["", "{", "[1, 2]", '"text"', '{"name": "x"}', json.dumps({**asdict(CARD), "colour": "red"})]
)
def test_what_is_no_card(tmp_path: Path, content: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"card\.json is not a checkpoint card"):
        read_card(path)


def test_a_card_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(CheckpointError, match=r"card\.json is not a checkpoint card"):
        read_card(path)


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_file(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(
        CheckpointError, match=r"hypernetwork-tiny\.safetensors is not a complete safetensors file"
    ):
        load_checkpoint("hypernetwork", saved)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "x.safetensors"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        read_tensors(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    tensors = {"fine": torch.zeros(3), "count": torch.tensor([1]), "bad": torch.tensor([0.0, value])}
    path = save_checkpoint(tmp_path / "x", tensors, CARD)
    with pytest.raises(CheckpointError, match=r"x\.safetensors holds values that are not finite in bad$"):
        read_tensors(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        read_tensors(path)


def test_the_package_ships_readable_cards() -> None:
    for kind in ("classifier", "hypernetwork"):
        for name in list_checkpoints(kind):
            tensors, card = load_checkpoint(kind, name)
            assert card.kind == kind
            assert card.command.startswith(f"workbench train {kind}")
            assert set(versions()) <= set(card.versions)
            assert tensors
