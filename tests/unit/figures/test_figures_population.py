"""Figures of many images at once, and of a training run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from scipy.stats import binomtest

from workbench.data.failures import Failure, FailureGroup
from workbench.errors import InvalidInputError
from workbench.figures import accuracy_by_style, failure_group_sizes, training_curves
from workbench.figures.population import wilson_interval

Texts = Callable[[go.Figure], str]


def table(**right_of: tuple[str, int, int]) -> pd.DataFrame:
    rows = [
        {"style": style, "role": role, "right": i < right}
        for style, (role, right, count) in right_of.items()
        for i in range(count)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (10, 10), (555, 600)])
def test_the_interval_is_wilsons(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(np.array([right]), np.array([count]))
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_accuracy_has_a_point_and_an_interval_a_style(texts: Texts) -> None:
    figure = accuracy_by_style(
        table(noto=("source", 19, 20), openmoji=("shift", 5, 20), twemoji=("source", 20, 20))
    )
    assert [trace.name for trace in figure.data] == ["source", "shift"]
    source, shift = figure.data
    assert (list(source.y), list(source.x)) == (["noto", "twemoji"], [0.95, 1.0])
    low, high = wilson_interval(np.array([5]), np.array([20]))
    assert shift.x[0] + shift.error_x.array[0] == pytest.approx(high[0], abs=1e-3)
    assert shift.x[0] - shift.error_x.arrayminus[0] == pytest.approx(low[0], abs=1e-3)
    assert {"95.0%", "25.0%", "100.0%"} <= set(texts(figure).split("\n"))


def test_accuracy_refuses_another_table() -> None:
    with pytest.raises(InvalidInputError, match="has 1 rows and lacks right, role"):
        accuracy_by_style(pd.DataFrame({"style": ["noto"]}))
    with pytest.raises(InvalidInputError, match="has 0 rows and lacks nothing"):
        accuracy_by_style(pd.DataFrame({"style": [], "role": [], "right": []}))


def make_group(style: str, true: int, wrong: int, size: int) -> FailureGroup:
    names = ("bird", "clock", "drum")
    return FailureGroup(tuple(Failure(style, f"c{i}", true, wrong, 0.5, names) for i in range(size)))


def test_groups_are_drawn_by_style_and_size() -> None:
    groups = [make_group("openmoji", 0, 1, 9), make_group("noto", 1, 2, 7), make_group("openmoji", 2, 0, 6)]
    figure = failure_group_sizes(groups)
    assert {bar.name: list(bar.x) for bar in figure.data} == {"openmoji": [9, 6], "noto": [7]}
    assert list(figure.layout.yaxis.ticktext) == [
        "bird taken for clock",
        "clock taken for drum",
        "drum taken for bird",
    ]
    assert "3 groups of at least 6 drawings" in figure.layout.title.text


def test_only_the_largest_groups_are_drawn() -> None:
    groups = [make_group("openmoji", 0, 1, 9), make_group("noto", 1, 2, 7), make_group("noto", 2, 0, 6)]
    figure = failure_group_sizes(groups, most=2)
    assert sum(len(bar.x) for bar in figure.data) == 2
    assert "the largest 2 shown" in figure.layout.title.text
    with pytest.raises(InvalidInputError, match="no failure groups to show; lower min_size"):
        failure_group_sizes([])


COLUMNS = ("kl", "kl_start", "label_density", "mask_density", "bce", "label_specific", "mask_specific")


def log(rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"iteration": range(rows), **{name: np.arange(rows) * (i + 1.0) for i, name in enumerate(COLUMNS)}}
    )


def test_training_curves_hold_the_log(texts: Texts) -> None:
    figure = training_curves(log(20))
    assert len(figure.data) == len(COLUMNS)
    kl = next(t for t in figure.data if t.name == "last search step")
    assert list(kl.y) == list(range(20))
    assert "20 iterations" in figure.layout.title.text
    for heading in ("pseudo-failures' loss (KL)", "density", "specific to the image", "prediction loss"):
        assert heading in texts(figure)


def test_long_logs_are_averaged() -> None:
    figure = training_curves(log(1000))
    kl = next(t for t in figure.data if t.name == "last search step")
    assert len(kl.y) == 250
    assert kl.y[0] == pytest.approx(np.mean([0, 1, 2, 3]))
    assert "means over 4" in figure.layout.title.text


def test_training_curves_refuse_another_table() -> None:
    with pytest.raises(InvalidInputError, match="this one has 3 rows and lacks bce"):
        training_curves(log(3).drop(columns="bce"))
