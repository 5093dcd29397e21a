"""LoRA: adapters of queries and values alone, put back together as changes of timm's fused projection."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from workbench.editing import EditRequest, LowRankChange
from workbench.editing.editors import lora, make_editor
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError, WorkbenchError
from workbench.models import normalize

pytest.importorskip("peft", reason="LoRA needs the extra: pip install 'vision-workbench[lora]'")

WIDTH = 48


def edited(model: nn.Module, request: EditRequest, **settings: object) -> EditResult:
    return make_editor("lora", model, **{"max_steps": 3, **settings}).edit(request)


def gradients(model: nn.Module, request: EditRequest) -> dict[str, Tensor]:
    """Of the cross-entropy with respect to the fused projections, through the whole model."""
    names = [f"blocks.{i}.attn.qkv" for i in range(5)]
    weights = {f"{n}.weight": model.get_parameter(f"{n}.weight").clone().requires_grad_(True) for n in names}
    logits = functional_call(model, weights, (normalize(model, request.images[None]),))
    loss = F.cross_entropy(logits, torch.tensor([request.target]))
    return dict(zip(names, torch.autograd.grad(loss, list(weights.values())), strict=True))


def test_all_blocks_change_and_no_key_does(vit: nn.Module, request_: EditRequest) -> None:
    edit = edited(vit, request_).edit
    assert list(edit.changes) == [f"blocks.{i}.attn.qkv" for i in range(5)]
    assert (edit.first_block, edit.entry) == (0, "attention")
    for address, change in edit.changes.items():
        assert isinstance(change, LowRankChange)
        assert change.left.shape == (3 * WIDTH, 8)
        difference = edit.weights(vit)[address] - vit.get_parameter(f"{address}.weight")
        query, key, value = difference.chunk(3)
        assert query.any()
        assert value.any()
        assert not key.any()
        for part in (query, value):
            assert torch.linalg.matrix_rank(part.double(), rtol=1e-3) <= 4


@pytest.mark.parametrize(("rank", "alpha"), [(4, 4), (8, 4), (2, 6), (3, 0.5)])
def test_the_first_step_is_adams_on_the_scaled_product(
    vit: nn.Module, request_: EditRequest, rank: int, alpha: float
) -> None:
    """At the start the output's side is zero, so it alone has a gradient; the scale is no integer division."""
    rate = 1e-3
    edit = edited(vit, request_, rank=rank, alpha=alpha, learning_rate=rate, max_steps=1).edit
    scale = alpha / rank
    for address, full in gradients(vit, request_).items():
        change = edit.changes[address]
        assert isinstance(change, LowRankChange)
        for part, rows in ((0, slice(0, WIDTH)), (1, slice(2 * WIDTH, 3 * WIDTH))):
            columns = slice(part * rank, (part + 1) * rank)
            up, down = change.left[rows, columns], change.right[columns]
            slope = scale * full[rows] @ down.T
            large = slope.abs() > 1e-5  # far above Adam's eps
            assert large.double().mean() > 0.5
            torch.testing.assert_close(up[large], -scale * rate * slope[large].sign(), rtol=1e-2, atol=0)


def test_it_edits(vit: nn.Module, request_: EditRequest) -> None:
    result = edited(vit, request_, learning_rate=3e-3, max_steps=100)
    assert result.succeeded
    assert result.reliability == 1
    assert result.losses[-1] <= 0.01 < result.losses[0]


def test_blocks_can_be_chosen(vit: nn.Module, request_: EditRequest) -> None:
    result = edited(vit, request_, blocks=(4, 2))
    assert list(result.edit.changes) == ["blocks.2.attn.qkv", "blocks.4.attn.qkv"]
    assert result.settings["blocks"] == [2, 4]
    assert result.edit.first_block == 2


def test_the_seed_decides_the_start(vit: nn.Module, request_: EditRequest) -> None:
    first, again, other = (edited(vit, request_, seed=seed).edit.changes for seed in (0, 0, 1))
    address = "blocks.1.attn.qkv"
    assert torch.equal(first[address].tensors()["right"], again[address].tensors()["right"])
    assert not torch.equal(first[address].tensors()["right"], other[address].tensors()["right"])


def test_without_peft_the_error_says_what_to_install(vit: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(WorkbenchError) as caught:
        make_editor("lora", vit)
    assert str(caught.value) == (
        "the editor lora takes peft, which is not installed; get it with: pip install 'vision-workbench[lora]'"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank is 0; it must be a whole number, at least 1"),
        ({"alpha": 0}, "alpha is 0; it must be a finite number above 0"),
        ({"blocks": (7,)}, r"blocks (7,) must be one or more of 0..4 (the model has 5)"),
        ({"blocks": ()}, r"blocks () must be one or more of 0..4 (the model has 5)"),
    ],
)
def test_settings_out_of_range(vit: nn.Module, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_editor("lora", vit, **settings)
    assert str(caught.value) == message
