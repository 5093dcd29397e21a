"""Results files, the intervals in them, and the README's tables drawn from them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import record, tables


def test_readme_says_what_the_results_say() -> None:
    text = tables.README.read_text(encoding="utf-8")
    assert tables.fill(text) == text, "run: python -m benchmarks.tables"
    assert all(f"<!-- table:{name} -->" in text for name in tables.TABLES)


@pytest.mark.parametrize("path", sorted(record.RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_results_say_where_they_come_from(path: record.Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {"command", "date", "seed", "versions", "hardware", "revision", "results"} <= set(found)
    assert found["command"].startswith(f"python -m benchmarks.{path.stem}")


def test_interval_covers_the_mean_and_narrows_with_more_values() -> None:
    random = np.random.default_rng(0)
    few, many = random.normal(0.5, 0.1, size=20), random.normal(0.5, 0.1, size=2000)
    low, high = record.bootstrap_interval(few.tolist())
    assert low < few.mean() < high
    narrow = record.bootstrap_interval(many.tolist())
    assert narrow[1] - narrow[0] < (high - low) / 4


def test_interval_over_groups_is_wider_where_groups_agree_within() -> None:
    values = [0.0] * 10 + [1.0] * 10 + [0.0] * 10 + [1.0] * 10
    groups = [str(i // 10) for i in range(40)]
    free, grouped = record.bootstrap_interval(values), record.bootstrap_interval(values, groups)
    assert grouped[1] - grouped[0] > 1.5 * (free[1] - free[0])
