"""Invariants 12 to 15 of the method's specification: the network that says where to edit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.editing import (
    Editor,
    EditRequest,
    EditSettings,
    EditSpace,
    LearnedMask,
    MaskHypernetwork,
    MaskNetwork,
    applied,
)
from workbench.editing.hypernetwork import EDITING_EPS, TRAINING_EPS

SPACE = EditSpace(blocks=(1, 2, 3), units=20, width=12)


def features(count: int = 5, width: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("space", [SPACE, EditSpace((0,), 7, 6), EditSpace((2, 5, 6, 8), 9, 18)])
def test_inv12_shapes_and_range(space: EditSpace, make_network: Callable[..., MaskNetwork]) -> None:
    network = make_network(space)
    for scale in (1.0, 100.0):  # the second saturates the sigmoids
        with torch.no_grad():
            for head in network.heads:
                head.weight.mul_(scale)
            masks = {eps: network(features(width=space.width), eps) for eps in (TRAINING_EPS, EDITING_EPS)}
        for eps, mask in masks.items():
            assert mask.shape == (5, *space.shape)
            assert mask.min() > 0
            assert mask.max() < 1
            assert mask.min() >= eps * 0.999
            assert mask.max() <= 1 - eps * 0.5  # 1e-7 is below single precision's step at 1


def test_inv12_heads_end_in_a_sigmoid_of_slope_three(make_network: Callable[..., MaskNetwork]) -> None:
    network = make_network(SPACE)
    with torch.no_grad():
        for position, head in enumerate(network.heads):
            head.weight.zero_()
            head.bias.fill_(0.1 * (position - 2))
        masks = network(features())
    wanted = torch.sigmoid(3 * 0.1 * (torch.arange(6) - 2))
    torch.testing.assert_close(masks, wanted[None, :, None].expand_as(masks))


def test_inv12_parameter_counts_of_the_published_size() -> None:
    """The published counts include 18,432 entries that nothing uses; they are not here."""
    space = EditSpace(blocks=(7, 8, 9), units=3072, width=768)
    with torch.device("meta"):
        for depth, published in ((3, 24_837_120), (5, 31_930_368)):
            network = MaskNetwork(space, depth=depth)
            assert sum(p.numel() for p in network.parameters()) == published - space.size
    assert sum(p.numel() for p in network.blocks[0].parameters()) == 3_546_624
    assert sum(p.numel() for p in network.heads.parameters()) == 14_174_208
    assert network.tokens.numel() == 4_608
    assert (network.blocks[0].attn.num_heads, network.blocks[0].norm1.eps) == (6, 1e-6)


def test_inv12_a_state_dict_goes_out_and_in(make_network: Callable[..., MaskNetwork]) -> None:
    network, other = make_network(SPACE), make_network(SPACE, seed=1)
    other.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(network(features()), other(features()))


def test_inv13_permuting_the_batch_permutes_the_masks(make_network: Callable[..., MaskNetwork]) -> None:
    network, batch, order = make_network(SPACE), features(), torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        masks = network(batch)
        torch.testing.assert_close(network(batch[order]), masks[order], rtol=1e-5, atol=1e-6)
        for i in range(5):
            torch.testing.assert_close(network(batch[i : i + 1])[0], masks[i], rtol=1e-5, atol=1e-6)
            mates = features(seed=9)
            mates[2] = batch[i]
            torch.testing.assert_close(network(mates)[2], masks[i], rtol=1e-5, atol=1e-6)
    assert (masks[0] - masks[1]).abs().max() > 0.01  # and they do differ between images


def gradients(network: MaskNetwork) -> dict[str, Tensor]:
    labels = torch.rand(5, *SPACE.shape, generator=torch.Generator().manual_seed(1))
    F.binary_cross_entropy(network(features(), TRAINING_EPS), labels).backward()
    found = {}
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad
    return found


def test_inv14_every_parameter_gets_a_gradient_but_key_biases() -> None:
    torch.manual_seed(0)
    width = SPACE.width
    for name, gradient in gradients(MaskNetwork(SPACE, depth=3)).items():
        if name.endswith("attn.qkv.bias"):
            query, key, value = gradient.split(width)
            assert key.abs().max() < 1e-6 * value.abs().max()  # softmax is blind to them
            assert query.abs().max() > 0
        else:
            assert gradient.abs().max() > 0, name


def test_inv14_with_one_block_queries_start_without_gradient() -> None:
    torch.manual_seed(0)
    gradient = gradients(MaskNetwork(SPACE, depth=1))["blocks.0.attn.qkv.weight"]
    query, key, value = gradient.split(SPACE.width)
    assert query.abs().max() == 0
    assert key.abs().max() > 0
    assert value.abs().max() > 0


def test_inv14_tokens_start_equal_and_only_heads_tell_them_apart() -> None:
    torch.manual_seed(0)
    network = MaskNetwork(SPACE, depth=2)
    assert network.tokens.abs().sum() == 0
    gradient = gradients(network)["tokens"][0]
    assert (gradient[0] - gradient[1]).abs().max() > 0
    with torch.no_grad():
        for head in network.heads:
            head.load_state_dict(network.heads[0].state_dict())
        masks = network(features())
    torch.testing.assert_close(masks, masks[:, :1].expand_as(masks), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("forced", range(6))
def test_inv15_a_head_speaks_about_its_own_matrix(
    vit: nn.Module, hypernetwork: MaskHypernetwork, request_: EditRequest, forced: int
) -> None:
    with torch.no_grad():
        for position, head in enumerate(hypernetwork.network.heads):
            head.weight.zero_()
            head.bias.fill_(5.0 if position == forced else -5.0)
    space = hypernetwork.space
    order = [f"blocks.{b}.mlp.{m}" for b in (1, 2, 3) for m in ("fc1", "fc2")]
    settings = EditSettings(learning_rate=1e-3, blocks=space.blocks, max_steps=3)
    sparsity = 1 - 1 / len(order)
    trajectory = Editor(vit, LearnedMask(hypernetwork, sparsity), settings).edit(request_)
    assert trajectory.mask.density_per_matrix().to_dict() == {
        a: float(i == forced) for i, a in enumerate(order)
    }
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    with applied(vit, trajectory.edit):
        changed = [name for name, value in vit.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == [f"{order[forced]}.weight"]
