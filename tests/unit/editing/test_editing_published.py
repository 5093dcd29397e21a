"""The published code's hypernetwork files: their names and shapes, what they compute, and the edit made with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.editing import Editor, EditRequest, EditSettings, EditSpace, MaskHypernetwork, MaskNetwork
from workbench.editing.masks import kept_units, top_units
from workbench.errors import CheckpointError, InvalidInputError

State = dict[str, Tensor]

BLOCKS = (1, 2, 3)


def published(width: int, units: int, depth: int = 3, seed: int = 0, spread: float = 0.58) -> State:
    """A file's content with seeded weights, by the published names; as large as torch draws a Linear's by default."""
    generator = torch.Generator().manual_seed(seed)
    state = {"cls_token": torch.randn(1, 6, width, generator=generator)}

    def linear(name: str, out: int) -> None:
        state[f"{name}.weight"] = spread * torch.randn(out, width, generator=generator) / width**0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(out, generator=generator)

    for i in range(depth):
        for norm in ("attention_norm", "ffn_norm"):
            state[f"layer.{i}.{norm}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
            state[f"layer.{i}.{norm}.bias"] = 0.1 * torch.randn(width, generator=generator)
        for name in ("ffn.fc1", "ffn.fc2", "attn.query", "attn.key", "attn.value", "attn.out"):
            linear(f"layer.{i}.{name}", width)
    for j in range(6):
        linear(f"out_layer.{j}.out", units)
    state["learn_masks"] = torch.randn(6, units, generator=generator)
    return state


def published_masks(state: State, features: Tensor, depth: int) -> Tensor:
    """What that code computes from class tokens (batch, width), step by step as the specification's section 2 says."""
    batch, width = features.shape
    per_head = width // 6

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def normed(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def by_head(x: Tensor) -> Tensor:
        return x.reshape(batch, 7, 6, per_head).transpose(1, 2)

    x = torch.cat([state["cls_token"].repeat(batch, 1, 1), features.unsqueeze(1)], dim=1)
    for i in range(depth):
        at = f"layer.{i}"
        inner = normed(x, f"{at}.attention_norm")
        query, key, value = (
            by_head(linear(inner, f"{at}.attn.{name}")) for name in ("query", "key", "value")
        )
        weights = torch.softmax(query @ key.transpose(2, 3) / per_head**0.5, dim=-1)
        x = x + linear((weights @ value).transpose(1, 2).reshape(batch, 7, width), f"{at}.attn.out")
        hidden = linear(normed(x, f"{at}.ffn_norm"), f"{at}.ffn.fc1")
        x = x + linear(hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)), f"{at}.ffn.fc2")
    logits = torch.stack([linear(x[:, j], f"out_layer.{j}.out") for j in range(6)], dim=1)
    return torch.clamp(torch.sigmoid(3 * logits), 1e-7, 1 - 1e-7)


def saved(state: State, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.fixture
def state(space: EditSpace) -> State:
    """A file's content for the small model."""
    return published(space.width, space.units, depth=2)


@pytest.fixture
def file(state: State, tmp_path: Path) -> Path:
    return saved(state, tmp_path / "7000.pth")


@pytest.mark.parametrize(("width", "units", "depth"), [(768, 3072, 3), (768, 3072, 5), (384, 1536, 3)])
def test_masks_are_those_of_the_published_computation(
    tmp_path: Path, width: int, units: int, depth: int
) -> None:
    state = published(width, units, depth)
    hypernetwork = MaskHypernetwork.load(saved(state, tmp_path / "7000.pth"))
    assert hypernetwork.space == EditSpace((7, 8, 9), units, width)
    assert (hypernetwork.network.depth, hypernetwork.network.num_heads) == (depth, 6)
    features = torch.randn(2, width, generator=torch.Generator().manual_seed(1))
    found, wanted = hypernetwork.from_features(features).values, published_masks(state, features, depth)
    assert wanted.std() > 0.2  # masks that differ from unit to unit
    assert (found - wanted).abs().max() < 1e-6
    doubled = {name: value.double() for name, value in state.items()}
    with torch.no_grad():
        exact = hypernetwork.network.double()(features.double())
    torch.testing.assert_close(exact, published_masks(doubled, features.double(), depth), rtol=0, atol=1e-12)


def test_a_saturated_head_is_clamped_as_published(tmp_path: Path) -> None:
    state = published(48, 192, depth=1, spread=50)
    hypernetwork = MaskHypernetwork.load_published(saved(state, tmp_path / "7000.pth"))
    values = hypernetwork.from_features(torch.ones(1, 48)).values
    torch.testing.assert_close(values.max(), torch.tensor(1 - 1e-7), rtol=0, atol=0)
    torch.testing.assert_close(values.min(), torch.tensor(1e-7), rtol=0, atol=0)


def test_the_way_out_again_is_bit_exact(file: Path, state: State, tmp_path: Path) -> None:
    path = MaskHypernetwork.load_published(file, BLOCKS).save_published(tmp_path / "out" / "again.pth")
    again = torch.load(path, weights_only=True)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], value) for name, value in state.items())
    assert all(type(value) is Tensor for value in again.values())


def test_one_of_ours_goes_out_and_comes_back(
    vit: nn.Module, hypernetwork: MaskHypernetwork, images: Tensor, tmp_path: Path
) -> None:
    path = hypernetwork.save_published(tmp_path / "mine.pth")
    unused = torch.load(path, weights_only=True)["learn_masks"]
    assert torch.equal(unused, torch.zeros(hypernetwork.space.shape))  # the published code loads strictly
    back = MaskHypernetwork.load_published(path, BLOCKS, base=hypernetwork.base)
    assert torch.equal(back(vit, images).values, hypernetwork(vit, images).values)
    assert (back.space, back.base) == (hypernetwork.space, hypernetwork.base)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), depth=st.integers(1, 4), units=st.integers(1, 9))
def test_every_size_goes_round(
    tmp_path_factory: pytest.TempPathFactory, seed: int, depth: int, units: int
) -> None:
    folder = tmp_path_factory.mktemp("published")
    state = published(12, units, depth, seed)
    loaded = MaskHypernetwork.load(saved(state, folder / "a.pth"))
    assert (loaded.network.depth, loaded.space.units, loaded.space.width) == (depth, units, 12)
    again = torch.load(loaded.save_published(folder / "b.pth"), weights_only=True)
    assert {name: value.tolist() for name, value in again.items()} == {
        n: v.tolist() for n, v in state.items()
    }


def test_prefix_and_unused_entry_may_be_there_or_not(state: State, file: Path, tmp_path: Path) -> None:
    features = torch.randn(2, 48)
    wanted = MaskHypernetwork.load_published(file, BLOCKS).from_features(features).values
    lean = {f"module.{name}": value for name, value in state.items() if name != "learn_masks"}
    found = MaskHypernetwork.load_published(saved(lean, tmp_path / "lean.pt"), BLOCKS)
    assert torch.equal(found.from_features(features).values, wanted)
    assert found.learn_masks is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer.0.ffn.fc1.bias": None}, "missing: layer.0.ffn.fc1.bias"),
        ({"embeddings.weight": torch.ones(3)}, "unexpected: embeddings.weight"),
        ({"layer.x.ffn.fc1.bias": torch.ones(3)}, r"unexpected: layer\.x\.ffn\.fc1\.bias"),
        (
            {"layer.1.attn.key.weight": torch.ones(3, 48)},
            r"layer\.1\.attn\.key\.weight \(3, 48\) instead of \(48, 48\)",
        ),
        ({"learn_masks": torch.ones(6, 3)}, r"code: learn_masks \(6, 3\) instead of \(6, 192\)"),
        ({"cls_token": None}, "cls_token .* is missing or misshapen; it holds layer.0.attention_norm.weight"),
        ({"out_layer.0.out.weight": torch.ones(3)}, "out_layer.0.out.weight .* is missing or misshapen"),
        ({"cls_token": torch.full((1, 6, 48), torch.nan)}, "values that are not finite in cls_token"),
    ],
)
def test_files_that_are_no_hypernetwork(
    state: State, tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    content = {name: value for name, value in {**state, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=message):
        MaskHypernetwork.load_published(saved(content, tmp_path / "7000.pth"), BLOCKS)


def test_a_missing_layer_is_named(state: State, tmp_path: Path) -> None:
    content = {name: value for name, value in state.items() if not name.startswith("layer.0.")}
    with pytest.raises(
        CheckpointError, match=r"missing: layer\.0\.\S+, .*\(16 in all\); unexpected: layer\.1\."
    ):
        MaskHypernetwork.load_published(saved(content, tmp_path / "7000.pth"))


def test_damaged_files(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"7000\.pth is not a complete file of torch\.save"):
        MaskHypernetwork.load(file)
    with pytest.raises(CheckpointError, match=r"no file at absent\.pth; give the path"):
        MaskHypernetwork.load("absent.pth")


def test_a_whole_module_is_not_unpickled(tmp_path: Path, space: EditSpace) -> None:
    torch.save(MaskNetwork(space), tmp_path / "7000.pth")
    with pytest.raises(CheckpointError, match="holds pickled objects beside tensors, which are not loaded"):
        MaskHypernetwork.load(tmp_path / "7000.pth")


def test_blocks_must_be_as_many_as_there_are_masks_for(file: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"masks for 6 matrices, two a block, but blocks \(7, 8\) are 2"
    ):
        MaskHypernetwork.load_published(file, (7, 8))


def test_a_model_of_another_size_is_refused(
    file: Path, make_vit: Callable[..., nn.Module], images: Tensor
) -> None:
    hypernetwork = MaskHypernetwork.load_published(file, BLOCKS)
    with pytest.raises(
        CheckpointError, match="of width 48 with 192 hidden units, the model given has 24 and 96"
    ):
        hypernetwork(make_vit(embed_dim=24), images)
    assert hypernetwork(make_vit(seed=9), images).values.shape == (12, 6, 192)  # any model of that size


def test_what_the_published_code_could_not_read_is_not_written(space: EditSpace, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match="has 4 attention heads; the published code takes every file for one of 6"
    ):
        MaskHypernetwork(MaskNetwork(space, heads=4), space).save_published(tmp_path / "x.pth")
    with pytest.raises(InvalidInputError, match=re.escape("x.safetensors must end in .pth, .pt, .bin")):
        MaskHypernetwork(MaskNetwork(space), space).save_published(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@given(percent=st.integers(1, 99))
def test_the_published_number_of_units(percent: int) -> None:
    """k = int(density * 18432), and of distinct values only those above the k-th: k - 1 units."""
    density = percent / 100
    k = int(density * 18432)
    assert kept_units(18432, 1 - density) == k
    scores = torch.rand(6, 3072, generator=torch.Generator().manual_seed(percent), dtype=torch.float64)
    assert int(top_units(scores, 1 - density, "published").sum()) == k - 1
    assert int(top_units(scores, 1 - density, "exact").sum()) == k


@pytest.mark.parametrize("density", [0.75, 0.5, 0.25, 0.1, 0.05])
def test_the_published_preset_edits_where_the_published_code_does(
    vit: nn.Module, file: Path, state: State, request_: EditRequest, density: float
) -> None:
    """Mask and steps of an edit, from the model's forward pass and the file alone."""
    hypernetwork = MaskHypernetwork.load_published(file, BLOCKS)
    editor = Editor.learned(vit, hypernetwork, 1 - density, preset="published", max_steps=20)
    result = editor.edit(request_)
    assert result.settings["preset"] == "published"

    image = 2 * request_.images[None] - 1  # the small model's normalisation
    with torch.no_grad():
        values = published_masks(state, vit.forward_features(image)[:, 0], depth=2)[0]
    threshold = values.flatten().sort(descending=True).values[int(density * values.numel()) - 1]
    assert torch.equal(result.mask.bits, values > threshold)
    steps, weights = plain_edit(vit, image, int(request_.target), values > threshold, editor.settings)
    assert result.steps == steps > 1
    for address, weight in result.edit.weights(vit).items():
        torch.testing.assert_close(weight, weights[address], rtol=0, atol=1e-5)


def plain_edit(
    model: nn.Module, image: Tensor, target: int, mask: Tensor, chosen: EditSettings
) -> tuple[int, dict[str, Tensor]]:
    """Masked fine-tuning as the specification's section 4 has it: dense RMSprop on gradients multiplied by the mask."""
    names = [f"blocks.{b}.mlp.fc{k}" for b in chosen.blocks for k in (1, 2)]
    weights = {
        name: model.get_parameter(f"{name}.weight").detach().clone().requires_grad_() for name in names
    }
    optimiser = torch.optim.RMSprop(weights.values(), lr=chosen.learning_rate)
    for step in range(chosen.max_steps):
        named = {f"{name}.weight": weight for name, weight in weights.items()}
        logits = torch.func.functional_call(model, named, (image,))
        loss = F.cross_entropy(logits, torch.tensor([target]))
        if int(logits.argmax()) == target and float(loss.detach()) <= 0.01:
            return step, weights
        optimiser.zero_grad()
        loss.backward()
        for row, weight in zip(mask, weights.values(), strict=True):
            assert weight.grad is not None
            weight.grad *= row[:, None] if len(row) == len(weight) else row[None, :]
        optimiser.step()
    return chosen.max_steps, weights
