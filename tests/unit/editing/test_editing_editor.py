"""The editor: its optimiser against torch's, what a trajectory holds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.editing import (
    BinaryMask,
    Edit,
    Editor,
    EditRequest,
    EditSettings,
    EditSpace,
    EvaluationSet,
    FullMask,
    GradientMask,
    LearnedMask,
    MaskHypernetwork,
    MaskNetwork,
    RandomMask,
    applied,
)
from workbench.errors import CheckpointError, InvalidInputError, UnknownNameError
from workbench.models import SplitViT, fingerprint, logits_of, normalize

BLOCKS = (1, 2, 3)
SETTINGS = EditSettings(learning_rate=1e-3, blocks=BLOCKS)


def reference(
    model: nn.Module, mask: BinaryMask, images: Tensor, targets: Tensor, settings: EditSettings, steps: int
) -> tuple[list[float], dict[str, Tensor]]:
    """The published loop as it stands: torch's RMSprop on whole matrices, gradients multiplied by the mask."""
    weights = {a: w.clone().requires_grad_(True) for a, w in mask.space.weights(model).items()}
    optimiser = torch.optim.RMSprop(weights.values(), lr=settings.learning_rate, alpha=0.99, eps=1e-8)
    losses = []
    for step in range(steps + 1):
        named = {f"{a}.weight": w for a, w in weights.items()}
        loss = F.cross_entropy(torch.func.functional_call(model, named, normalize(model, images)), targets)
        losses.append(float(loss.detach()))
        if step == steps:
            break
        optimiser.zero_grad()
        loss.backward()
        for address, weight in weights.items():
            weight.grad *= mask.space.gate(mask.bits, address)
        optimiser.step()
    return losses, {a: w.detach() for a, w in weights.items()}


@pytest.mark.parametrize("where", [FullMask(), RandomMask(0.7), RandomMask(0.98, seed=4), GradientMask(0.9)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("exact", [True, False])
def test_it_is_torchs_rmsprop_with_masked_gradients(
    vit: nn.Module,
    requests: list[EditRequest],
    where: FullMask | RandomMask | GradientMask,
    count: int,
    exact: bool,
) -> None:
    images = torch.stack([r.images for r in requests[:count]])
    targets = [int(r.target) for r in requests[:count]]
    settings = EditSettings(blocks=BLOCKS, max_steps=12)
    trajectory = Editor(vit, where, settings, exact=exact).edit(EditRequest(images, targets))
    assert trajectory.steps == 12
    losses, weights = reference(vit, trajectory.mask, images, torch.tensor(targets), settings, 12)
    torch.testing.assert_close(trajectory.losses, torch.tensor(losses), rtol=0, atol=1e-5)
    mine = {**trajectory.mask.space.weights(vit), **trajectory.edit.weights(vit)}
    for address, weight in weights.items():
        off = (mine[address].detach() - weight).abs()
        assert off.max() < 2e-5
        assert (off > 1e-6).double().mean() < 0.01  # where the gradient is next to nothing, rounding steers


def test_alpha_and_eps_are_used(vit: nn.Module, request_: EditRequest) -> None:
    settings = EditSettings(learning_rate=1e-3, blocks=BLOCKS, max_steps=1)
    plain = Editor(vit, FullMask(), settings).edit(request_).edit.to_frame()["norm"].sum()
    slower = EditSettings(learning_rate=1e-3, blocks=BLOCKS, max_steps=1, alpha=0.75)
    assert Editor(vit, FullMask(), slower).edit(request_).edit.to_frame()["norm"].sum() < 0.3 * plain
    damped = EditSettings(learning_rate=1e-3, blocks=BLOCKS, max_steps=1, eps=10.0)
    assert Editor(vit, FullMask(), damped).edit(request_).edit.to_frame()["norm"].sum() < 0.1 * plain


def test_the_trajectory_tells_what_happened(vit: nn.Module, requests: list[EditRequest]) -> None:
    request = requests[1]
    trajectory = Editor(vit, RandomMask(0.7), SETTINGS).edit(request)
    states, space = len(trajectory), trajectory.mask.space
    assert trajectory.succeeded
    assert trajectory.steps == states - 1 > 2
    assert torch.equal(trajectory.images, request.images[None])
    assert trajectory.targets.tolist() == [request.target]
    assert trajectory.probabilities.shape == (states, 7)
    torch.testing.assert_close(trajectory.probabilities.sum(1), torch.ones(states))
    assert torch.equal(trajectory.predictions[:, 0], trajectory.probabilities.argmax(1))
    torch.testing.assert_close(
        -trajectory.probabilities[:, request.target].log(), trajectory.losses, rtol=1e-3, atol=1e-5
    )
    assert trajectory.row_change is not None
    assert trajectory.row_change.shape == (states, *space.shape)
    assert trajectory.row_change[0].sum() == 0
    assert (trajectory.row_change[-1] > 0).equal(trajectory.mask.bits)
    for address, change in trajectory.edit.changes.items():
        recorded = trajectory.row_change[-1, space.index(address), change.index]
        torch.testing.assert_close(recorded, change.norms())
    assert trajectory.predicted_name(0) != trajectory.target_name == trajectory.predicted_name()


def test_the_edit_gives_the_model_the_last_state(vit: nn.Module, request_: EditRequest) -> None:
    trajectory = Editor(vit, RandomMask(0.7), SETTINGS).edit(request_)
    with applied(vit, trajectory.edit):
        inside = logits_of(vit, request_.images[None]).softmax(1)[0]
    torch.testing.assert_close(inside, trajectory.probabilities[-1], rtol=1e-4, atol=1e-6)
    tail = SplitViT(vit, BLOCKS[0])(request_.images[None], trajectory.edit.weights(vit))
    torch.testing.assert_close(tail.softmax(1)[0], trajectory.probabilities[-1], rtol=1e-4, atol=1e-6)


def test_an_edit_says_how_it_was_made(vit: nn.Module, request_: EditRequest, tmp_path: Path) -> None:
    settings = EditSettings.from_preset("published", learning_rate=1e-3, blocks=BLOCKS)
    trajectory = Editor(vit, RandomMask(0.7), settings).edit(request_)
    info = Edit.load(trajectory.edit.save(tmp_path / "fix.safetensors")).info
    assert info["targets"] == [request_.target]
    assert info["steps"] == trajectory.steps
    assert info["succeeded"] is True
    assert info["mask"] == "random"
    assert info["sparsity"] == pytest.approx(0.7, abs=1e-3)
    assert info["loss"] == pytest.approx(float(trajectory.losses[-1]))
    assert info["settings"]["preset"] == "published"
    assert info["exact"] is True
    assert info["settings"]["blocks"] == [1, 2, 3]


def test_frames_and_sentences(vit: nn.Module, request_: EditRequest) -> None:
    trajectory = Editor(vit, RandomMask(0.7), SETTINGS).edit(request_)
    frame = trajectory.to_frame()
    assert list(frame.columns) == ["step", "loss", "prediction", "target_probability", "change"]
    assert frame["step"].tolist() == list(range(len(trajectory)))
    assert frame["prediction"].iloc[-1] == trajectory.target_name
    assert frame["change"].is_monotonic_increasing
    steps, loss = trajectory.steps, float(trajectory.losses[-1])
    before = trajectory.predicted_name(0)
    assert (
        trajectory.outcome()
        == f"edited {before!r} to {trajectory.target_name!r} in {steps} steps (loss {loss:.3f})"
    )
    with pytest.raises(
        InvalidInputError, match=r"this edit was not evaluated; pass evaluate=EvaluationSet\.build"
    ):
        trajectory.scores()


def test_without_recording_the_result_is_the_same(vit: nn.Module, request_: EditRequest) -> None:
    editor = Editor(vit, RandomMask(0.7), SETTINGS)
    recorded, lean = editor.edit(request_), editor.edit(request_, record=False)
    assert lean.row_change is None
    assert "change" not in lean.to_frame()
    assert torch.equal(recorded.losses, lean.losses)


def test_an_edit_that_does_not_succeed_is_a_result_that_says_so(
    vit: nn.Module, request_: EditRequest
) -> None:
    settings = EditSettings(learning_rate=1e-5, blocks=BLOCKS, max_steps=2)
    trajectory = Editor(vit, RandomMask(0.9), settings).edit(request_)
    assert not trajectory.succeeded
    assert trajectory.edit.info["succeeded"] is False
    before, wanted = trajectory.predicted_name(0), trajectory.target_name
    assert trajectory.outcome().startswith(
        f"not edited within 2 steps: predicted {before!r}, wanted {wanted!r} (loss {float(trajectory.losses[-1]):.3f});"
    )
    assert "allow more steps, a larger learning rate or a lower sparsity" in trajectory.outcome()


def test_an_edit_that_diverges_is_a_result_that_cannot_be_saved(
    vit: nn.Module, request_: EditRequest, tmp_path: Path
) -> None:
    settings = EditSettings(learning_rate=1e38, blocks=BLOCKS, max_steps=3)
    trajectory = Editor(vit, FullMask(), settings).edit(request_)
    assert not trajectory.succeeded
    assert trajectory.outcome().startswith("not edited within 3 steps")
    with pytest.raises(CheckpointError, match="not finite"):
        trajectory.edit.save(tmp_path / "fix.safetensors")


def test_several_images_are_edited_together(vit: nn.Module, requests: list[EditRequest]) -> None:
    images = torch.stack([r.images for r in requests[:3]])
    targets = [int(r.target) for r in requests[:3]]
    trajectory = Editor(vit, RandomMask(0.5), SETTINGS).edit(EditRequest(images, targets))
    assert trajectory.succeeded
    assert trajectory.predictions.shape == (len(trajectory), 3)
    assert trajectory.predictions[-1].tolist() == targets
    same = Editor(vit, RandomMask(0.5), SETTINGS).edit(EditRequest(images, 2))
    assert same.targets.tolist() == [2, 2, 2]


def test_one_image_that_is_right_is_not_enough(vit: nn.Module, requests: list[EditRequest]) -> None:
    images = torch.stack([r.images for r in requests[:3]])
    right = int(logits_of(vit, images[:1]).argmax())
    targets = [right, *(int(r.target) for r in requests[1:3])]
    lenient = EditSettings(
        learning_rate=1e-3, blocks=BLOCKS, stop_loss=5.0
    )  # the loss alone would stop at once
    trajectory = Editor(vit, RandomMask(0.5), lenient).edit(EditRequest(images, targets))
    assert trajectory.predictions[0].tolist() != targets
    assert trajectory.losses[0] < 5.0
    assert trajectory.succeeded
    assert trajectory.predictions[-1].tolist() == targets


def test_evaluated_at_every_step(
    vit: nn.Module, requests: list[EditRequest], image_maker: Callable[..., Tensor]
) -> None:
    split = SplitViT(vit, BLOCKS[0])
    group = torch.stack([r.images for r in requests[:4]])
    evaluation = EvaluationSet.build(split, group, [3, 3, 3, 3], edited=2, protected=image_maker(20, seed=9))
    trajectory = Editor(vit, RandomMask(0.5), SETTINGS).edit(EditRequest(group[2], 3), evaluation)
    found = trajectory.evaluation
    assert found is not None
    assert found.group.shape == (len(trajectory), 4)
    assert found.protected.shape == (len(trajectory), 20)
    assert torch.equal(found.group[:, 2], trajectory.predictions[:, 0])
    assert found.broken(0).tolist() == []
    for step in range(len(trajectory)):
        scores = trajectory.scores(step)
        fixed, broken = found.fixed(step), found.broken(step)
        assert scores.sr == float(2 in fixed)
        assert scores.gr == pytest.approx(len(set(fixed) - {2}) / 3)
        assert scores.gr_published == pytest.approx((len(fixed) - 1) / 4)
        assert scores.lr == pytest.approx(1 - len(broken) / 20)
    frame = trajectory.to_frame()
    assert list(frame.columns)[-3:] == ["sr", "gr", "lr"]
    assert frame["lr"].iloc[0] == 1
    assert frame["sr"].iloc[-1] == 1
    assert found.broken(-1).size > 0  # so that locality was measured on something


@pytest.mark.parametrize("pooling", [{}, {"reg_tokens": 2}, {"global_pool": "avg", "class_token": False}])
def test_other_models_can_be_edited(
    make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor], pooling: dict[str, object]
) -> None:
    model = make_vit(img_size=(32, 48), embed_dim=36, num_heads=3, depth=4, mlp_ratio=3, **pooling)
    image = image_maker(1, 32, 48)[0]
    target = int(logits_of(model, image[None]).topk(2).indices[0, 1])
    for where in (FullMask(), RandomMask(0.5), GradientMask(0.5)):
        trajectory = Editor(model, where, EditSettings(learning_rate=1e-3, blocks=(0, 2))).edit(
            EditRequest(image, target)
        )
        assert trajectory.succeeded
        assert trajectory.mask.space == EditSpace((0, 2), 108, 36)
        with applied(model, trajectory.edit):
            assert int(logits_of(model, image[None]).argmax()) == target


@pytest.mark.parametrize("record", [True, False])
def test_the_fast_way_makes_the_same_edit(
    vit: nn.Module, requests: list[EditRequest], image_maker: Callable[..., Tensor], record: bool
) -> None:
    group, protected = torch.stack([r.images for r in requests[:4]]), image_maker(20, seed=9)
    evaluation = EvaluationSet.build(SplitViT(vit, BLOCKS[0]), group, [3, 3, 3, 3], 2, protected)
    settings = EditSettings(learning_rate=2e-4, blocks=BLOCKS, max_steps=5)
    exact, fast = (
        Editor(vit, RandomMask(0.5), settings, exact=e).edit(EditRequest(group[2], 3), evaluation, record)
        for e in (True, False)
    )
    torch.testing.assert_close(exact.losses, fast.losses, rtol=1e-4, atol=1e-5)
    assert exact.evaluation is not None
    assert fast.evaluation is not None
    assert torch.equal(exact.evaluation.protected, fast.evaluation.protected)
    if record:
        torch.testing.assert_close(exact.row_change, fast.row_change, rtol=1e-3, atol=1e-5)


def test_a_prefix_in_half_precision(vit: nn.Module, request_: EditRequest) -> None:
    settings = EditSettings(learning_rate=2e-4, blocks=BLOCKS, max_steps=5)
    whole = Editor(vit, RandomMask(0.5), settings).edit(request_)
    half = Editor(vit, RandomMask(0.5), settings, prefix_dtype=torch.bfloat16).edit(request_)
    assert not torch.equal(whole.losses, half.losses)
    torch.testing.assert_close(whole.losses, half.losses, rtol=0.1, atol=0.1)
    for change in half.edit.changes.values():
        assert change.tensors()["delta"].dtype == torch.float32
    for settings, exact in ((SETTINGS, True), (replace(SETTINGS, preset="published"), None)):
        with pytest.raises(InvalidInputError, match=r"rounds what an exact edit computes.*pass exact=False"):
            Editor(vit, FullMask(), settings, exact=exact, prefix_dtype=torch.bfloat16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_an_accelerator(vit: nn.Module, hypernetwork: MaskHypernetwork, request_: EditRequest) -> None:
    settings = EditSettings(learning_rate=2e-4, blocks=BLOCKS, max_steps=5)
    for where in (RandomMask(0.5), GradientMask(0.5), LearnedMask(hypernetwork, 0.5)):
        here = Editor(vit, where, settings).edit(request_)
        vit.cuda()
        there = Editor(vit, where, settings, prefix_dtype=torch.bfloat16).edit(request_)
        vit.cpu()
        torch.testing.assert_close(here.losses, there.losses, rtol=0.1, atol=0.1)
        assert {t.device.type for c in there.edit.changes.values() for t in c.tensors().values()} == {"cpu"}


def test_using_another_mask_shares_the_model(vit: nn.Module, request_: EditRequest, space: EditSpace) -> None:
    editor = Editor(vit, FullMask(), SETTINGS)
    other = editor.using(RandomMask(0.5))
    assert other.edit(request_).mask.origin == "random"
    assert editor.edit(request_).mask.origin == "full"
    foreign = BinaryMask(torch.ones(2, 192, dtype=torch.bool), EditSpace((1,), 192, 48))
    with pytest.raises(InvalidInputError, match="the mask speaks about"):
        editor.using(foreign)


@pytest.mark.parametrize(
    ("images", "target", "text"),
    [
        (torch.rand(32, 32), 1, r"images must have shape \(batch, 3, height, width\), not \(32, 32\)"),
        (torch.rand(1, 32, 32, 3), 1, r"move the channels: images\.permute\(0, 3, 1, 2\)"),
        (torch.rand(1, 1, 32, 32), 1, "repeat the grey channel"),
        (torch.rand(4, 32, 32), 1, r"must have shape \(batch, 3, height, width\), not \(1, 4, 32, 32\)"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), 1, r"divide by 255: images\.float\(\) / 255"),
        (255 * torch.rand(3, 32, 32), 1, r"they look like 0\.\.255: divide by 255"),
        (torch.randn(3, 32, 32), 1, "they look normalised: pass them before normalisation"),
        (torch.full((3, 32, 32), torch.nan), 1, "images must be finite"),
        (torch.rand(3, 30, 32), 1, "30x32 px, which 8x8 patches do not tile"),
        (torch.rand(3, 40, 32), 1, "40x32 px, but this model takes 32x32 only"),
        (torch.rand(3, 32, 32), 7, r"target 7 is outside 0\.\.6: the model has 7 classes"),
        (torch.rand(3, 32, 32), -1, r"target -1 is outside 0\.\.6"),
        (torch.rand(2, 3, 32, 32), [1, 9], r"target 9 is outside 0\.\.6"),
        (torch.rand(3, 3, 32, 32), [1, 2], "3 images but 2 targets; give one target, or one an image"),
        (torch.rand(3, 32, 32), [], "1 images but 0 targets"),
    ],
)
def test_requests_that_cannot_be_met_say_why(
    vit: nn.Module, images: Tensor, target: int | Sequence[int], text: str
) -> None:
    editor = Editor(vit, RandomMask(0.5), SETTINGS)
    with pytest.raises(InvalidInputError, match=text):
        editor.edit(EditRequest(images, target))


def test_a_target_may_be_a_numpy_number(vit: nn.Module, images: Tensor) -> None:
    settings = EditSettings(learning_rate=1e-3, blocks=BLOCKS, max_steps=1)
    trajectory = Editor(vit, FullMask(), settings).edit(EditRequest(images[0], np.int64(3)))
    assert trajectory.targets.tolist() == [3]
    assert trajectory.edit.info["targets"] == [3]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0; it must be above 0, for example 2e-5"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"max_steps": 0}, "max_steps is 0; it must be at least 1"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, float], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        EditSettings(**settings)


def test_presets() -> None:
    published = EditSettings.from_preset("published")
    assert (published.learning_rate, published.max_steps, published.stop_loss) == (2e-5, 100, 0.01)
    assert (published.alpha, published.eps, published.blocks) == (0.99, 1e-8, (7, 8, 9))
    assert EditSettings.from_preset("corrected", max_steps=3) == EditSettings(max_steps=3)
    with pytest.raises(UnknownNameError, match=r"unknown preset 'publishd'; did you mean 'published'\?"):
        EditSettings.from_preset("publishd")


@pytest.mark.parametrize("where", [RandomMask, GradientMask])
@pytest.mark.parametrize("sparsity", [1.0, -0.2, 90])
def test_masks_refuse_a_sparsity_outside_its_range(where: type, sparsity: float) -> None:
    with pytest.raises(InvalidInputError, match=rf"sparsity {sparsity} is outside \[0, 1\)"):
        where(sparsity)


def test_a_learned_mask_refuses_a_sparsity_outside_its_range(hypernetwork: MaskHypernetwork) -> None:
    with pytest.raises(InvalidInputError, match=r"sparsity 1\.0 is outside \[0, 1\)"):
        LearnedMask(hypernetwork, 1.0)


def test_masks_and_hypernetworks_of_another_space_or_model(
    vit: nn.Module,
    make_vit: Callable[..., nn.Module],
    hypernetwork: MaskHypernetwork,
    make_network: Callable[..., MaskNetwork],
) -> None:
    other = EditSettings(blocks=(0, 1))
    with pytest.raises(
        InvalidInputError, match=r"the hypernetwork speaks about EditSpace\(blocks=\(1, 2, 3\)"
    ):
        Editor(vit, LearnedMask(hypernetwork), other)
    with pytest.raises(InvalidInputError, match="the mask speaks about"):
        Editor(vit, BinaryMask(torch.ones(6, 192, dtype=torch.bool), hypernetwork.space), other)
    with pytest.raises(CheckpointError, match="this hypernetwork was trained on a model with fingerprint"):
        Editor(make_vit(seed=1), LearnedMask(hypernetwork), SETTINGS)
    anybodys = MaskHypernetwork(hypernetwork.network, hypernetwork.space)
    assert Editor(make_vit(seed=1), LearnedMask(anybodys), SETTINGS).base != fingerprint(vit)


def test_models_that_cannot_be_edited(vit: nn.Module, make_vit: Callable[..., nn.Module]) -> None:
    with pytest.raises(
        InvalidInputError, match="the model has no classification head, so there is no prediction"
    ):
        Editor(make_vit(num_classes=0), settings=SETTINGS)
    with pytest.raises(InvalidInputError, match=r"blocks \(7, 8, 9\) must be one or more of 0\.\.4"):
        Editor(vit)
    with pytest.raises(InvalidInputError, match="training mode"):
        Editor(vit.train(), settings=SETTINGS)


def test_random_masks_depend_on_their_seed_alone(vit: nn.Module, requests: list[EditRequest]) -> None:
    settings = EditSettings(blocks=BLOCKS, max_steps=1)
    masks = {
        seed: [Editor(vit, RandomMask(0.8, seed), settings).edit(r).mask.bits for r in requests[:3]]
        for seed in (0, 1)
    }
    assert all(torch.equal(bits, masks[0][0]) for bits in masks[0])
    assert not torch.equal(masks[0][0], masks[1][0])
    share = masks[0][0].double().mean(1)
    assert share.min() > 0.1  # drawn over all matrices
    assert share.max() < 0.3


def test_gradient_masks_take_the_largest_gradients_and_see_the_label(vit: nn.Module, images: Tensor) -> None:
    settings = EditSettings(blocks=BLOCKS, max_steps=1)
    editor = Editor(vit, GradientMask(0.9), settings)
    trajectory = editor.edit(EditRequest(images[0], 1))
    space, mask = trajectory.mask.space, trajectory.mask
    weights = {f"{a}.weight": w.clone().requires_grad_(True) for a, w in space.weights(vit).items()}
    loss = F.cross_entropy(
        torch.func.functional_call(vit, weights, normalize(vit, images[:1])), torch.tensor([1])
    )
    gradients = torch.autograd.grad(loss, list(weights.values()))
    norms = torch.stack(
        [g.norm(dim=1 - space.axis(a)) for a, g in zip(space.addresses, gradients, strict=True)]
    )
    assert norms[mask.bits].min() >= norms[~mask.bits].max() * (1 - 1e-5)
    assert not torch.equal(editor.edit(EditRequest(images[0], 5)).mask.bits, mask.bits)
