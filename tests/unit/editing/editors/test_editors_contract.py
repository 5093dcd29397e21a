"""What holds for every editor in the registry, whoever wrote it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.editing import Edit, EditRequest, applied
from workbench.editing.editors import EDITORS, EditMethod, editor_entry, make_editor
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.models import SplitViT, fingerprint, logits_of

NAMES = sorted(EDITORS)

#: Those that go step by step until a stop rule is met.
OPTIMISING = [name for name in NAMES if "max_steps" in EDITORS[name].settings]

#: Kinds of ViT beside the plain one, all of which `check_vit` accepts.
KINDS: dict[str, dict[str, Any]] = {
    "register tokens": {"reg_tokens": 2},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "average pooling": {"global_pool": "avg"},
    "attention pooling": {"class_token": False, "global_pool": "map"},
    "layer scale": {"init_values": 0.5},
    "no biases": {"qkv_bias": False},
    "normed queries": {"qk_norm": True},
    "oblong images": {"img_size": (32, 48)},
}

#: Those whose blocks can be chosen freely.
WITH_BLOCKS = [
    n for n in NAMES if "blocks" in EDITORS[n].settings and "hypernetwork" not in EDITORS[n].settings
]


def each(names: list[str]) -> pytest.MarkDecorator:
    needs_peft = pytest.mark.skipif(
        find_spec("peft") is None, reason="LoRA needs the extra: pip install 'vision-workbench[lora]'"
    )
    return pytest.mark.parametrize(
        "name", [pytest.param(n, marks=needs_peft) if n == "lora" else n for n in names]
    )


each_editor = each(NAMES)

Quick = Callable[..., EditMethod]
TensorsOf = Callable[[Edit], dict[str, Tensor]]


def after(model: nn.Module, result: EditResult) -> Tensor:
    """Logits of the edited model for the edited images, by the edit's weights."""
    if not result.edit.changes:
        return logits_of(model, result.images)
    split = SplitViT(model, result.edit.first_block, result.edit.entry)
    with torch.no_grad():
        return split(result.images, result.edit.weights(model))


def check_result(model: nn.Module, result: EditResult) -> None:
    states, batch = len(result), len(result.images)
    assert states >= 1
    assert result.steps == states - 1
    assert result.losses.shape == (states,)
    assert result.predictions.shape == (states, batch)
    assert result.probabilities.shape == (states, len(result.class_names))
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(states))
    assert result.edit.base == fingerprint(model)
    assert result.edit.info["targets"] == result.targets.tolist()
    assert result.edit.info["steps"] == result.steps
    assert result.edit.info["succeeded"] == result.succeeded
    assert not result.succeeded or result.reliability == 1
    assert json.loads(json.dumps(dict(result.edit.info))) == dict(result.edit.info)
    assert json.loads(json.dumps(dict(result.settings))) == dict(result.settings)
    before = logits_of(model, result.images)
    torch.testing.assert_close(result.probabilities[0], before.softmax(1).mean(0), rtol=1e-4, atol=1e-5)
    found = after(model, result)
    torch.testing.assert_close(result.probabilities[-1], found.softmax(1).mean(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(result.predictions[-1], found.argmax(1))
    if not result.edit.appends_units:
        with applied(model, result.edit):
            torch.testing.assert_close(logits_of(model, result.images), found, rtol=1e-4, atol=1e-5)


@each_editor
def test_the_edit_is_what_the_result_says(
    vit: nn.Module, quick: Quick, requests: list[EditRequest], name: str
) -> None:
    editor = quick(name, vit)
    assert isinstance(editor, EditMethod)
    for request in requests[:2]:
        result = editor.edit(request)
        check_result(vit, result)
        assert result.edit.changes
        assert not torch.equal(result.probabilities[0], result.probabilities[-1])


@each_editor
def test_several_images_at_once(vit: nn.Module, quick: Quick, requests: list[EditRequest], name: str) -> None:
    three = EditRequest(
        torch.stack([r.images for r in requests[:3]]),
        [int(r.target) for r in requests[:3]],  # type: ignore[arg-type]
    )
    check_result(vit, quick(name, vit).edit(three))


@each_editor
@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_vit(
    make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor], quick: Quick, name: str, kind: str
) -> None:
    model = make_vit(**KINDS[kind])
    image = image_maker(1, *model.patch_embed.img_size)[0]
    second = int(logits_of(model, image[None])[0].topk(2).indices[1])
    check_result(model, quick(name, model).edit(EditRequest(image, second)))


@each_editor
def test_the_model_is_left_as_it_was(vit: nn.Module, quick: Quick, request_: EditRequest, name: str) -> None:
    vit.requires_grad_(True)
    before, modules = fingerprint(vit), {n: id(m) for n, m in vit.named_modules()}
    editor, random = quick(name, vit), torch.get_rng_state()
    editor.edit(request_)
    assert fingerprint(vit) == before
    assert {n: id(m) for n, m in vit.named_modules()} == modules
    assert all(p.requires_grad and p.grad is None for p in vit.parameters())
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in vit.modules())
    assert torch.equal(torch.get_rng_state(), random)


@each_editor
def test_editing_twice_gives_the_same(
    vit: nn.Module, quick: Quick, tensors_of: TensorsOf, request_: EditRequest, name: str
) -> None:
    editor = quick(name, vit)
    first = editor.edit(request_)
    torch.manual_seed(5)  # of no account
    for second in (editor.edit(request_), quick(name, vit).edit(request_)):
        assert torch.equal(first.losses, second.losses)
        one, two = tensors_of(first.edit), tensors_of(second.edit)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


@each_editor
def test_saved_and_loaded_it_is_the_same(
    vit: nn.Module, quick: Quick, tensors_of: TensorsOf, request_: EditRequest, tmp_path: Path, name: str
) -> None:
    edit = quick(name, vit).edit(request_).edit
    loaded = Edit.load(edit.save(tmp_path / "fix.safetensors"))
    assert (loaded.base, dict(loaded.info)) == (edit.base, dict(edit.info))
    one, two = tensors_of(edit), tensors_of(loaded)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert all(torch.equal(w, edit.weights(vit)[a]) for a, w in loaded.weights(vit).items())


@each(OPTIMISING)
def test_an_image_that_is_right_and_sure_takes_no_step(
    vit: nn.Module, quick: Quick, images: Tensor, name: str
) -> None:
    right = EditRequest(images[0], int(logits_of(vit, images[:1]).argmax()))
    result = quick(name, vit, stop_loss=5.0).edit(right)
    assert result.succeeded
    assert (result.steps, dict(result.edit.changes)) == (0, {})
    check_result(vit, result)


@each(OPTIMISING)
def test_it_stops_at_the_first_state_that_is_right_and_sure(
    vit: nn.Module, quick: Quick, request_: EditRequest, name: str
) -> None:
    result = quick(name, vit, max_steps=60, stop_loss=0.6).edit(request_)
    done = (result.predictions[:, 0] == request_.target) & (result.losses <= 0.6)
    assert not done[:-1].any()
    assert result.succeeded == bool(done[-1])
    assert result.succeeded or result.steps == 60
    assert result.losses[-1] < result.losses[0]


@each_editor
def test_bad_requests_are_refused(vit: nn.Module, quick: Quick, images: Tensor, name: str) -> None:
    editor = quick(name, vit)
    with pytest.raises(InvalidInputError, match=r"target 7 is outside 0\.\.6: the model has 7 classes"):
        editor.edit(EditRequest(images[0], 7))
    with pytest.raises(InvalidInputError, match=r"2 images but 3 targets"):
        editor.edit(EditRequest(images[:2], [0, 1, 2]))
    with pytest.raises(InvalidInputError):
        editor.edit(EditRequest(images[0] + 2, 1))


@each_editor
def test_models_that_cannot_be_edited_are_refused(
    make_vit: Callable[..., nn.Module], quick: Quick, name: str
) -> None:
    with pytest.raises(InvalidInputError, match="the model has no classification head"):
        quick(name, make_vit(num_classes=0))
    with pytest.raises(InvalidInputError, match=r"the model is in training mode; call model\.eval\(\) first"):
        quick(name, make_vit().train())


@each(WITH_BLOCKS)
def test_blocks_the_model_does_not_have(vit: nn.Module, quick: Quick, name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"blocks \(4, 5\) must be one or more of 0\.\.4"):
        quick(name, vit, blocks=(4, 5))


@each(OPTIMISING)
@pytest.mark.parametrize("setting", ["max_steps", "learning_rate"])
def test_no_steps_or_no_step_size(vit: nn.Module, quick: Quick, name: str, setting: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{setting} is 0; it must be"):
        quick(name, vit, **{setting: 0})


@each_editor
def test_the_sweep_can_be_built(vit: nn.Module, quick: Quick, name: str) -> None:
    entry = EDITORS[name]
    assert len(entry.sweep) >= 3
    assert len({json.dumps(dict(settings), sort_keys=True) for settings in entry.sweep}) == len(entry.sweep)
    for settings in entry.sweep:
        quick(name, vit, **settings)


def test_the_registry_is_consistent() -> None:
    assert all(name == entry.name for name, entry in EDITORS.items())
    assert len({entry.title for entry in EDITORS.values()}) == len(EDITORS)
    for entry in EDITORS.values():
        assert entry.definition[0].islower()
        assert not entry.definition.endswith(".")
        assert entry.citation


def test_an_unknown_editor() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown editor 'ft-l3'; did you mean 'ft-l2'\?"):
        editor_entry("ft-l3")


@each_editor
def test_an_unknown_setting_is_named_with_the_nearest(vit: nn.Module, quick: Quick, name: str) -> None:
    nearest = EDITORS[name].settings[-1]
    with pytest.raises(
        UnknownNameError,
        match=rf"unknown setting of the editor {name} '{nearest}x'; did you mean '{nearest}'\?",
    ):
        quick(name, vit, **{f"{nearest}x": math.pi})


def test_a_setting_that_must_be_given(vit: nn.Module) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_editor("learned-mask", vit, sparsity=0.5)
    assert str(caught.value) == (
        "the editor learned-mask needs hypernetwork; pass make_editor('learned-mask', model, hypernetwork=…)"
    )


def test_settings_come_from_the_signature() -> None:
    assert EDITORS["ft-linf"].settings == ("clamp", "learning_rate", "max_steps", "stop_loss", "blocks")
    assert EDITORS["random-mask"].settings[:3] == ("sparsity", "seed", "learning_rate")
