"""ROME: the key gives the value, by the smallest change; where its keys come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from workbench.data.emoji_population import classified
from workbench.editing import EditRequest, LowRankChange
from workbench.editing.editors import rome_keys
from workbench.editing.editors._feed_forward import FeedForward
from workbench.editing.editors.rome import Rome, odds_changed, smallest_change
from workbench.editing.editors.rome_keys import image_covariance, keys_of
from workbench.errors import InvalidInputError
from workbench.models import logits_of

UNITS, DIM = 12, 7


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(seed: int = 3) -> Tensor:
    keys = drawn(50, UNITS, seed=seed)
    return keys.T @ keys / 50


def dense(change: LowRankChange) -> Tensor:
    return change.left @ change.right


@given(count=st.integers(1, 5), seed=st.integers(0, 1000))
def test_every_key_gives_its_value(count: int, seed: int) -> None:
    keys, steps = drawn(count, UNITS, seed=seed), drawn(count, DIM, seed=seed + 1)
    change = smallest_change(keys, steps, covariance())
    assert change.left.shape == (DIM, count)
    torch.testing.assert_close(dense(change) @ keys.T, steps.T, rtol=1e-8, atol=1e-9)


def test_the_old_weight_and_the_change_map_the_key_to_the_value_exactly() -> None:
    weight, key, value = drawn(DIM, UNITS), drawn(1, UNITS, seed=1), drawn(1, DIM, seed=2)
    change = smallest_change(key, value - key @ weight.T, covariance())
    torch.testing.assert_close(change.added_to(weight) @ key[0], value[0], rtol=1e-12, atol=1e-12)


def test_without_a_covariance_it_is_the_plain_rank_one_update() -> None:
    key, step = drawn(1, UNITS), drawn(1, DIM, seed=1)
    change = smallest_change(key, step, torch.eye(UNITS))
    torch.testing.assert_close(dense(change), step.T @ key / key.square().sum())


def test_with_one_it_is_the_published_formula() -> None:
    key, step, c = drawn(1, UNITS), drawn(1, DIM, seed=1), covariance()
    whitened = torch.linalg.inv(c) @ key[0]
    wanted = torch.outer(step[0], whitened) / (key[0] @ whitened)
    torch.testing.assert_close(dense(smallest_change(key, step, c)), wanted)


def test_no_other_change_that_fits_moves_usual_keys_less() -> None:
    keys, steps, c = drawn(3, UNITS), drawn(3, DIM, seed=1), covariance()
    change = dense(smallest_change(keys, steps, c))
    cost = (change @ c * change).sum()
    away = torch.eye(UNITS, dtype=torch.float64) - torch.linalg.pinv(keys) @ keys
    for seed in range(20):
        other = change + 0.1 * drawn(DIM, UNITS, seed=seed) @ away
        torch.testing.assert_close(other @ keys.T, steps.T)
        assert (other @ c * other).sum() > cost


def test_keys_that_repeat_share_the_mean_of_their_values() -> None:
    key, steps = drawn(1, UNITS), drawn(2, DIM, seed=1)
    change = dense(smallest_change(key.repeat(2, 1), steps, covariance()))
    torch.testing.assert_close(change @ key[0], steps.mean(0))


def test_odds_of_the_other_classes_alone_count() -> None:
    before, targets = torch.tensor([[3.0, 1.0, 0.5, -1.0]]), torch.tensor([1])
    same = before + torch.tensor([[-4.0, 5.0, 0.0, 0.0]])  # the wrong class and the wanted one
    assert odds_changed(before, same, targets).item() == pytest.approx(0, abs=1e-6)
    other = before + torch.tensor([[0.0, 0.0, 2.0, 0.0]])
    old, new = before[0, 2:].softmax(0), other[0, 2:].softmax(0)
    assert odds_changed(before, other, targets).item() == pytest.approx(
        float((old * (old / new).log()).sum())
    )
    assert odds_changed(before[:, :2], other[:, :2] + 1, targets).item() == 0


def test_in_the_last_block_the_edit_gives_the_value_that_was_found(vit: nn.Module, images: Tensor) -> None:
    """There only the class token matters, so the edited model is the one with its output replaced."""
    second = logits_of(vit, images).topk(2).indices[:, 1]
    editor = Rome(vit, keys=images[4:], block=-1, ridge=0.1)
    result = editor.edit(EditRequest(images[:2], second[:2].tolist()))
    network = FeedForward(vit, -1)
    tokens = network.tokens(images[:2])
    output = network.mlp.fc2(network.hidden(tokens))
    output[:, 0] += editor._value_changes(tokens, output, second[:2])
    wanted = network.logits(tokens, output)
    torch.testing.assert_close(result.probabilities[1], wanted.softmax(1).mean(0), rtol=1e-3, atol=1e-5)
    assert result.succeeded
    change = result.edit.changes["blocks.4.mlp.fc2"]
    assert isinstance(change, LowRankChange)
    assert change.right.shape == (2, 192)
    assert (result.settings["block"], result.settings["keys"]) == (4, "8 images")


def test_images_are_edited_as_they_would_be_alone(vit: nn.Module, requests: list[EditRequest]) -> None:
    editor = Rome(vit, covariance="identity", block=2)
    tokens = editor.network.tokens(torch.stack([r.images for r in requests[:3]]))
    output = editor.network.mlp.fc2(editor.network.hidden(tokens))
    targets = torch.tensor([int(r.target) for r in requests[:3]])
    together = editor._value_changes(tokens, output, targets)
    alone = editor._value_changes(tokens[:1], output[:1], targets[:1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-2, atol=1e-3)


def test_the_value_moves_no_farther_than_the_clamp(vit: nn.Module, request_: EditRequest) -> None:
    editor = Rome(vit, covariance="identity", clamp=0.3, decay=0.0)
    tokens = editor.network.tokens(request_.images[None])
    output = editor.network.mlp.fc2(editor.network.hidden(tokens))
    moved = editor._value_changes(tokens, output, torch.tensor([int(request_.target)]))
    assert moved.norm() <= 0.3 * output[0, 0].norm() * (1 + 1e-5)
    assert moved.norm() > 0.25 * output[0, 0].norm()


def test_a_covariance_protects_the_keys_it_was_made_of(vit: nn.Module, images: Tensor) -> None:
    target = int(logits_of(vit, images[:1]).topk(2).indices[0, 1])
    network = FeedForward(vit, -1)
    usual = torch.cat(list(keys_of(network, images[1:])))
    moved = []
    for settings in ({"keys": images[1:], "ridge": 1e-3}, {"covariance": "identity"}):
        change = Rome(vit, **settings).edit(EditRequest(images[0], target)).edit.changes["blocks.4.mlp.fc2"]
        moved.append((usual @ change.added_to(torch.zeros(48, 192)).T).norm())
    assert moved[0] < 0.2 * moved[1]


def test_the_covariance_of_images_is_computed_once(
    vit: nn.Module, images: Tensor, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = FeedForward(vit, 2)
    keys = torch.cat(list(keys_of(network, images)))
    found = image_covariance(network, images)
    torch.testing.assert_close(found, keys.T @ keys / len(images))
    assert len(list((empty_cache / "keys").iterdir())) == 1
    monkeypatch.setattr(rome_keys, "keys_of", None)  # it would be called
    assert torch.equal(image_covariance(network, images), found)
    with pytest.raises(TypeError):
        image_covariance(network, images[:4])
    with pytest.raises(TypeError):
        image_covariance(FeedForward(vit, 3), images)


def test_a_classifier_of_emoji_has_default_keys(
    emoji_vit: nn.Module, tiny_emoji: ModuleType, empty_cache: Path
) -> None:
    editor = Rome(emoji_vit)
    rows = classified()
    labels = torch.from_numpy(tiny_emoji.labels()[rows])
    right = []
    for style in tiny_emoji.styles("source"):
        images = tiny_emoji.on_white(tiny_emoji.drawings(style)[rows])
        right.append(images[logits_of(emoji_vit, images).argmax(1) == labels])
    keys = torch.cat(list(keys_of(editor.network, torch.cat(right))))
    plain = (keys.T @ keys / len(keys)).double()
    ridge = plain.diagonal().mean() * torch.eye(192, dtype=torch.float64)
    torch.testing.assert_close(editor.covariance, plain + ridge, rtol=1e-4, atol=1e-5)
    result = editor.edit(EditRequest(tiny_emoji.image("openmoji", "owl"), 1))
    assert result.settings["keys"] == "source drawings"


def test_other_models_are_told_what_to_give(vit: nn.Module, make_vit: Callable[..., nn.Module]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Rome(vit)
    assert str(caught.value) == (
        "this model has other classes than the emoji kinds, so there are no default keys; pass keys=IMAGES, some that "
        "it gets right, or covariance='identity' for the plain smallest change"
    )


def test_settings_out_of_range(vit: nn.Module, images: Tensor) -> None:
    with pytest.raises(InvalidInputError, match=r"block 5 is outside 0\.\.4 \(the model has 5 blocks\)"):
        Rome(vit, covariance="identity", block=5)
    with pytest.raises(InvalidInputError, match="ridge is -1; it must be at least 0"):
        Rome(vit, covariance="identity", ridge=-1)
    with pytest.raises(InvalidInputError, match="keys and covariance say the same thing; give one of them"):
        Rome(vit, keys=images, covariance="identity")
    with pytest.raises(InvalidInputError, match="covariance is 'none'; give a matrix, or 'identity'"):
        Rome(vit, covariance="none")
    with pytest.raises(
        InvalidInputError, match=r"it must be \(192, 192\), for the units of block 4, and finite"
    ):
        Rome(vit, covariance=torch.eye(48))
    with pytest.raises(InvalidInputError, match=r"images must have shape .* there is nothing in it"):
        Rome(vit, keys=images[:0])
