"""The judge says of every kind of edit what running the edited model over all images says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from workbench.editing import (
    AppendedUnits,
    Change,
    Edit,
    Editor,
    EditRequest,
    EditSettings,
    Judge,
    LowRankChange,
    RandomMask,
    WeightChange,
    applied,
    generalization,
    locality,
)
from workbench.errors import CheckpointError, InvalidInputError
from workbench.models import PrefixCache, SplitViT, fingerprint, logits_of

UNITS, WIDTH = 192, 48

#: What may be changed, as (address, kind).
PLACES = [(f"blocks.{b}.{a}", k) for b in range(5) for a, k in (("mlp.fc1", "rows"), ("mlp.fc2", "columns"))]
PLACES += [(f"blocks.{b}.{a}", "low-rank") for b in range(5) for a in ("attn.qkv", "attn.proj", "mlp.fc1")]


def change(vit: nn.Module, address: str, kind: str, seed: int = 0) -> WeightChange:
    """A change large enough that predictions change."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = vit.get_parameter(f"{address}.weight").shape

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    if kind == "low-rank":
        return LowRankChange(noise(rows, 2), 0.3 * noise(2, columns))
    count, width, axis = (rows, columns, 0) if kind == "rows" else (columns, rows, 1)
    index = torch.randperm(count, generator=generator)[:9].sort().values
    return Change(axis, index, noise(9, width))


def edit_of(vit: nn.Module, *places: tuple[str, str], seed: int = 0) -> Edit:
    return Edit(fingerprint(vit), {a: change(vit, a, kind, seed + i) for i, (a, kind) in enumerate(places)})


def classes(vit: nn.Module, images: Tensor) -> Tensor:
    return logits_of(vit, images).argmax(1)


@pytest.fixture
def protected(image_maker: Callable[..., Tensor]) -> Tensor:
    return image_maker(30, seed=5)


@pytest.fixture
def prefixes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through a prefix, call by call."""
    calls: list[int] = []
    original = SplitViT.prefix

    def counted(self: SplitViT, images: Tensor) -> Tensor:
        calls.append(len(images))
        return original(self, images)

    monkeypatch.setattr(SplitViT, "prefix", counted)
    return calls


@pytest.mark.parametrize("place", PLACES, ids=lambda p: f"{p[0]}-{p[1]}")
def test_every_kind_of_change_in_every_block(
    vit: nn.Module, images: Tensor, protected: Tensor, place: tuple[str, str]
) -> None:
    edit = edit_of(vit, place)
    judge, unedited = Judge(vit, protected), classes(vit, protected)
    found, changed = judge.predictions(edit, images), judge.changed(edit)
    with applied(vit, edit):
        assert torch.equal(found, classes(vit, images))
        assert torch.equal(changed, classes(vit, protected) != unedited)
    assert changed.any()
    assert torch.equal(judge.before, unedited)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(data=st.data())
def test_several_edits_in_a_row(vit: nn.Module, images: Tensor, data: st.DataObject) -> None:
    """Made on the model itself, or each on the model with the ones before in it."""
    places = st.lists(st.sampled_from(PLACES), min_size=1, max_size=3, unique_by=lambda p: p[0])
    lists = data.draw(st.lists(places, min_size=1, max_size=4))
    edits = [edit_of(vit, *p, seed=10 * i) for i, p in enumerate(lists)]
    judge = Judge(vit, images)
    found, changed = judge.predictions(edits, images), judge.changed(edits)
    before = classes(vit, images)
    handles, chained = [], []
    for edit in edits:
        chained.append(replace(edit, base=fingerprint(vit)))
        handles.append(chained[-1].apply_to(vit))
    wanted = classes(vit, images)
    for handle in reversed(handles):
        handle.revert()
    assert torch.equal(found, wanted)
    assert torch.equal(changed, wanted != before)
    assert torch.equal(judge.predictions(chained, images), wanted)


def test_appended_units(vit: nn.Module, make_vit: Callable[..., nn.Module], images: Tensor) -> None:
    """Against a model that was built with the larger weights; a change of the same weights comes first."""
    generator = torch.Generator().manual_seed(0)
    fc1, fc2 = "blocks.4.mlp.fc1", "blocks.4.mlp.fc2"
    values, out = torch.randn(2, 2, WIDTH, generator=generator)
    bias = torch.randn(2, generator=generator)
    units = Edit(
        fingerprint(vit),
        {fc1: AppendedUnits(0, values, UNITS, bias), fc2: AppendedUnits(1, 3 * out, UNITS)},
    )
    rows = edit_of(vit, (fc1, "rows"))
    judge = Judge(vit, images)
    for edits, inner in (([units], []), ([rows, units], [rows]), ([units, rows], [rows])):
        larger = make_vit()
        for edit in inner:
            edit.apply_to(larger)
        mlp = larger.blocks[4].mlp
        mlp.fc1.weight = nn.Parameter(torch.cat([mlp.fc1.weight, values]))
        mlp.fc1.bias = nn.Parameter(torch.cat([mlp.fc1.bias, bias]))
        mlp.fc2.weight = nn.Parameter(torch.cat([mlp.fc2.weight, 3 * out.T], dim=1))
        wanted = classes(larger, images)
        assert torch.equal(judge.predictions(edits, images), wanted)
        assert (wanted != judge.before).any()
    with pytest.raises(InvalidInputError, match="two edits that append units cannot be in one model"):
        judge.predictions([units, units], images)


def test_scores(vit: nn.Module, images: Tensor, protected: Tensor) -> None:
    group, edit = images[:6], edit_of(vit, ("blocks.2.mlp.fc1", "rows"))
    judge = Judge(vit, protected)
    with applied(vit, edit):
        wanted, after = classes(vit, group), classes(vit, protected)
    wanted[4:] = (wanted[4:] + 1) % 7  # so that not all of the group is right
    scores = judge.scores(edit, group, wanted.tolist(), edited=0, sr=1.0)
    assert scores.sr == 1
    assert scores.gr == generalization(torch.tensor([True] * 4 + [False] * 2), 0) == 0.6
    assert scores.gr_published == 0.5
    assert scores.lr == locality(classes(vit, protected), after)
    assert 0 < scores.lr < 1
    outside = judge.scores(edit, group, wanted, edited=None, sr=0.0)
    assert (outside.sr, outside.gr, outside.gr_published) == (0, pytest.approx(4 / 6), None)


def test_inv25_an_edit_without_changes(
    vit: nn.Module, images: Tensor, protected: Tensor, prefixes: list[int]
) -> None:
    judge, nothing = Judge(vit, protected), Edit(fingerprint(vit), {})
    wrong = (classes(vit, images) + 1) % 7
    for edits in (nothing, [nothing, nothing], []):
        scores = judge.scores(edits, images, wrong, edited=0, sr=0.0)
        assert (scores.sr, scores.gr, scores.lr) == (0, 0, 1)
        assert not judge.changed(edits).any()
        assert torch.equal(judge.predictions(edits, images), classes(vit, images))
    assert judge.cache.used == 0


def test_inv25_an_oracle(vit: nn.Module, images: Tensor, protected: Tensor) -> None:
    """Whatever the edited model says is wanted, and the protected images are ones that the edit leaves alone."""
    edit = edit_of(vit, ("blocks.3.mlp.fc2", "columns"))
    untouched = protected[~Judge(vit, protected).changed(edit)]
    with applied(vit, edit):
        wanted = classes(vit, images)
    scores = Judge(vit, untouched).scores(edit, images, wanted, edited=3, sr=1.0)
    assert (scores.sr, scores.gr, scores.lr) == (1, 1, 1)
    assert scores.gr_published == pytest.approx(11 / 12)


def test_inv26_a_group_of_one_and_an_empty_one(vit: nn.Module, images: Tensor, protected: Tensor) -> None:
    judge, edit = Judge(vit, protected), edit_of(vit, ("blocks.3.mlp.fc2", "columns"))
    alone = judge.scores(edit, images[:1], [0], edited=0, sr=1.0)
    assert (alone.gr, alone.gr_published) == (None, None)
    empty = judge.scores(edit, images[:0], [], edited=None, sr=1.0)
    assert (empty.gr, empty.gr_published) == (None, None)
    assert empty.lr == alone.lr
    assert Judge(vit, protected[:0]).scores(edit, images[:1], [0], edited=0, sr=1.0).lr is None


def test_inv28_the_judge_agrees_with_the_full_model_for_real_edits(
    vit: nn.Module, images: Tensor, protected: Tensor
) -> None:
    target = int(logits_of(vit, images[:1]).topk(2).indices[0, 1])
    fast = EditSettings(learning_rate=2e-3, blocks=(1, 2, 3))
    result = Editor(vit, RandomMask(0.5), fast).edit(EditRequest(images[0], target))
    judge, unedited = Judge(vit, protected), classes(vit, protected)
    changed = judge.changed(result.edit)
    with applied(vit, result.edit):
        assert torch.equal(changed, classes(vit, protected) != unedited)
    assert changed.any()


def test_the_prefix_and_the_unedited_predictions_are_computed_once(
    vit: nn.Module, images: Tensor, protected: Tensor, prefixes: list[int]
) -> None:
    cache = PrefixCache()
    judge = Judge(vit, protected, cache)
    for seed in range(4):
        judge.scores(edit_of(vit, ("blocks.2.mlp.fc1", "rows"), seed=seed), images, [0] * 12, 0, 0.0)
    assert sum(prefixes) == 30 + 12
    Judge(vit, protected, cache).changed(edit_of(vit, ("blocks.2.mlp.fc1", "rows"), seed=9))
    assert sum(prefixes) == 30 + 12
    judge.changed(
        edit_of(vit, ("blocks.1.mlp.fc1", "rows"))
    )  # an edit that starts earlier needs other tokens
    assert sum(prefixes) == 30 + 12 + 30


def test_evaluation_starts_at_the_last_possible_place(
    vit: nn.Module, protected: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[tuple[int, str]] = []
    original = SplitViT.tail

    def watched(self: SplitViT, *arguments: object) -> Tensor:
        starts.append((self.first_block, self.entry))
        return original(self, *arguments)  # type: ignore[arg-type]

    judge = Judge(vit, protected)
    assert len(judge.before) == 30
    monkeypatch.setattr(SplitViT, "tail", watched)
    for places, start in (
        ([("blocks.3.mlp.fc2", "columns"), ("blocks.4.attn.qkv", "low-rank")], (3, "mlp")),
        ([("blocks.3.mlp.fc2", "columns"), ("blocks.3.attn.qkv", "low-rank")], (3, "attention")),
        ([("blocks.4.attn.proj", "low-rank")], (4, "attention")),
    ):
        starts.clear()
        judge.changed(edit_of(vit, *places))
        assert set(starts) == {start}


@pytest.mark.parametrize("changes", [{"global_pool": "avg", "class_token": False}, {"reg_tokens": 4}])
def test_other_heads(make_vit: Callable[..., nn.Module], images: Tensor, changes: dict[str, object]) -> None:
    model = make_vit(**changes)
    edit = edit_of(model, ("blocks.4.mlp.fc1", "rows"), ("blocks.4.attn.qkv", "low-rank"))
    judge, unedited = Judge(model, images), classes(model, images)
    assert torch.equal(judge.before, unedited)
    changed = judge.changed(edit)
    with applied(model, edit):
        assert torch.equal(changed, classes(model, images) != unedited)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_neither_batches_nor_where_tokens_are_matter(
    vit: nn.Module, protected: Tensor, tmp_path: Path, batch_size: int
) -> None:
    edit = edit_of(vit, ("blocks.2.mlp.fc1", "rows"))
    wanted = Judge(vit, protected).changed(edit)
    assert torch.equal(Judge(vit, protected, PrefixCache(0, tmp_path), batch_size).changed(edit), wanted)
    assert len(list(tmp_path.iterdir())) == 1


def test_batches_that_are_gone_through_more_than_once(
    vit: nn.Module, protected: Tensor, images: Tensor, prefixes: list[int]
) -> None:
    edit, batches = edit_of(vit, ("blocks.2.mlp.fc1", "rows")), list(protected.split(7))
    whole, batched = Judge(vit, protected), Judge(vit, batches)
    assert torch.equal(batched.changed(edit), whole.changed(edit))
    assert torch.equal(batched.predictions(edit, batches), batched.predictions(edit, protected))
    assert torch.equal(Judge(vit, batches).before, whole.before)
    assert torch.equal(Judge(vit, [images[:0], images, images[:0]]).before, classes(vit, images))
    assert len(Judge(vit, []).before) == 0
    prefixes.clear()
    batches.clear()  # known by now
    assert torch.equal(batched.changed(edit), whole.changed(edit))
    assert not prefixes


def test_a_prefix_of_less_precision(vit: nn.Module, protected: Tensor) -> None:
    edit = edit_of(vit, ("blocks.2.mlp.fc1", "rows"))
    cache = PrefixCache()
    exact, half = Judge(vit, protected), Judge(vit, protected, cache, prefix_dtype=torch.bfloat16)
    assert (exact.changed(edit) == half.changed(edit)).double().mean() > 0.8
    (tokens,) = half._tokens.values()
    assert tokens is cache.tokens(SplitViT(vit, 2, prefix_dtype=torch.bfloat16), protected)


def test_an_edit_of_another_model(vit: nn.Module, make_vit: Callable[..., nn.Module], images: Tensor) -> None:
    judge = Judge(vit, images)
    other = edit_of(make_vit(seed=1), ("blocks.2.mlp.fc1", "rows"))
    for call in (judge.changed, lambda e: judge.predictions([e], images)):
        with pytest.raises(CheckpointError, match=r"this edit was made on a model with fingerprint \w{12}…"):
            call(other)


def test_a_model_that_was_changed_meanwhile(vit: nn.Module, images: Tensor) -> None:
    judge, edit = Judge(vit, images), edit_of(vit, ("blocks.2.mlp.fc1", "rows"))
    with applied(vit, edit):
        for call in (
            lambda: judge.before,
            lambda: judge.changed(edit),
            lambda: judge.predictions(edit, images),
            lambda: judge.scores(edit, images, [0] * 12, 0, 1.0),
        ):
            with pytest.raises(
                CheckpointError, match="the model has been changed since the judge was made; revert"
            ):
                call()
    assert judge.changed(edit).any()  # out of it again, all is well


def test_input_that_cannot_be_used(vit: nn.Module, images: Tensor) -> None:
    edit = edit_of(vit, ("blocks.2.mlp.fc1", "rows"))
    with pytest.raises(InvalidInputError, match=r"must lie in \[0, 1\]"):
        Judge(vit, 255 * images)
    judge = Judge(vit, images)
    with pytest.raises(InvalidInputError, match=r"must lie in \[0, 1\]"):
        judge.predictions(edit, 255 * images)
    with pytest.raises(
        InvalidInputError, match="the group has 12 images but 2 targets; give one target an image"
    ):
        judge.scores(edit, images, [0, 1], 0, 1.0)
    with pytest.raises(InvalidInputError, match="the edited image's position 12 is outside the group of 12"):
        judge.scores(edit, images, [0] * 12, 12, 1.0)
