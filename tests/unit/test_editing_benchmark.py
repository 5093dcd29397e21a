"""The editing benchmark: rows that are found again, parts and what they need, and a whole run of a small model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from benchmarks import (
    _editing_fronts,
    _editing_many,
    _editing_stops,
    _editing_windows,
    editing_benchmark,
    record,
    tables,
)
from benchmarks._editing_bench import Bench, Options, Plan
from benchmarks._editing_groups import EditedGroup
from benchmarks._editing_rows import RowStore, run_tasks
from workbench.editing import EditSpace, MaskHypernetwork, MaskNetwork
from workbench.editing.editors import EDITORS
from workbench.models import fingerprint, logits_of

# Rows


def test_rows_are_found_again_by_weights_and_task(tmp_path: Path) -> None:
    tasks = [{"part": "front", "settings": {"b": 1, "a": 2}}, {"part": "front", "settings": {"a": 3}}]
    store = RowStore(tmp_path / "front.jsonl", "weights")
    store.add(tasks[0], {"gr": 0.5, "lr": None})
    again = RowStore(tmp_path / "front.jsonl", "weights")
    assert again.missing([{"settings": {"a": 2, "b": 1}, "part": "front"}]) == []  # in whatever order
    assert again.missing(tasks) == [tasks[1]]
    assert again.frame(tasks)["gr"].tolist() == [0.5]
    assert RowStore(tmp_path / "front.jsonl", "others").missing(tasks) == tasks


def test_half_a_line_is_measured_again(tmp_path: Path) -> None:
    path, tasks = tmp_path / "front.jsonl", [{"part": "front", "n": n} for n in range(2)]
    store = RowStore(path, "weights")
    for task in tasks:
        store.add(task, {"gr": 1.0})
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    store = RowStore(path, "weights")
    assert store.missing(tasks) == [tasks[1]]
    store.add(tasks[1], {"gr": 1.0})
    assert RowStore(path, "weights").missing(tasks) == []


class Doubler:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def measure(self, task: dict[str, Any]) -> dict[str, Any]:
        return {"found": self.factor * task["n"], "threads": torch.get_num_threads()}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_tasks_are_measured_in_one_process_or_several(workers: int) -> None:
    tasks = [{"n": n} for n in range(5)]
    found = {task["n"]: row for task, row in run_tasks(tasks, workers, Doubler, (2,))}
    assert {n: row["found"] for n, row in found.items()} == {n: 2 * n for n in range(5)}
    assert all(row["seconds"] >= 0 for row in found.values())
    if workers > 1:
        assert {row["threads"] for row in found.values()} == {1}


# Parts


def test_a_part_brings_what_it_needs_and_keeps_the_order() -> None:
    assert editing_benchmark.with_needs(["samples", "windows"]) == ["rates", "windows", "samples"]
    assert editing_benchmark.with_needs(["windows"]) == ["windows"]


def make_groups(vit: nn.Module, image_maker: Callable[..., Tensor]) -> list[EditedGroup]:
    """Four groups of six images with the class wanted that comes second; the last is one of views."""
    styles = ("openmoji", "openmoji", "emojione-monotone", "fluent-emoji (views)")
    groups = []
    for k, style in enumerate(styles):
        images = image_maker(6, seed=k)
        targets = logits_of(vit, images).topk(2).indices[:, 1]
        groups.append(EditedGroup(f"a taken for {k} ({style})", style, images, targets))
    return groups


@pytest.fixture
def plan(make_vit: Callable[..., nn.Module], image_maker: Callable[..., Tensor]) -> Plan:
    groups = make_groups(make_vit(), image_maker)
    options = Options(editors=("learned-mask", "random-mask", "ft"), protected=9)
    return Plan(options, dict(enumerate(groups)), groups[:2], blocks=12, rates={"learned-mask": 1e-5})


def test_every_editor_is_measured_on_every_group_at_the_rate_chosen_for_it(plan: Plan) -> None:
    tasks = pd.DataFrame(editing_benchmark.PARTS["front"].tasks(plan))
    assert tasks.groupby("editor")["group"].nunique().tolist() == [4, 4, 4]
    by = {name: part["settings"].tolist() for name, part in tasks.groupby("editor")}
    assert {s["learning_rate"] for s in by["learned-mask"]} == {1e-5}
    assert all("learning_rate" not in s for s in by["random-mask"])  # none was chosen
    assert {s["seed"] for s in by["random-mask"]} == {0, 1, 2, 3}  # one mask a group, the same over the sweep
    assert len({s["learning_rate"] for s in by["ft"]}) > 1  # its sweep
    json.dumps(tasks.to_dict("records"))


def test_settings_are_spread_evenly_with_both_ends() -> None:
    entry = EDITORS["learned-mask"]
    five = replace(entry, sweep=entry.sweep[:1] * 5)
    found = {most: _editing_fronts.positions(five, most) for most in (1, 2, 3, 5, 9)}
    assert found == {1: [0], 2: [0, 4], 3: [0, 2, 4], 5: [0, 1, 2, 3, 4], 9: [0, 1, 2, 3, 4]}


def test_rates_and_windows_see_held_out_groups_only(plan: Plan) -> None:
    held_out = {group.name for group in plan.held_out}
    for name in ("rates", "windows"):
        assert {task["group"] for task in editing_benchmark.PARTS[name].tasks(plan)} <= held_out


def test_views_count_in_the_front_by_style_alone(plan: Plan) -> None:
    views = plan.measured[3].name
    for name in ("samples", "stopping"):
        assert views not in {task["group"] for task in editing_benchmark.PARTS[name].tasks(plan)}
    for name in ("many", "conflicts"):
        assert all(3 not in task["groups"] for task in editing_benchmark.PARTS[name].tasks(plan))


def test_windows_are_all_threes_of_both_kinds(plan: Plan) -> None:
    tasks = editing_benchmark.PARTS["windows"].tasks(plan)
    for kind in ("feed-forward", "attention"):
        windows = {tuple(task["blocks"]) for task in tasks if task["kind"] == kind}
        assert windows == {(b, b + 1, b + 2) for b in range(10)}


def test_no_depth_is_measured_without_files(plan: Plan) -> None:
    assert editing_benchmark.PARTS["depth"].tasks(plan) == []


def make_front(shift: float) -> pd.DataFrame:
    """Rows as of the front: learned above random by `shift` in LR."""
    rows = [
        {
            "editor": editor,
            "position": p,
            "setting": f"sparsity {s}",
            "settings": {"sparsity": s},
            "group": f"g{g}",
        }
        | {"style": style, "sr": 1.0, "gr": 0.4 + 0.1 * p, "lr": 0.8 - 0.1 * p + up + 0.02 * (g % 3)}
        | {"steps": 3 + p, "seconds": 1.0}
        for editor, up in (("learned-mask", shift), ("random-mask", 0.0))
        for p, s in enumerate((0.95, 0.9, 0.75))
        for g, style in enumerate(("openmoji", "openmoji", "emojione-monotone", "emojione-monotone"))
    ]
    return pd.DataFrame(rows)


def test_the_front_says_by_style_who_leads(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sensitive:
        gap = 0.1

        def __len__(self) -> int:
            return 9

    monkeypatch.setattr(_editing_fronts, "load_model", lambda name: None)
    monkeypatch.setattr(_editing_fronts, "sensitive_set", lambda model: Sensitive())
    for shift, leads in ((0.05, True), (-0.05, False)):
        found = editing_benchmark.PARTS["front"].summarise(make_front(shift), plan)
        json.dumps(found, allow_nan=False)
        assert found["styles"]["fluent-emoji-high-contrast"] == {"groups": 0, "cells": [], "areas": []}
        assert found["leads"] == {"openmoji": leads, "emojione-monotone": leads}
        areas = {row["editor"]: row for row in found["overall"]["areas"]}
        assert (areas["random-mask"]["difference"] > 0) is leads
        assert [row["lr"] for row in found["density"]] == pytest.approx([shift] * 3)
        assert [row["sparsity"] for row in found["density"]] == [0.95, 0.9, 0.75]


def test_the_chosen_rate_has_the_largest_area(plan: Plan) -> None:
    rows = make_front(0.0).query("editor == 'learned-mask'")
    better = rows.assign(rate=1e-5, lr=rows["lr"] + 0.1)
    found = editing_benchmark.PARTS["rates"].summarise(pd.concat([rows.assign(rate=2e-5), better]), plan)
    assert found["editors"]["learned-mask"]["chosen"] == 1e-5
    assert set(found["editors"]["learned-mask"]["areas"]) == {"1e-05", "2e-05"}


# A whole run


class TinyPopulation:
    def __init__(self, vit: nn.Module, image_maker: Callable[..., Tensor]) -> None:
        self.measured = make_groups(vit, image_maker)
        self.held_out = [
            EditedGroup(f"held out {g.name}", g.style, g.images.flip(-1), g.targets)
            for g in self.measured[:3]
        ]
        self._protected = image_maker(8, seed=99)

    def near_misses(self, count: int) -> Tensor:
        return self._protected[:count]


@pytest.fixture
def tiny(
    make_vit: Callable[..., nn.Module],
    image_maker: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Options:
    """A benchmark of a small model with twelve blocks, at learning rates at which it is edited in a few steps."""
    vit = make_vit(depth=12)
    space = EditSpace.of(vit)
    torch.manual_seed(0)
    hypernetwork = MaskHypernetwork(MaskNetwork(space, depth=1), space, fingerprint(vit))

    class TinyBench(Bench):
        def __init__(self, options: Options) -> None:
            monkeypatch.setattr(bench_module, "load_model", lambda name: vit)
            monkeypatch.setattr(bench_module.MaskHypernetwork, "load", lambda name: hypernetwork)
            super().__init__(options)
            self.population = TinyPopulation(vit, image_maker)

        def sensitive(self, count: int, number: int) -> Tensor:
            return image_maker(count, seed=number)

    from benchmarks import _editing_bench as bench_module

    class Sensitive:
        gap = 0.1

        def __len__(self) -> int:
            return 9

    monkeypatch.setattr(editing_benchmark, "Bench", TinyBench)
    monkeypatch.setattr(_editing_fronts, "load_model", lambda name: vit)
    monkeypatch.setattr(_editing_fronts, "sensitive_set", lambda model: Sensitive())
    short = {"learned-mask": ({"sparsity": 0.5},), "ft": ({"learning_rate": 5e-4}, {"learning_rate": 1e-3})}
    entries = {name: replace(EDITORS[name], sweep=sweep) for name, sweep in short.items()}
    monkeypatch.setattr(_editing_fronts, "EDITORS", entries)
    monkeypatch.setattr(_editing_fronts, "RATES", {"learned-mask": (1e-3, 2e-3)})
    monkeypatch.setattr(_editing_windows, "RATES", (1e-3,))
    monkeypatch.setattr(
        _editing_many, "SETTINGS", {"learned-mask": {"sparsity": 0.5}, "ft": {"learning_rate": 1e-3}}
    )
    monkeypatch.setattr(_editing_stops, "WATCHED", 4)
    monkeypatch.setattr(_editing_stops, "BOUNDS", (0.2,))
    for module in (record, tables):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return Options(
        editors=("learned-mask", "ft"),
        edits=1,
        protected=6,
        folder=tmp_path / "rows",
        depths=(("1", "file"),),
    )


@pytest.mark.slow
def test_a_whole_run_is_summarised_and_costs_nothing_twice(
    tiny: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = list(editing_benchmark.PARTS)
    monkeypatch.setattr("sys.argv", ["benchmarks/editing_benchmark.py"])
    path = editing_benchmark.run(tiny, parts, workers=1)
    assert path is not None
    found = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert list(found) == parts
    assert found["rates"]["editors"]["learned-mask"]["chosen"] in (1e-3, 2e-3)
    assert found["front"]["rates"] == {
        "learned-mask": found["rates"]["editors"]["learned-mask"]["chosen"],
        "ft": None,
    }
    assert found["front"]["overall"]["groups"] == 2
    assert found["front"]["styles"]["fluent-emoji (views)"]["groups"] == 1
    assert found["windows"]["default"]["of"] == 10
    assert {cell["way"] for cell in found["many"]["cells"]} == {"sequence", "sum", "batch"}
    one = [cell for cell in found["many"]["cells"] if cell["count"] == 1 and cell["editor"] == "ft"]
    assert len({(cell["gr"], cell["lr"], cell["reliability"]) for cell in one}) == 1  # one edit is one edit
    assert len(found["conflicts"]["editors"]["ft"]["survives"]) == len(found["conflicts"]["names"]) == 2
    assert set(found["specificity"]["editors"]) == {"learned-mask"}
    rules = {cell["setting"] for cell in found["stopping"]["cells"]}
    assert rules == {"published", "once right", "at most 20% of watched"}
    assert [area["editor"] for area in found["depth"]["areas"]] == ["1"]
    assert {cell["samples"] for cell in found["samples"]["cells"]} == {1, 2, 3}

    for table in (tables._editing_benchmark, tables._editing_windows, tables._editing_many):
        text = table()
        assert text.count("\n| ") >= 3
        assert "`python -m benchmarks.editing_benchmark" in text

    def refuse(*_: Any) -> Any:
        raise AssertionError("measured twice")

    monkeypatch.setattr(editing_benchmark, "run_tasks", refuse)
    capsys.readouterr()
    assert editing_benchmark.run(tiny, parts, workers=1) == path
    assert capsys.readouterr().out.count("nothing to measure") == len(parts)
    assert json.loads(path.read_text(encoding="utf-8"))["results"] == found
