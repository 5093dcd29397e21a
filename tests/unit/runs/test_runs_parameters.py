"""Parameters of notebooks: read as their types, checked, never evaluated."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidInputError, UnknownNameError
from workbench.runs.parameters import (
    PARAMETERS,
    EditStepperParameters,
    check_parameters,
    describe_range,
    parameters_of,
    parse_assignments,
)

# Every parameter, a value it accepts, values it refuses, and its range in words.
RANGES = [
    ("model", "vit_tiny_patch16_224", [""], "a non-empty text"),
    ("style", "noto", [""], "a non-empty text"),
    ("hypernetwork", "other.safetensors", [""], "a non-empty text"),
    ("index", "7", ["-1", "1.5", "x", "", "None"], "a whole number, 0 <= index"),
    ("sparsity", "0", ["1", "1.0", "-0.1", "nan", "inf", "x"], "a number, 0 <= sparsity < 1"),
    ("seed", "4294967295", ["4294967296", "-1"], "a whole number, 0 <= seed < 4294967296"),
    ("learning_rate", "1e-4", ["0", "-1e-5", "inf"], "a number, 0 < learning_rate"),
    ("max_steps", "1", ["0", "2.5"], "a whole number, 1 <= max_steps"),
    ("locality_images", "20", ["0"], "a whole number, 1 <= locality_images"),
]


def test_the_table_above_has_every_parameter() -> None:
    assert {name for name, *_ in RANGES} == set(EditStepperParameters.model_fields)


@pytest.mark.parametrize(("name", "good"), [(name, good) for name, good, *_ in RANGES])
def test_texts_are_read_as_the_parameters_type(name: str, good: str) -> None:
    value = getattr(check_parameters("02_edit_stepper", {name: good}), name)
    assert type(value) is EditStepperParameters.model_fields[name].annotation
    assert value == type(value)(good)


@pytest.mark.parametrize(
    ("name", "bad", "words"), [(name, bad, words) for name, _, bads, words in RANGES for bad in bads]
)
def test_values_out_of_range_are_refused_with_the_range(name: str, bad: str, words: str) -> None:
    message = (
        f"parameter {name}={bad!r} of notebook 02_edit_stepper cannot be used: expected {words} (default "
    )
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        check_parameters("02_edit_stepper", {name: bad})
    assert describe_range(name, EditStepperParameters) == words


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("source", "xray", "one of phantom, hard, ct"),
        ("source", "phantoms", "one of phantom, hard, ct"),
        ("variant", "", "one of official, yi"),
        ("films", "1", "a whole number, 2 <= films"),
        ("cascade", "", "a non-empty text"),
    ],
)
def test_a_choice_is_refused_with_what_there_is(name: str, bad: str, words: str) -> None:
    message = (
        f"parameter {name}={bad!r} of notebook 05_spine_landmarks cannot be used: expected {words} (default "
    )
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        check_parameters("05_spine_landmarks", {name: bad})


def test_a_path_may_be_empty() -> None:
    assert check_parameters("05_spine_landmarks", {"image": "film.png"}).model_dump()["image"] == "film.png"
    assert check_parameters("05_spine_landmarks", {}).model_dump()["image"] == ""


def test_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        check_parameters("00_tour", {"sparsty": 0.5})
    assert str(caught.value).startswith(
        "unknown parameter of notebook 00_tour 'sparsty'; did you mean 'sparsity'? Known: model, hypernetwork"
    )


def test_a_parameter_of_another_notebook_is_unknown() -> None:
    check_parameters("01_where_to_edit", {"other_index": 2})
    with pytest.raises(UnknownNameError, match="unknown parameter of notebook 00_tour 'other_index'"):
        check_parameters("00_tour", {"other_index": 2})


def test_unknown_notebook_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown notebook '00_tuor'; did you mean '00_tour'"):
        parameters_of("00_tuor")


@pytest.mark.parametrize("notebook", PARAMETERS)
def test_defaults_are_allowed_and_values_do_not_change(notebook: str) -> None:
    parameters = check_parameters(notebook, {})
    assert parameters == check_parameters(notebook, parameters.model_dump())
    with pytest.raises(ValueError, match="frozen"):
        parameters.seed = 3  # type: ignore[attr-defined]


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), min_size=1))
def test_any_text_stays_what_it_is(text: str) -> None:
    (value,) = parse_assignments([f"style={text}"]).values()
    assert value == text
    assert check_parameters("00_tour", {"style": value}).model_dump()["style"] == text


def test_assignments_keep_order_and_later_equal_signs() -> None:
    assert parse_assignments(["b=1", " a =x=y", "c="]) == {"b": "1", "a": "x=y", "c": ""}


@pytest.mark.parametrize("assignment", ["sparsity", "=0.5", " =0.5", ""])
def test_assignments_that_cannot_be_read(assignment: str) -> None:
    with pytest.raises(
        InvalidInputError, match=re.escape(f"cannot read -p {assignment!r}: expected key=value")
    ):
        parse_assignments([assignment])


def test_an_assignment_given_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="parameter 'seed' is given twice: '1' and '2'"):
        parse_assignments(["seed=1", "seed=2"])
