"""Edited models on disk: plain state dicts that timm loads, and the base back from them, bit for bit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workbench.editing import (
    AppendedUnits,
    Change,
    ChangeSequence,
    Edit,
    LowRankChange,
    WeightChange,
    applied,
    originals_path,
    restore,
    timm_call,
    write_edited,
)
from workbench.errors import CheckpointError, InvalidInputError
from workbench.models import fingerprint, load_model, logits_of

FC1, FC2 = "blocks.1.mlp.fc1", "blocks.1.mlp.fc2"


def random_change(kind: str, weight: Tensor, generator: torch.Generator) -> WeightChange:
    """A change of a weight, of any kind that keeps its shape and of any size."""
    size = 10.0 ** float(torch.randint(-6, 4, (), generator=generator))
    if kind == "low-rank":
        left, right = (
            torch.randn(*shape, generator=generator) for shape in ((len(weight), 2), (2, weight.shape[1]))
        )
        return LowRankChange(size * left, right)
    if kind == "sequence":
        return ChangeSequence(
            (random_change("rows", weight, generator), random_change("columns", weight, generator))
        )
    axis = 0 if kind == "rows" else 1
    index = torch.randperm(weight.shape[axis], generator=generator)[:5].sort().values
    return Change(axis, index, size * torch.randn(5, weight.shape[1 - axis], generator=generator))


def random_edit(model: nn.Module, seed: int, kinds: tuple[str, str] = ("rows", "columns")) -> Edit:
    generator = torch.Generator().manual_seed(seed)
    changes = {
        address: random_change(kind, model.get_parameter(f"{address}.weight"), generator)
        for address, kind in zip((FC1, FC2), kinds, strict=True)
    }
    return Edit(fingerprint(model), changes, {"targets": [3]})


KINDS = st.sampled_from(["rows", "columns", "low-rank", "sequence"])


@given(seed=st.integers(0, 10_000), kinds=st.tuples(KINDS, KINDS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_taking_an_edit_out_gives_the_base_bit_for_bit(
    vit: nn.Module, seed: int, kinds: tuple[str, str]
) -> None:
    edit, base = random_edit(vit, seed, kinds), {k: v.clone() for k, v in vit.state_dict().items()}
    with TemporaryDirectory() as folder:
        write_edited(vit, edit, Path(folder) / "fixed.safetensors")
        restored = load_file(
            restore(Path(folder) / "fixed.safetensors", edit, Path(folder) / "base.safetensors")
        )
    assert restored.keys() == base.keys()
    assert all(torch.equal(restored[k].view(torch.int32), base[k].view(torch.int32)) for k in base)
    assert fingerprint(vit) == edit.base, "the model itself was changed"


def test_a_difference_of_floats_would_not_do(vit: nn.Module) -> None:
    """The reason for the file of originals: subtracting what was added misses bits."""
    edit = random_edit(vit, 0)
    weight, change = vit.get_parameter(f"{FC1}.weight"), edit.changes[FC1]
    assert isinstance(change, Change)
    back = change.added_to(weight).index_add(0, change.index, -change.delta)
    assert not torch.equal(back, weight)


def test_the_file_is_a_plain_state_dict_of_the_edited_model(
    vit: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    edit = random_edit(vit, 1)
    state = load_file(write_edited(vit, edit, tmp_path / "fixed.safetensors"))
    with applied(vit, edit):
        wanted, expected = logits_of(vit, images), vit.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in state)
    vit.load_state_dict(state, strict=True)
    assert torch.equal(logits_of(vit, images), wanted)


@pytest.fixture
def own() -> nn.Module:
    """A small model that timm knows by name, with a head of its own."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7).eval().requires_grad_(False)
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": ("a", "b", "c", "d", "e", "f", "g")}
    return model


def test_timm_and_the_workbench_load_it(own: nn.Module, image_maker, tmp_path: Path) -> None:
    edit, images = random_edit(own, 2), image_maker(2, 160, 160)
    path = write_edited(own, edit, tmp_path / "fixed.safetensors")
    with applied(own, edit):
        wanted, edited = logits_of(own, images), fingerprint(own)
    by_timm = eval(timm_call(own, path), {"timm": timm}).eval()
    assert torch.equal(logits_of(by_timm, images), wanted)
    ours = load_model(path)
    assert fingerprint(ours) == edited
    assert ours.pretrained_cfg["label_names"] == ("a", "b", "c", "d", "e", "f", "g")
    restored = load_model(restore(path, edit, tmp_path / "base.safetensors"))
    assert fingerprint(restored) == edit.base


def test_the_header_names_the_base_and_how_the_edit_was_made(own: nn.Module, tmp_path: Path) -> None:
    edit = random_edit(own, 3)
    with safe_open(write_edited(own, edit, tmp_path / "fixed.safetensors"), framework="pt") as file:
        header = file.metadata()
    assert header["base"] == edit.base
    assert header["architecture"] == "test_vit"
    assert header["edit"] == '{"targets": [3]}'


def test_an_edit_of_another_model_is_refused_and_nothing_written(
    vit: nn.Module, make_vit, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="made on a model with fingerprint"):
        write_edited(vit, random_edit(make_vit(seed=1), 0), tmp_path / "fixed.safetensors")
    assert not list(tmp_path.iterdir())


def test_appended_units_have_no_plain_state_dict(vit: nn.Module, tmp_path: Path) -> None:
    units = vit.get_parameter(f"{FC2}.weight").shape[1]
    edit = Edit(fingerprint(vit), {FC2: AppendedUnits(1, torch.ones(1, 48), units)})
    with pytest.raises(InvalidInputError, match=r"appends hidden units: .* no plain state dict"):
        write_edited(vit, edit, tmp_path / "fixed.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_name_that_timm_takes_for_something_else_is_refused(vit: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"fixed\.pth must end in \.safetensors"):
        write_edited(vit, random_edit(vit, 0), tmp_path / "fixed.pth")


def test_without_the_originals_it_says_where_the_base_is(vit: nn.Module, tmp_path: Path) -> None:
    edit, path = random_edit(vit, 0), tmp_path / "fixed.safetensors"
    originals_path(write_edited(vit, edit, path)).unlink()
    with pytest.raises(
        CheckpointError, match=r"no fixed\.originals\.safetensors beside .* go back to the base model"
    ):
        restore(path, edit, tmp_path / "base.safetensors")
    assert not (tmp_path / "base.safetensors").exists()


def test_a_state_dict_that_was_changed_since_is_refused(vit: nn.Module, tmp_path: Path) -> None:
    edit, path = random_edit(vit, 0), tmp_path / "fixed.safetensors"
    state = load_file(write_edited(vit, edit, path))
    state["head.bias"] += 1
    save_file(state, path)
    with pytest.raises(CheckpointError, match="not as it was written: its weights have changed since"):
        restore(path, edit, tmp_path / "base.safetensors")


@pytest.mark.parametrize("seed", [1, 2])
def test_another_edit_of_the_same_model_is_refused(vit: nn.Module, tmp_path: Path, seed: int) -> None:
    path = write_edited(vit, random_edit(vit, 0), tmp_path / "fixed.safetensors")
    with pytest.raises(CheckpointError, match="holds another edit than the one given"):
        restore(path, random_edit(vit, seed), tmp_path / "base.safetensors")


def test_an_edit_of_another_model_cannot_be_taken_out(vit: nn.Module, make_vit, tmp_path: Path) -> None:
    path = write_edited(vit, random_edit(vit, 0), tmp_path / "fixed.safetensors")
    with pytest.raises(CheckpointError, match="name the edit that was applied"):
        restore(path, random_edit(make_vit(seed=1), 0), tmp_path / "base.safetensors")


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_originals_are_refused(vit: nn.Module, tmp_path: Path, damage: str) -> None:
    edit = random_edit(vit, 0)
    path = write_edited(vit, edit, tmp_path / "fixed.safetensors")
    beside = originals_path(path)
    if damage == "cut":
        beside.write_bytes(beside.read_bytes()[:-20])
        message = "not a complete safetensors file"
    else:
        save_file({"a": torch.zeros(1)}, beside)
        message = "not what `apply` writes beside a model"
    with pytest.raises(CheckpointError, match=message):
        restore(path, edit, tmp_path / "base.safetensors")
