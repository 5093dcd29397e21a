"""What speed is measured against gives what the workbench gives: edits, evaluations and labels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks import published_procedure as published
from workbench.editing import Editor, EditRequest, EditSettings, EditSpace, Judge, RandomMask
from workbench.editing.losses import distillation
from workbench.editing.mask_search import SearchSettings, search_masks
from workbench.models import SplitViT, fingerprint, logits_of

BLOCKS = (1, 2, 3)


@pytest.fixture
def names(space: EditSpace) -> tuple[str, ...]:
    return tuple(f"{address}.weight" for address in space.addresses)


@pytest.mark.parametrize(("steps", "stop_loss"), [(6, 0.0), (100, 0.05)])
def test_edits_agree(
    vit: nn.Module, space: EditSpace, request_: EditRequest, steps: int, stop_loss: float
) -> None:
    mask = RandomMask(0.9).choose(SplitViT(vit, 1), space, torch.empty(1), torch.tensor([0]))
    settings = EditSettings(learning_rate=5e-4, max_steps=steps, stop_loss=stop_loss, blocks=BLOCKS)
    ours = Editor(vit, mask, settings).edit(request_)
    before = fingerprint(vit)
    images, targets = request_.batch(7)
    gates = {f"{a}.weight": space.gate(mask.bits.float(), a) for a in space.addresses}
    theirs = published.edit(vit, images, targets, gates, 5e-4, steps, stop_loss)
    assert theirs.steps == ours.steps
    assert (ours.steps == 6) == (steps == 6)
    weights, changed = ours.edit.weights(vit), 0
    for name, parameter in vit.named_parameters():
        wanted = weights.get(name.removesuffix(".weight"), parameter)
        torch.testing.assert_close(theirs.state[name].detach(), wanted, rtol=0, atol=1e-5)
        changed += int((theirs.state[name] != parameter).any())
    assert changed == len(space.addresses)
    assert fingerprint(vit) == before


def test_evaluations_agree(vit: nn.Module, space: EditSpace, request_: EditRequest, images: Tensor) -> None:
    settings = EditSettings(learning_rate=2e-3, blocks=BLOCKS)
    edit = Editor(vit, RandomMask(0.5), settings).edit(request_).edit
    state = dict(vit.named_parameters()) | {f"{a}.weight": w for a, w in edit.weights(vit).items()}
    after, before = published.evaluate(vit, state, images.split(5))
    judge = Judge(vit, images)
    assert torch.equal(judge.before, before)
    assert torch.equal(judge.predictions(edit, images), after)
    assert (after != before).any()


def test_labels_agree(
    vit: nn.Module, space: EditSpace, names: tuple[str, ...], image_maker: Callable[..., Tensor]
) -> None:
    """In double precision: RMSprop's first step has the size of its rate however small a gradient is."""
    vit.double()
    hosts, mixed = image_maker(3, seed=1).double(), image_maker(3, seed=2).double()
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(3, *space.shape, generator=generator, dtype=torch.float64) * 2 - 1
    theirs = published.search_labels(
        vit, hosts, mixed, start, names, inner_steps=3, outer_steps=3, inner_rate=1e-2, price=0.3
    )
    split = SplitViT(vit, BLOCKS[0])
    tokens, clean = split.prefix(mixed), logits_of(vit, hosts)
    ours = search_masks(
        lambda weights: distillation(clean, split.tail(tokens, weights)),
        space.weights(vit),
        space,
        start,
        SearchSettings(inner_steps=3, outer_steps=3, inner_rate=1e-2, price=0.3 / 3),
    ).labels
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-9)
    assert theirs.std() > 0.1
    assert all(p.grad is None for p in vit.parameters())
