"""Edits as values: applied, reverted, composed, saved; and a base model that is bit for bit what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.editing import Change, Edit, EditSpace, applied
from workbench.errors import CheckpointError, InvalidInputError
from workbench.models import fingerprint, logits_of

#: A fixture that is only read may serve all examples of a property.
reads_fixtures = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)

#: Header of a change of rows.
ROWS = {"kind": "rows", "axis": 0}


def random_edit(model: nn.Module, seed: int, share: float = 0.1, size: float = 0.3) -> Edit:
    """Random rows and columns of random matrices of blocks 1 to 3."""
    space = EditSpace.of(model, (1, 2, 3))
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    for address in space.addresses:
        index = (torch.rand(space.units, generator=generator) < share).nonzero().flatten()
        if len(index):
            delta = size * torch.randn(len(index), space.width, generator=generator)
            changes[address] = Change(space.axis(address), index, delta)
    return Edit(fingerprint(model), changes, {"seed": seed})


def same(left: Edit, right: Edit) -> bool:
    return (
        left.base == right.base
        and dict(left.info) == dict(right.info)
        and left.changes.keys() == right.changes.keys()
        and all(
            c.axis == right.changes[a].axis
            and torch.equal(c.index, right.changes[a].index)
            and torch.equal(c.delta, right.changes[a].delta)
            for a, c in left.changes.items()
        )
    )


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.02, 0.5, 1.0]))
@reads_fixtures
def test_after_reverting_the_model_is_bit_identical(vit: nn.Module, seed: int, share: float) -> None:
    edit = random_edit(vit, seed, share)
    handle = edit.apply_to(vit)
    assert (fingerprint(vit) == edit.base) == (not edit.changes)
    handle.revert()
    assert fingerprint(vit) == edit.base


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.02, 0.5]))
@reads_fixtures
def test_saved_and_loaded_it_is_the_same(
    vit: nn.Module, tmp_path_factory: pytest.TempPathFactory, seed: int, share: float
) -> None:
    edit = random_edit(vit, seed, share)
    path = edit.save(tmp_path_factory.mktemp("edits") / "fix.safetensors")
    assert same(Edit.load(path), edit)


@given(first=st.integers(0, 10_000), second=st.integers(0, 10_000))
@reads_fixtures
def test_composing_adds_the_changes(vit: nn.Module, first: int, second: int) -> None:
    one, two = random_edit(vit, first), random_edit(vit, second + 10_001)
    both, other_way = one.compose(two), two.compose(one)
    for address in both.changes:
        base = vit.get_parameter(f"{address}.weight").detach()
        wanted = base.clone()
        for edit in (one, two):
            if address in edit.changes:
                wanted = wanted + (edit.weights(vit)[address] - base)
        torch.testing.assert_close(both.weights(vit)[address], wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(both.changes[address].index, other_way.changes[address].index)
    assert both.info == {"composed": [{"seed": first}, {"seed": second + 10_001}]}


def test_an_edit_touches_its_rows_and_columns_and_nothing_else(vit: nn.Module) -> None:
    before, edit = state_of(vit), random_edit(vit, 3)
    with applied(vit, edit):
        after = state_of(vit)
    touched = {f"{address}.weight" for address in edit.changes}
    assert {n for n in before if not torch.equal(before[n], after[n])} == touched
    for address, change in edit.changes.items():
        difference = after[f"{address}.weight"] != before[f"{address}.weight"]
        units = difference.any(dim=1 - change.axis).nonzero().flatten()
        assert torch.equal(units, change.index)


def test_inside_the_block_the_model_is_edited_and_after_it_is_not(vit: nn.Module, images: Tensor) -> None:
    edit, before = random_edit(vit, 1), logits_of(vit, images)
    with applied(vit, edit) as edited:
        assert edited is vit
        assert (logits_of(vit, images) - before).abs().max() > 0.01
        assert all(
            torch.equal(vit.get_parameter(f"{a}.weight"), w) for a, w in inside_weights(vit, edit).items()
        )
    assert torch.equal(logits_of(vit, images), before)


def inside_weights(model: nn.Module, edit: Edit) -> dict[str, Tensor]:
    return {a: model.get_parameter(f"{a}.weight").detach() for a in edit.changes}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), torch.OutOfMemoryError("no")])
def test_after_an_error_inside_the_block_the_model_is_bit_identical(
    vit: nn.Module, error: BaseException
) -> None:
    edit = random_edit(vit, 1)

    def fail() -> None:
        with applied(vit, edit):
            assert fingerprint(vit) != edit.base
            raise error

    with pytest.raises(type(error)):
        fail()
    assert fingerprint(vit) == edit.base


def test_an_edit_can_go_into_a_model_that_needs_gradients(vit: nn.Module) -> None:
    vit.requires_grad_(True)
    edit = random_edit(vit, 1)
    with applied(vit, edit):
        assert vit.blocks[1].mlp.fc1.weight.requires_grad
        assert vit.blocks[1].mlp.fc1.weight.is_leaf
    assert fingerprint(vit) == edit.base


def test_an_edit_of_an_edited_model_is_refused(vit: nn.Module) -> None:
    one, two = random_edit(vit, 1), random_edit(vit, 2)
    with applied(vit, one):
        edited = fingerprint(vit)
        with pytest.raises(
            CheckpointError, match="if that model holds another edit now, revert it or compose the two"
        ):
            two.apply_to(vit)
        assert fingerprint(vit) == edited
    assert fingerprint(vit) == one.base


def test_an_edit_of_another_model_is_refused(vit: nn.Module, make_vit: Callable[..., nn.Module]) -> None:
    edit, other = random_edit(make_vit(seed=1), 1), fingerprint(vit)
    with pytest.raises(CheckpointError) as caught:
        edit.apply_to(vit)
    assert str(caught.value).startswith(
        f"this edit was made on a model with fingerprint {edit.base[:12]}…, the model given has {other[:12]}…"
    )
    with pytest.raises(CheckpointError, match="this edit was made on a model"), applied(vit, edit):
        pytest.fail("must not be reached")
    assert fingerprint(vit) == other
    with pytest.raises(CheckpointError, match="edits of different models cannot be composed"):
        edit.compose(random_edit(vit, 1))


@pytest.mark.parametrize(
    ("address", "index", "width"),
    [
        ("blocks.9.mlp.fc1", 0, 48),
        ("blocks.2.mlp.act", 0, 48),
        ("blocks.2.mlp.fc1", 192, 48),
        ("blocks.2.mlp.fc1", 0, 47),
    ],
)
def test_an_edit_that_does_not_fit_leaves_the_model_as_it_was(
    vit: nn.Module, address: str, index: int, width: int
) -> None:
    good = Change(0, torch.tensor([1]), torch.ones(1, 48))
    bad = Change(0, torch.tensor([index]), torch.ones(1, width))
    edit = Edit(fingerprint(vit), {"blocks.1.mlp.fc1": good, address: bad})
    with pytest.raises((InvalidInputError, RuntimeError, IndexError)):
        edit.apply_to(vit)
    assert fingerprint(vit) == edit.base


def test_an_address_the_model_does_not_have(vit: nn.Module) -> None:
    edit = Edit(fingerprint(vit), {"blocks.9.mlp.fc1": Change(0, torch.tensor([1]), torch.ones(1, 48))})
    with pytest.raises(InvalidInputError, match=r"the model has no weight at 'blocks\.9\.mlp\.fc1'"):
        edit.weights(vit)


def test_overlap_names_shared_rows_and_columns() -> None:
    def edit(**units: list[int]) -> Edit:
        changes = {
            f"blocks.1.mlp.{m}": Change(0, torch.tensor(i), torch.ones(len(i), 2)) for m, i in units.items()
        }
        return Edit("base", changes)

    one, two = edit(fc1=[1, 4, 6], fc2=[0]), edit(fc1=[4, 5, 6], fc2=[1])
    assert one.overlap(two) == two.overlap(one) == {"blocks.1.mlp.fc1": [4, 6]}
    sums = one.compose(two).changes["blocks.1.mlp.fc1"]
    assert sums.index.tolist() == [1, 4, 5, 6]
    assert sums.delta.tolist() == [[1, 1], [2, 2], [1, 1], [2, 2]]


def test_norms_and_frame() -> None:
    change = Change(1, torch.tensor([2, 5]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    edit = Edit("base", {"blocks.1.mlp.fc2": change})
    assert change.norms().tolist() == [5, 1]
    assert edit.parameters == 4
    assert edit.to_frame().to_dict("list") == {
        "address": ["blocks.1.mlp.fc2"] * 2,
        "unit": [2, 5],
        "norm": [5.0, 1.0],
    }
    assert list(Edit("base", {}).to_frame().columns) == ["address", "unit", "norm"]


@pytest.fixture
def file(vit: nn.Module, tmp_path: Path) -> Path:
    return random_edit(vit, 1).save(tmp_path / "fix.safetensors")


def test_a_file_is_as_small_as_the_edit(file: Path, vit: nn.Module) -> None:
    edit = Edit.load(file)
    assert edit.parameters < 0.2 * sum(p.numel() for p in vit.parameters())
    assert file.stat().st_size < 4 * edit.parameters + 8_000


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"fix\.safetensors is not a complete safetensors file"):
        Edit.load(file)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no file at .*absent\.safetensors"):
        Edit.load(tmp_path / "absent.safetensors")


def test_a_safetensors_file_that_is_no_edit(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"is a safetensors file but not an edit \(format None\)"):
        Edit.load(path)
    save_file({"a": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"not an edit \(format 'pt'\)"):
        Edit.load(path)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"axes": json.dumps({"blocks.1.mlp.fc1": 0})},
        {"axes": "{", "info": "{}", "base": "x"},
        {"axes": json.dumps({"blocks.7.mlp.fc1": 0}), "info": "{}", "base": "x"},
    ],
)
def test_an_edit_file_with_a_broken_header(tmp_path: Path, header: dict[str, str]) -> None:
    path = tmp_path / "broken.safetensors"
    tensors = {"blocks.1.mlp.fc1|index": torch.tensor([1]), "blocks.1.mlp.fc1|delta": torch.ones(1, 48)}
    save_file(tensors, path, metadata={"format": "workbench-edit-2", **header})
    with pytest.raises(CheckpointError, match=r"broken\.safetensors is a damaged edit"):
        Edit.load(path)


def test_values_that_are_not_finite(vit: nn.Module, tmp_path: Path) -> None:
    change = Change(0, torch.tensor([1]), torch.full((1, 48), torch.nan))
    edit = Edit(fingerprint(vit), {"blocks.1.mlp.fc1": change})
    path = tmp_path / "fix.safetensors"
    with pytest.raises(
        CheckpointError, match=r"not finite in blocks\.1\.mlp\.fc1.*it is not saved; edit again"
    ):
        edit.save(path)
    assert not path.exists()
    save_file({"blocks.1.mlp.fc1.delta": change.delta}, path, metadata={"format": "workbench-edit-2"})
    with pytest.raises(
        CheckpointError, match=r"holds values that are not finite in blocks\.1\.mlp\.fc1\.delta"
    ):
        Edit.load(path)
