"""Fronts, the areas under them, and their intervals over groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.editing.pareto import front_area, front_areas, hypervolume, pareto_front, sweep_means, verdict
from workbench.errors import InvalidInputError, UnknownNameError

points = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8)


def make_rows(
    settings: dict[str, list[tuple[float, float]]], groups: int = 12, **changes: Any
) -> pd.DataFrame:
    """Rows of editors whose settings have these mean GR and LR, with noise that all editors share."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, size=(groups, 2))
    rows = []
    for editor, listed in settings.items():
        for position, (gr, lr) in enumerate(listed):
            for group, (a, b) in enumerate(noise - noise.mean(0)):
                row = {
                    "editor": editor,
                    "position": position,
                    "setting": f"s{position}",
                    "group": f"g{group}",
                }
                rows.append({**row, "sr": 1.0, "gr": gr + a, "lr": lr + b, "steps": 5, **changes})
    return pd.DataFrame(rows)


def test_front_of_points_by_hand() -> None:
    gr, lr = [0.3, 0.9, 0.5, 0.5, 0.9], [0.9, 0.2, 0.7, 0.6, 0.1]
    assert pareto_front(gr, lr) == [0, 2, 1]


def test_areas_of_points_by_hand() -> None:
    # Hull (0,1) – (0.5,0.9) – (1,0): 0.5·0.95 + 0.5·0.45; the point (0.25,0.9) lies below it.
    assert front_area([0.5, 0.25], [0.9, 0.9]) == pytest.approx(0.7)
    assert hypervolume([0.5, 0.25], [0.9, 0.9]) == pytest.approx(0.45)


def test_no_edit_and_the_wanted_class_for_everything_are_worth_a_half() -> None:
    assert front_area([0.0], [1.0]) == front_area([1.0], [0.0]) == front_area([0.5], [0.5]) == 0.5
    assert front_area([1.0], [1.0]) == hypervolume([1.0], [1.0]) == 1.0


@given(points, st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_one_more_setting_never_lowers_an_area(
    listed: list[tuple[float, float]], one: tuple[float, float]
) -> None:
    for area in (front_area, hypervolume):
        before, after = (area(*zip(*some, strict=True)) for some in (listed, [*listed, one]))
        assert after >= before - 1e-9


@given(points)
def test_areas_are_bounded_and_the_front_alone_gives_them(listed: list[tuple[float, float]]) -> None:
    gr, lr = (np.array(part) for part in zip(*listed, strict=True))
    front = pareto_front(gr, lr)
    assert 0.5 - 1e-9 <= front_area(gr, lr) <= 1 + 1e-9
    assert 0 <= hypervolume(gr, lr) <= front_area(gr, lr) + 1e-9
    assert front_area(gr[front], lr[front]) == pytest.approx(front_area(gr, lr))
    assert hypervolume(gr[front], lr[front]) == pytest.approx(hypervolume(gr, lr))
    assert (np.diff(gr[front]) > 0).all()
    assert (np.diff(lr[front]) < 0).all()


def test_a_front_of_nothing_or_of_what_is_no_share_is_refused() -> None:
    for gr, lr in (([], []), ([0.5], [0.5, 0.6]), ([1.2], [0.5]), ([0.5], [float("nan")])):
        with pytest.raises(InvalidInputError, match="as many of each, in \\[0, 1\\]"):
            front_area(gr, lr)


def test_means_and_intervals_of_a_sweep() -> None:
    table = sweep_means(make_rows({"b": [(0.3, 0.8), (0.6, 0.5)], "a": [(0.4, 0.7)]}))
    assert table["editor"].tolist() == ["b", "b", "a"]  # as in the rows, not by name
    assert table["gr"].tolist() == pytest.approx([0.3, 0.6, 0.4])
    assert table["edits"].tolist() == [12, 12, 12]
    assert (table["gr_low"] < table["gr"]).all()
    assert (table["gr"] < table["gr_high"]).all()
    assert (table["sr_low"] == 1).all()


def test_differences_are_paired() -> None:
    """Noise that all editors share cancels in the difference, though not in the areas."""
    table = front_areas(make_rows({"better": [(0.6, 0.8)], "worse": [(0.5, 0.8)]}), reference="better")
    better, worse = table.iloc[0], table.iloc[1]
    assert (better["editor"], worse["editor"]) == ("better", "worse")
    assert better["difference"] == better["difference_low"] == better["difference_high"] == 0
    assert worse["difference"] == pytest.approx(better["area"] - worse["area"], abs=1e-5)
    assert worse["difference_low"] > 0
    spread = worse["difference_high"] - worse["difference_low"]
    assert spread < 0.4 * (worse["area_high"] - worse["area_low"])


def test_undefined_generalization_does_not_count() -> None:
    rows = make_rows({"a": [(0.5, 0.5)]}, groups=4).astype({"gr": object})
    rows.loc[0, "gr"] = None
    assert sweep_means(rows)["gr"][0] == pytest.approx(float(rows["gr"][1:].astype(float).mean()), abs=1e-6)


def test_settings_measured_on_other_groups_cannot_be_compared() -> None:
    rows = make_rows({"a": [(0.5, 0.5), (0.6, 0.4)]})
    with pytest.raises(
        InvalidInputError, match="a at 's1' was not measured on 1 of 12 groups, such as 'g11'"
    ):
        front_areas(rows[:-1])


def test_rows_of_something_else_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="these are 12 rows and lack lr, steps"):
        sweep_means(make_rows({"a": [(0.5, 0.5)]}).drop(columns=["lr", "steps"]))


def test_a_reference_that_was_not_measured_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown editor 'learned'; did you mean 'learned-mask'"):
        front_areas(make_rows({"learned-mask": [(0.5, 0.5)]}), reference="learned")


def test_a_verdict_names_the_leader_and_what_is_sure() -> None:
    rows = make_rows({"learned": [(0.6, 0.8)], "near": [(0.6, 0.801)], "far": [(0.5, 0.7)]})
    jitter = np.random.default_rng(1).normal(0, 0.05, len(rows))
    rows["lr"] = (rows["lr"] + jitter * (rows["editor"] == "near")).clip(0, 1)
    areas = front_areas(rows, "learned")
    assert verdict(areas[areas["editor"] != "near"], "learned", {"far": "Far"}).startswith(
        "learned leads (0.700), 0.100 ahead of Far (95 % interval 0."
    )
    assert verdict(areas, "learned").endswith(": they cannot be told apart")
    behind = front_areas(rows, "far")
    text = verdict(behind[behind["editor"] != "near"], "far")
    assert text.startswith("learned leads (0.700), 0.100 ahead of far (95 % interval 0.")
    assert not text.endswith("apart")
    assert verdict(areas[areas["editor"] == "learned"], "learned") == "learned leads (0.700), the only one"
    with pytest.raises(UnknownNameError, match="unknown editor 'lerned'; did you mean 'learned'"):
        verdict(areas, "lerned")
