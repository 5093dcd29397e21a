"""Headline numbers: shown as text and as a table, carried as JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from workbench.errors import InvalidInputError
from workbench.runs import headline
from workbench.runs.headline import HEADLINE_MIME, format_value


def test_carries_json_a_table_and_text() -> None:
    bundle = headline({"locality": 0.87346, "fixed <b>": True, "undefined": None})._repr_mimebundle_()
    assert bundle[HEADLINE_MIME] == {"locality": 0.87346, "fixed <b>": True, "undefined": None}
    assert bundle["text/plain"] == "locality: 0.873\nfixed <b>: yes\nundefined: –"
    assert "<b>" not in bundle["text/html"]
    assert "fixed &lt;b&gt;" in bundle["text/html"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.float64(0.25), 0.25),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(4), 4),
        (np.array(2.0), 2.0),
        ("mammal", "mammal"),
    ],
)
def test_scalars_become_plain_json_values(value: object, plain: object) -> None:
    carried = headline({"x": value})._repr_mimebundle_()[HEADLINE_MIME]["x"]
    assert type(carried) is type(plain)
    assert carried == plain
    json.dumps(carried)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "headline\\(\\) got no values: pass at least one"),
        ({"x": math.nan}, "got nan for 'x': pass None where it is undefined"),
        ({"x": torch.tensor(math.inf)}, "got inf for 'x': pass None where it is undefined"),
        ({"x": torch.zeros(2)}, "got a Tensor for 'x': expected a number, text or None"),
        ({"x": [1]}, "got a list for 'x': expected a number"),
        ({3: 1}, "got the label 3: expected a non-empty text"),
        ({"": 1}, "got the label '': expected a non-empty text"),
    ],
)
def test_what_is_refused(values: dict[object, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        headline(values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.9996, "1.000"),
        (-0.5, "-0.500"),
        (0.001, "0.001"),
        (0.00099, "0.00099"),
        (2e-05, "2e-05"),
        (12345.6, "1.23e+04"),
        (1536, "1536"),
        (False, "no"),
        (None, "–"),
        ("noto", "noto"),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    assert format_value(value) == text  # type: ignore[arg-type]
