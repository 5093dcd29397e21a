"""MEND: an untrained network is the plain gradient step; which network edits which model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.checkpoints import Card, save_checkpoint
from workbench.data import emoji
from workbench.data.failures import failure_groups
from workbench.editing import Change, EditRequest, EditSpace, LowRankChange
from workbench.editing.editors.mend import Mend
from workbench.editing.editors.mend_network import Factors, MendNetwork, PairNetwork, gradient_factors
from workbench.errors import CheckpointError, InvalidInputError, MissingDataError, UnknownNameError
from workbench.models import SplitViT, fingerprint, load_model

#: Those of the fixture `space`.
BLOCKS = (1, 2, 3)

RATE = 0.02


@pytest.fixture
def network(space: EditSpace) -> MendNetwork:
    return MendNetwork(space, rank=4, edit_rate=RATE)


def stir(network: MendNetwork, seed: int = 0) -> MendNetwork:
    """As training would leave it: every parameter away from its start, and means and deviations."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in network.named_buffers():
            drawn = torch.randn(buffer.shape, generator=generator)
            buffer.copy_(0.1 * drawn.exp() if name.endswith("std") else 0.1 * drawn)
    return network


def gradients_of(model: nn.Module, space: EditSpace, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Of the mean cross-entropy in the weights themselves."""
    split = SplitViT(model, space.blocks[0])
    leaves = {a: w.detach().requires_grad_(True) for a, w in space.weights(model).items()}
    loss = F.cross_entropy(split(images, leaves), targets)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("count", [1, 3])
def test_an_untrained_network_makes_a_plain_gradient_step(
    vit: nn.Module, space: EditSpace, network: MendNetwork, requests: list[EditRequest], count: int
) -> None:
    images = torch.stack([r.images for r in requests[:count]])
    targets = [int(r.target) for r in requests[:count]]
    for seed in (0, 1):  # whatever pairs are normalised with
        for name, buffer in network.named_buffers():
            buffer.uniform_(0.5, 2.0) if name.endswith("std") else buffer.uniform_(-seed, seed)
        edit = Mend(vit, network).edit(EditRequest(images, targets)).edit
        wanted = gradients_of(vit, space, images, torch.tensor(targets))
        for address, change in edit.changes.items():
            step = change.added_to(torch.zeros_like(wanted[address]))
            torch.testing.assert_close(step, -RATE * wanted[address], rtol=1e-3, atol=1e-6)
    assert tuple(edit.changes) == space.addresses


def test_factors_are_the_gradient(vit: nn.Module, space: EditSpace, images: Tensor) -> None:
    targets = torch.tensor([2, 5])
    split = SplitViT(vit, space.blocks[0])
    logits, factors = gradient_factors(split, space, split.prefix(images[:2]), targets)
    torch.testing.assert_close(logits, split(images[:2]))
    wanted = gradients_of(vit, space, images[:2], targets)
    for address, (inputs, errors) in factors.items():
        total = torch.einsum("bto,bti->oi", errors, inputs) / 2
        torch.testing.assert_close(total, wanted[address], rtol=1e-4, atol=1e-7)


def test_an_error_on_the_way_leaves_no_hooks(vit: nn.Module, space: EditSpace, images: Tensor) -> None:
    split = SplitViT(vit, space.blocks[0])
    with pytest.raises(IndexError):
        gradient_factors(split, space, split.prefix(images[:1]), torch.tensor([99]))
    assert not any(module._forward_hooks for module in vit.modules())


def test_a_trained_network_edits_each_pair_by_itself(space: EditSpace, network: MendNetwork) -> None:
    pairs = {
        a: Factors(torch.randn(3, 5, w[1]), torch.randn(3, 5, w[0]))
        for a, w in {a: (192, 48) if a.endswith("fc1") else (48, 192) for a in space.addresses}.items()
    }
    with torch.no_grad():
        together = stir(network)(pairs)
        alone = network({a: Factors(x[1:2, 2:3], e[1:2, 2:3]) for a, (x, e) in pairs.items()})
    for address in space.addresses:
        torch.testing.assert_close(together[address].inputs[1:2, 2:3], alone[address].inputs)
        torch.testing.assert_close(together[address].errors[1:2, 2:3], alone[address].errors)
        assert not torch.allclose(together[address].inputs, pairs[address].inputs)


def test_layers_of_one_shape_share_the_network_and_differ_by_scale_and_offset() -> None:
    shared = PairNetwork(6, 9, layers=2, rank=3)
    pair = Factors(torch.randn(4, 6), torch.randn(4, 9))
    with torch.no_grad():
        shared.up.normal_()
        assert torch.equal(shared(pair, 0).errors, shared(pair, 1).errors)
        shared.offset[1, 0] += 0.1
        assert not torch.equal(shared(pair, 0).errors, shared(pair, 1).errors)


def test_a_token_without_error_takes_no_part(vit: nn.Module, images: Tensor) -> None:
    """In the last block only the class token is felt: rank one, also from a network that adds offsets."""
    network = stir(MendNetwork(EditSpace.of(vit, (4,)), rank=4))
    changes = Mend(vit, network).edit(EditRequest(images[0], 2)).edit.changes
    for change in changes.values():
        assert isinstance(change, LowRankChange)
        assert change.left.shape[1] == 1


def test_statistics_normalise_and_still_units_do_not_blow_up() -> None:
    shared = PairNetwork(3, 2, layers=1, rank=2)
    pairs = torch.randn(200, 5) * torch.tensor([1.0, 2.0, 3.0, 1e-6, 0.0]) + 4
    shared.normalise(pairs, 0)
    normed = (pairs - shared.mean[0]) / shared.std[0]
    torch.testing.assert_close(normed[:, :4].std(0), torch.ones(4), rtol=1e-3, atol=1e-3)
    assert shared.std[0, 4] == pytest.approx(0.01 * 0.5e-6, rel=0.2)
    shared.normalise(torch.zeros(10, 5), 0)
    assert (shared.std > 0).all()


def test_the_factor_scales_the_update(vit: nn.Module, network: MendNetwork, request_: EditRequest) -> None:
    one, three = (Mend(vit, network, factor).edit(request_).edit.changes for factor in (1.0, 3.0))
    for address, change in one.items():
        zero = torch.zeros_like(vit.get_parameter(f"{address}.weight"))
        torch.testing.assert_close(3 * change.added_to(zero), three[address].added_to(zero))


def test_the_smaller_form_is_kept(vit: nn.Module, network: MendNetwork, requests: list[EditRequest]) -> None:
    """17 tokens of 240 numbers are less than a matrix of 9,216; 51 are more."""
    few = Mend(vit, network).edit(requests[0]).edit
    images = torch.stack([r.images for r in requests[:3]])
    many = Mend(vit, network).edit(EditRequest(images, [int(r.target) for r in requests[:3]])).edit
    assert all(isinstance(change, LowRankChange) for change in few.changes.values())
    assert few.parameters == 6 * 17 * 240
    assert all(isinstance(change, Change) for change in many.changes.values())
    assert many.parameters == 6 * 9216


def test_the_outcome_is_what_the_states_say(vit: nn.Module, space: EditSpace, request_: EditRequest) -> None:
    strong = Mend(vit, MendNetwork(space, 4, edit_rate=0.3)).edit(request_)
    weak = Mend(vit, MendNetwork(space, 4, edit_rate=1e-6)).edit(request_)
    assert (strong.succeeded, strong.steps, weak.succeeded, weak.steps) == (True, 1, False, 1)
    assert strong.settings == {"editor": "mend", "factor": 1.0, "blocks": list(BLOCKS)}


def checkpoint(network: MendNetwork, folder: Path, **extra: object) -> Path:
    card = Card("mine", "mend", "", "", 0, {}, extra={**network.extra(), **extra})
    return save_checkpoint(folder / "mend-mine.safetensors", network.compact(), card)


def test_saved_and_loaded_it_edits_the_same(
    vit: nn.Module, space: EditSpace, request_: EditRequest, tmp_path: Path
) -> None:
    network = stir(MendNetwork(space, 4, base=fingerprint(vit)))
    state = torch.get_rng_state()
    loaded = MendNetwork.load(checkpoint(network, tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    assert (loaded.base, loaded.space, loaded.rank) == (network.base, space, 4)
    assert loaded.card is not None
    one, two = (Mend(vit, n).edit(request_) for n in (network, loaded))
    torch.testing.assert_close(one.probabilities, two.probabilities, rtol=1e-2, atol=1e-4)
    assert torch.equal(network.fc1.std, loaded.fc1.std)


def test_checkpoints_that_do_not_fit(space: EditSpace, tmp_path: Path) -> None:
    network = MendNetwork(space, 4)
    with pytest.raises(CheckpointError, match="does not fit its own card"):
        MendNetwork.load(checkpoint(network, tmp_path, rank=5))
    card = Card("mine", "mend", "", "", 0, {}, extra={"blocks": [1]})
    path = save_checkpoint(tmp_path / "mend-mine.safetensors", network.compact(), card)
    with pytest.raises(CheckpointError, match=r"the card of MEND network .* lacks 'units'"):
        MendNetwork.load(path)
    with pytest.raises(UnknownNameError, match="unknown mend 'emoji_vit_s41'; did you mean 'emoji_vit_s14'"):
        MendNetwork.load("emoji_vit_s41")


def test_a_network_of_another_model_is_refused(
    vit: nn.Module, make_vit: Callable[..., nn.Module], space: EditSpace
) -> None:
    other = MendNetwork(space, 4, base=fingerprint(make_vit(seed=1)))
    with pytest.raises(CheckpointError) as caught:
        Mend(vit, other)
    assert str(caught.value) == (
        f"this MEND network was trained on a model with fingerprint {other.base[:12]}…, the model given has "
        f"{fingerprint(vit)[:12]}…; load the model it belongs to, or train one: workbench train mend --model NAME"
    )
    with pytest.raises(CheckpointError, match="edits 96 units of width 24, the model has 192 of width 48"):
        Mend(vit, MendNetwork(EditSpace(BLOCKS, 96, 24), 4))


def test_without_a_shipped_network_it_says_what_to_type(vit: nn.Module) -> None:
    with pytest.raises(MissingDataError) as caught:
        Mend(vit)
    assert str(caught.value) == (
        f"no MEND network is shipped for a model with fingerprint {fingerprint(vit)[:12]}…; train one with "
        "`workbench train mend --model NAME` and pass network=MendNetwork.load(PATH)"
    )


def test_the_factor_must_be_above_zero(vit: nn.Module, network: MendNetwork) -> None:
    with pytest.raises(InvalidInputError, match="factor is -1; it must be a finite number above 0"):
        Mend(vit, network, factor=-1)


@pytest.mark.slow
def test_the_shipped_network_edits_real_failures_away(require_data: Callable[..., None]) -> None:
    require_data("vit-s14-focus", "emojibase", *(f"emoji-{style}" for style in emoji.styles()))
    model = load_model("emoji_vit_s14")
    editor = Mend(model)
    assert editor.network.base == fingerprint(model)
    for group in failure_groups(model)[:3]:
        failure = group.failures[0]
        result = editor.edit(EditRequest(failure.image, failure.true))
        assert result.succeeded, result.outcome()
        assert result.predicted_name(0) == failure.wrong_name
