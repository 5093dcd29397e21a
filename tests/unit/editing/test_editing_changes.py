"""Kinds of change of one weight: what they add, how they follow one another, and their way through a file."""

from __future__ import annotations

from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from workbench.editing import AppendedUnits, Change, ChangeSequence, Edit, LowRankChange, WeightChange
from workbench.editing.changes import appended_in, change_from, followed_by, header_of, shared_units
from workbench.errors import CheckpointError, InvalidInputError

OUT, IN = 7, 5
ADDRESS = "blocks.0.mlp.fc1"


def weight() -> Tensor:
    return torch.randn(OUT, IN, generator=torch.Generator().manual_seed(99))


def rows_or_columns(axis: int, units: tuple[int, ...], seed: int) -> Change:
    generator = torch.Generator().manual_seed(seed)
    width = IN if axis == 0 else OUT
    return Change(axis, torch.tensor(units), torch.randn(len(units), width, generator=generator))


def low_rank(rank: int, seed: int) -> LowRankChange:
    """A product that leaves row 2 alone."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(OUT, rank, generator=generator)
    left[2] = 0
    return LowRankChange(left, torch.randn(rank, IN, generator=generator))


def appended(axis: int, count: int, seed: int, bias: bool = False) -> AppendedUnits:
    generator = torch.Generator().manual_seed(seed)
    first, width = (OUT, IN) if axis == 0 else (IN, OUT)
    values = torch.randn(count, width, generator=generator)
    return AppendedUnits(axis, values, first, torch.randn(count, generator=generator) if bias else None)


seeds = st.integers(0, 10_000)


def some_units(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(0, size - 1), min_size=1).map(lambda units: tuple(sorted(units)))


changes_of_rows = st.builds(rows_or_columns, st.just(0), some_units(OUT), seeds)
changes_of_columns = st.builds(rows_or_columns, st.just(1), some_units(IN), seeds)
products = st.builds(low_rank, st.integers(1, 3), seeds)
additions = st.one_of(changes_of_rows, changes_of_columns, products)
additions_in_a_row = st.lists(additions, min_size=1, max_size=4)
new_units = st.builds(appended, st.just(0), st.integers(1, 3), seeds, st.booleans())


def put_in(changes: list[WeightChange]) -> Tensor:
    return reduce(lambda now, change: change.added_to(now), changes, weight())


@given(change=st.one_of(additions, new_units))
@settings(max_examples=60)
def test_the_weight_given_is_not_touched(change: WeightChange) -> None:
    given_weight = weight()
    change.added_to(given_weight)
    assert torch.equal(given_weight, weight())


@given(change=additions)
@settings(max_examples=60)
def test_index_and_norms_say_what_changed(change: WeightChange) -> None:
    difference = change.added_to(weight().double()) - weight().double()
    lengths = difference.norm(dim=1 - change.axis)
    assert change.index.tolist() == lengths.nonzero().flatten().tolist()
    torch.testing.assert_close(change.norms().double(), lengths[change.index], rtol=1e-5, atol=1e-6)
    assert change.parameters == sum(t.numel() for n, t in change.tensors().items() if n != "index")


@given(parts=additions_in_a_row)
@settings(max_examples=100)
def test_changes_that_follow_one_another_add_up(parts: list[WeightChange]) -> None:
    together = reduce(followed_by, parts)
    torch.testing.assert_close(together.added_to(weight()), put_in(parts), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        reduce(followed_by, parts[::-1]).added_to(weight()), put_in(parts), rtol=1e-5, atol=1e-5
    )


@given(parts=additions_in_a_row)
@settings(max_examples=60)
def test_norms_of_a_sequence_are_not_below_the_change(parts: list[WeightChange]) -> None:
    sequence = ChangeSequence(tuple(parts))
    difference = sequence.added_to(weight().double()) - weight().double()
    if len({part.axis for part in parts}) == 1:
        lengths = difference.norm(dim=1 - sequence.axis)
        assert set(lengths.nonzero().flatten().tolist()) <= set(sequence.index.tolist())
        assert (sequence.norms() >= lengths[sequence.index] - 1e-5).all()
    assert sequence.index.tolist() == sorted(set(sequence.index.tolist()))
    assert len(sequence.norms()) == len(sequence.index)
    assert sequence.parameters == sum(part.parameters for part in parts)


@given(first=changes_of_rows, second=changes_of_rows)
@settings(max_examples=40)
def test_rows_and_rows_become_one_change_of_their_union(first: Change, second: Change) -> None:
    both = followed_by(first, second)
    assert isinstance(both, Change)
    assert both.index.tolist() == sorted({*first.index.tolist(), *second.index.tolist()})


@given(parts=st.lists(st.one_of(additions, new_units), min_size=1, max_size=4), data=st.data())
@settings(max_examples=60)
def test_every_kind_comes_back_from_a_file(
    parts: list[WeightChange], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ordered = sorted(
        parts, key=lambda part: isinstance(part, AppendedUnits)
    )  # as `followed_by` would have it
    change = ChangeSequence(tuple(ordered)) if data.draw(st.booleans()) else parts[0]
    edit = Edit("f" * 64, {ADDRESS: change}, {"targets": [1]})
    found = Edit.load(edit.save(tmp_path_factory.mktemp("edits") / "fix.safetensors")).changes[ADDRESS]
    assert header_of(found) == header_of(change)
    assert found.tensors().keys() == change.tensors().keys()
    assert all(torch.equal(found.tensors()[name], t) for name, t in change.tensors().items())
    if len(appended_in(change)) < 2:
        assert torch.equal(found.added_to(weight()), change.added_to(weight()))


@given(units=new_units, others=st.lists(additions, max_size=3), place=st.integers(0, 3))
@settings(max_examples=60)
def test_appended_units_come_last_wherever_they_were_made(
    units: AppendedUnits, others: list[WeightChange], place: int
) -> None:
    parts: list[WeightChange] = [*others[:place], units, *others[place:]]
    together = reduce(followed_by, parts)
    assert appended_in(together) == (units,)
    found = together.added_to(weight())
    torch.testing.assert_close(found[:OUT], put_in(others), rtol=1e-5, atol=1e-5)
    assert torch.equal(found[OUT:], units.values)


def test_appended_columns_and_biases() -> None:
    units = appended(1, 2, seed=1)
    assert torch.equal(units.added_to(weight()), torch.cat([weight(), units.values.T], dim=1))
    assert units.index.tolist() == [5, 6]
    torch.testing.assert_close(units.norms(), units.values.norm(dim=1))
    bias = torch.arange(7.0)
    assert units.added_to_bias(bias) is bias
    rows = appended(0, 2, seed=1, bias=True)
    assert rows.bias is not None
    assert torch.equal(rows.added_to_bias(bias), torch.cat([bias, rows.bias]))
    assert rows.parameters == 2 * IN + 2


def test_units_are_appended_once() -> None:
    twice = followed_by(appended(0, 1, seed=1), appended(0, 2, seed=2))
    with pytest.raises(InvalidInputError) as caught:
        twice.added_to(weight())
    assert str(caught.value) == (
        "the units were made for a weight with 7 of them, this one has 8: two edits that append units cannot be in "
        "one model"
    )


def test_factors_that_do_not_fit_together() -> None:
    with pytest.raises(InvalidInputError) as caught:
        LowRankChange(torch.ones(7, 2), torch.ones(3, 5))
    assert str(caught.value) == (
        "left is (7, 2) and right (3, 5); a low-rank change needs (out, rank) and (rank, in)"
    )


def test_shared_units() -> None:
    rows, more = rows_or_columns(0, (1, 3, 4), 0), rows_or_columns(0, (0, 3, 4, 6), 1)
    columns = rows_or_columns(1, (0, 2), 2)
    assert shared_units(rows, more) == [3, 4]
    assert shared_units(rows, columns) == [1, 3, 4]
    assert shared_units(columns, rows) == [0, 2]
    assert shared_units(rows, low_rank(1, 0)) == [1, 3, 4]
    assert shared_units(low_rank(1, 0), rows_or_columns(0, (2,), 0)) == []


def test_kinds_and_tensors_that_are_not_known() -> None:
    with pytest.raises(ValueError, match="kind 'spline'"):
        change_from({"kind": "spline"}, {})
    with pytest.raises(KeyError, match="right"):
        change_from({"kind": "low-rank"}, {"left": torch.ones(2, 1)})


@pytest.mark.parametrize(
    "change", [low_rank(2, 0), appended(0, 1, 0, bias=True), rows_or_columns(1, (2,), 0)]
)
def test_values_that_are_not_finite_are_not_saved(change: WeightChange, tmp_path: object) -> None:
    tensors = {n: t.clone() for n, t in change.tensors().items()}
    name = next(n for n in tensors if n != "index")
    tensors[name].view(-1)[0] = float("nan")
    broken = change_from(header_of(change), tensors)
    with pytest.raises(CheckpointError, match=rf"not finite in {ADDRESS}: it is not saved"):
        Edit("f" * 64, {ADDRESS: broken}).save(f"{tmp_path}/fix.safetensors")
