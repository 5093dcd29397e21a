"""The speed benchmark: its floors count what is computed, and its inputs are what both sides need."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import editing_speed as speed
from benchmarks import tables
from benchmarks._editing_flops import Needs
from workbench.editing import BinaryMask, EditSpace
from workbench.models import SplitViT, normalize


@pytest.fixture
def model(make_vit: Callable[..., nn.Module]) -> nn.Module:
    """Unfused attention, whose products are counted like others."""
    found = make_vit(depth=6, img_size=64)
    for block in found.blocks:
        block.attn.fused_attn = False
    return found


@pytest.fixture
def needs(model: nn.Module) -> Needs:
    return Needs.of(model, EditSpace.of(model, (2, 3, 4)))


@pytest.fixture
def image(image_maker: Callable[..., Tensor]) -> Tensor:
    return image_maker(1, 64, 64)


def counted(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def test_operations_of_the_two_parts(model: nn.Module, needs: Needs, image: Tensor) -> None:
    split = SplitViT(model, 2, pooled_only=True)
    tokens = split.prefix(image)
    assert counted(lambda: split.prefix(image)) == needs.prefix
    assert counted(lambda: split.tail(tokens)) == needs.forward
    whole = counted(lambda: model(normalize(model, image)))
    assert needs.prefix + needs.forward < whole < 1.3 * (needs.prefix + needs.forward)


def test_operations_of_a_search(model: nn.Module, needs: Needs, image: Tensor) -> None:
    """A pass is forward and backward, with a gradient of every editable weight."""
    split = SplitViT(model, 2, pooled_only=True)
    tokens, base = split.prefix(image), needs.space.weights(model)

    def one_pass() -> None:
        leaves = {a: w.clone().requires_grad_(True) for a, w in base.items()}
        torch.autograd.grad(split.tail(tokens, leaves).sum(), list(leaves.values()))

    passes = needs.search(3, 2) - 2 * (needs.prefix + needs.forward)
    assert passes == 7 * counted(one_pass)


def test_operations_of_an_edit_grow_with_the_mask(needs: Needs) -> None:
    space = needs.space

    def at(density: float) -> int:
        bits = torch.rand(space.shape, generator=torch.Generator().manual_seed(0)) < density
        return needs.edit(BinaryMask(bits, space), steps=10)

    assert at(0) < at(0.1) < at(1)
    dense_pass = (needs.search(1, 1) - 2 * (needs.prefix + needs.forward)) / 2
    assert at(1) == pytest.approx(needs.prefix + 10 * dense_pass)  # with all units nothing is left out


def options(**changes: object) -> argparse.Namespace:
    given = {"seed": 0, "images": 3, "reference_images": 2, "rounds": 2, "threads": 1, "pairs": 2}
    given |= {"steps": 2, "inner_steps": 1, "outer_steps": 1, "edits": 2}
    return argparse.Namespace(**(given | changes))


@pytest.fixture
def bench(make_vit: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch) -> speed.Bench:
    """All of it, over a model so small that it takes a second."""
    small = make_vit(img_size=224, patch_size=56, depth=11)
    monkeypatch.setattr(speed, "_model", lambda seed: small)
    return speed.Bench(options(), torch.device("cpu"))


@pytest.mark.slow
def test_both_sides_give_the_same(bench: speed.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench.measure(speed.PARTS)
    for name, edit in found["edit"].items():
        assert edit["steps"] == {"reference": 2, "workbench": 2}, name
        assert edit["largest_difference_of_a_weight"] < 1e-6 < edit["largest_change_of_a_weight"]
    assert found["evaluate"]["different_predictions"] == 0
    assert found["evaluate"]["compared_predictions"] == 4
    assert found["evaluate"]["reference"] == "measured on 2 images, scaled in proportion"
    assert len(found["many"]["changed_predictions"]) == 2
    assert found["search"]["largest_difference_of_a_label"] < 1e-3
    for timed in (*found["edit"].values(), found["evaluate"], found["many"], found["search"]):
        ratio = timed["times_faster"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert timed["floor_seconds"] >= 0
    memory = {task: {"reference": 900.0, "workbench": 300.0} for task in speed.MEMORY_TASKS}
    results = found | {"memory_mib": memory, "model": "a ViT", "threads": 1, "rounds": 2}
    record = {"results": results, "command": "c", "seed": 0, "date": "d", "versions": {"torch": "2"}}
    monkeypatch.setattr(tables, "_read", lambda name: record)
    table = tables._editing_speed()
    assert table.count("900 | 300") == 3
    assert "| 2 edits evaluated, from nothing | " in table
    assert "measured on 2 images, scaled in proportion" in table


def test_some_images_are_the_first_of_all() -> None:
    all_of_them, some = speed.Images(5, seed=3, batch_size=2), speed.Images(3, seed=3)
    assert [len(batch) for batch in all_of_them] == [2, 2, 1]
    assert torch.equal(all_of_them.tensor()[:3], some.tensor())
    assert torch.equal(all_of_them.tensor(), all_of_them.tensor())
    assert not torch.equal(some.tensor(), speed.Images(3, seed=4).tensor())


def test_summary() -> None:
    turns = speed.Turns([1.0, 3.0, 2.0], [0.5, 0.5, 1.0], [2e9, 1e9, 4e9], None, None)
    found = turns.summary(needed=int(1e9), scale=10)
    assert found["reference_seconds"] == {"median": 20, "low": 10, "high": 30}
    assert found["times_faster"] == {"median": 20, "low": 20, "high": 60}
    assert (found["floor_seconds"], found["share_of_floor"]) == (0.5, 1.0)
