"""What the errors say, and what they can be caught as."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import (
    CheckpointError,
    IntegrityError,
    InvalidInputError,
    MissingDataError,
    TrainingDivergedError,
    UnknownNameError,
    WorkbenchError,
    did_you_mean,
)


def test_an_unknown_name_names_the_nearest_and_all_known() -> None:
    error = UnknownNameError("style", "notto", ["noto", "twemoji"])
    assert str(error) == "unknown style 'notto'; did you mean 'noto'? Known: noto, twemoji"
    assert isinstance(error, KeyError)


def test_an_unknown_name_with_none_near_and_with_a_hint() -> None:
    error = UnknownNameError("style", "xyz", ["noto"], hint="see `workbench data list`")
    assert str(error) == "unknown style 'xyz'; Known: noto. see `workbench data list`"
    assert str(UnknownNameError("style", "xyz", [])) == "unknown style 'xyz'; Known: none"


def test_a_long_list_is_cut_and_counted() -> None:
    error = UnknownNameError("concept", "c-999", [f"c-{i:03d}" for i in range(500)])
    assert str(error).endswith("c-019, … (500 in all)")
    assert len(str(error)) < 250


def test_names_that_are_no_strings() -> None:
    assert str(UnknownNameError("class", 7, [1, 2])) == "unknown class 7; Known: 1, 2"


def test_case_does_not_matter_to_nearness_and_the_spelling_given_back_is_the_known_one() -> None:
    assert did_you_mean("NOTO", ["Noto", "twemoji"]) == "; did you mean 'Noto'?"
    assert did_you_mean("zzz", ["Noto"]) == ";"
    assert did_you_mean("noto", []) == ";"


@given(st.text(min_size=1), st.lists(st.text(min_size=1), max_size=8))
def test_the_nearest_is_always_one_of_the_known(given_name: str, known: list[str]) -> None:
    answer = did_you_mean(given_name, known)
    assert answer == ";" or any(answer == f"; did you mean {name!r}?" for name in known)
    assert did_you_mean(given_name, [*known, given_name]) != ";"  # itself is near enough


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InvalidInputError, ValueError),
        (MissingDataError, FileNotFoundError),
        (IntegrityError, Exception),
        (CheckpointError, Exception),
        (TrainingDivergedError, Exception),
    ],
)
def test_every_error_is_one_of_ours_and_says_what_it_was_given(
    kind: type[WorkbenchError], builtin: type[Exception]
) -> None:
    error = kind("run: workbench data fetch x")
    assert isinstance(error, WorkbenchError)
    assert isinstance(error, builtin)
    assert str(error) == "run: workbench data fetch x"


def test_errors_cross_process_borders() -> None:
    """Worker processes send them pickled."""
    error = pickle.loads(pickle.dumps(InvalidInputError("given, expected, type")))
    assert str(error) == "given, expected, type"
    missing = pickle.loads(pickle.dumps(MissingDataError("run: this")))
    assert str(missing) == "run: this"
    unknown = pickle.loads(pickle.dumps(UnknownNameError("style", "notto", ["noto"])))
    assert str(unknown) == "unknown style 'notto'; did you mean 'noto'? Known: noto"
