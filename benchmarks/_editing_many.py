"""Parts of the editing benchmark with many edits in one model: in a row, at once, added up, and two by two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks._editing_bench import Bench, Part, Plan, records
from benchmarks._editing_groups import EditedGroup
from benchmarks._editing_rows import Found, Task
from workbench.editing import (
    Edit,
    EditRequest,
    Judge,
    compose_all,
    conflict_matrix,
    edit_in_sequence,
    locality,
    on_edited_model,
)
from workbench.editing.editors import EditMethod

#: Editors, and the setting of each: one in ten units, and fine-tuning at the middle of its sweep.
SETTINGS: dict[str, dict[str, Any]] = {
    "learned-mask": {"sparsity": 0.9},
    "random-mask": {"sparsity": 0.9},
    "ft": {"learning_rate": 5e-6},
}

#: Edits in a row; after how many those at once and those added up are measured; orders.
LENGTH, COUNTS, ORDERS = 50, (1, 2, 5, 10, 20, 50), 2

#: Failures of each group that are never edited and say whether edits carry over, at most.
NEIGHBOURS = 2


@dataclass(frozen=True)
class Course:
    """What is edited in one order, and what it is judged by.

    Args:
        requests: In order.
        groups: Group of each request.
        neighbours: Failures that are not edited.
        targets: Their right classes.
        neighbour_groups: Their groups.
    """

    requests: list[EditRequest]
    groups: list[str]
    neighbours: Tensor
    targets: Tensor
    neighbour_groups: list[str]

    @classmethod
    def draw(cls, groups: list[EditedGroup], length: int, seed: int) -> Course:
        """Failures of all groups in random order, some of each group set aside."""
        random = np.random.default_rng(seed)
        asked, kept = [], []
        for group in groups:
            order = random.permutation(len(group)).tolist()
            kept += [(group, i) for i in order[:NEIGHBOURS]]
            asked += [(group, i) for i in order[NEIGHBOURS:]]
        chosen = [asked[i] for i in random.permutation(len(asked))[:length]]
        return cls(
            [EditRequest(group.images[i], int(group.targets[i])) for group, i in chosen],
            [group.name for group, _ in chosen],
            torch.stack([group.images[i] for group, i in kept]),
            torch.stack([group.targets[i] for group, i in kept]),
            [group.name for group, _ in kept],
        )

    def scores(self, judge: Judge, edit: Edit, count: int) -> dict[str, float | None]:
        """After the first `count` requests: share of them that hold, and of earlier ones; GR; LR."""
        images = torch.stack([request.images for request in self.requests[:count]])
        wanted = torch.tensor([request.target for request in self.requests[:count]])
        held = judge.predictions(edit, images) == wanted
        touched = [i for i, name in enumerate(self.neighbour_groups) if name in self.groups[:count]]
        right = judge.predictions(edit, self.neighbours[touched]) == self.targets[touched]
        return {
            "reliability": _share(held),
            "earlier": _share(held[:-1]),
            "gr": _share(right),
            "lr": locality(judge.before, judge.predictions(edit, judge.protected)),
        }


def _share(values: Tensor) -> float | None:
    return round(float(values.double().mean()), 6) if len(values) else None


class Many(Part):
    """Fifty edits of one model: one after the other, in one request, or made separately and added up."""

    name = "many"
    needs = ("rates",)

    def tasks(self, plan: Plan) -> list[Task]:
        """Every way, editor and order."""
        return [
            {
                "part": self.name,
                "way": way,
                "editor": editor,
                "settings": plan.settings(editor, settings, order),
                "order": order,
                "length": LENGTH if plan.options.edits is None else min(LENGTH, 4 * plan.options.edits),
                "groups": list(plan.drawn),
                "protected": plan.options.protected,
            }
            for order in range(ORDERS if plan.options.edits is None else 1)
            for editor, settings in SETTINGS.items()
            if editor in plan.options.editors
            for way in ("sequence", "sum", "batch")
            if way == "sequence" or editor != "random-mask"
        ]

    def measure(self, bench: Bench, task: Task) -> Found:
        """All counts of one way, editor and order."""
        groups = [bench.population.measured[number] for number in task["groups"]]
        course = Course.draw(groups, task["length"], bench.options.seed + task["order"])
        judge = bench.judge(task["protected"], task["order"])
        measured = {"sequence": _in_sequence, "sum": _added_up, "batch": _at_once}[task["way"]]
        counts = [count for count in COUNTS if count <= task["length"]]
        return {"course": measured(bench, task, course, judge, counts)}

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """Means over orders, with the lowest and the highest."""
        parts = [
            pd.DataFrame(row["course"]).assign(way=row["way"], editor=row["editor"], order=row["order"])
            for row in rows.to_dict("records")
        ]
        table = pd.concat(parts, ignore_index=True)
        quantities = ["reliability", "earlier", "gr", "lr"]
        by = table.astype(dict.fromkeys(quantities, float)).groupby(["way", "editor", "count"], sort=False)
        means = by[quantities].agg(["mean", "min", "max"])
        means.columns = [c[0] if c[1] == "mean" else "_".join(c) for c in means.columns.tolist()]
        settings = {row["editor"]: row["settings"] for row in rows.to_dict("records")}
        return {
            "orders": int(table["order"].nunique()),
            "length": int(table["count"].max()),
            "settings": settings,
            "cells": records(means.reset_index()),
        }


def _in_sequence(
    bench: Bench, task: Task, course: Course, judge: Judge, counts: list[int]
) -> list[dict[str, Any]]:
    """Scores after each edit."""
    found = []
    for step in edit_in_sequence(bench.model, _method_for(bench, task), course.requests):
        scores = course.scores(judge, step.total, step.number)
        found.append({"count": step.number, **scores, "steps": step.result.steps})
    return found


def _method_for(bench: Bench, task: Task) -> Any:
    """The editor of a sequence; a random mask is drawn anew for every edit."""
    name, settings = task["editor"], task["settings"]
    if name != "random-mask":
        return on_edited_model(name, bench.model, **bench.shared(name), **settings)
    seeds = iter(range(1000 * settings["seed"], 1000 * settings["seed"] + 1000))

    def drawn(working: nn.Module, request: EditRequest) -> EditMethod:
        made: Any = on_edited_model(name, bench.model, **{**settings, "seed": next(seeds)})
        method: EditMethod = made(working, request)
        return method

    return drawn


def _added_up(
    bench: Bench, task: Task, course: Course, judge: Judge, counts: list[int]
) -> list[dict[str, Any]]:
    """Scores of the sums of separate edits."""
    found: list[dict[str, Any]] = []
    total = Edit(judge.base, {})
    for number, request in enumerate(course.requests, start=1):
        settings = dict(task["settings"])
        if "seed" in settings:
            settings["seed"] = 1000 * settings["seed"] + number - 1
        result = bench.editor(task["editor"], settings).edit(request)
        total = compose_all([total, result.edit])
        if number in counts:
            found.append({"count": number, **course.scores(judge, total, number), "steps": result.steps})
    return found


def _at_once(
    bench: Bench, task: Task, course: Course, judge: Judge, counts: list[int]
) -> list[dict[str, Any]]:
    """Scores of one edit of many images."""
    found = []
    for count in counts:
        images = torch.stack([request.images for request in course.requests[:count]])
        targets = [int(str(request.target)) for request in course.requests[:count]]
        result = bench.editor(task["editor"], task["settings"]).edit(EditRequest(images, targets))
        found.append({"count": count, **course.scores(judge, result.edit, count), "steps": result.steps})
    return found


#: Edits that are put together two by two, one of each of the largest groups.
PAIRED = 16


class Conflicts(Part):
    """Which separately made edits survive which others."""

    name = "conflicts"
    needs = ("rates",)

    def tasks(self, plan: Plan) -> list[Task]:
        """One task an editor: what is measured is pairs."""
        numbers = list(plan.drawn)[:PAIRED]
        return [
            {
                "part": self.name,
                "editor": editor,
                "settings": plan.settings(editor, settings, 0),
                "groups": numbers,
            }
            for editor, settings in SETTINGS.items()
            if editor in plan.options.editors and len(numbers) > 1
        ]

    def measure(self, bench: Bench, task: Task) -> Found:
        """Every pair of edits."""
        groups, results = [bench.population.measured[n] for n in task["groups"]], []
        for number, group in zip(task["groups"], groups, strict=True):
            settings = dict(task["settings"])
            if "seed" in settings:
                settings["seed"] = number
            request = EditRequest(group.images[0], int(group.targets[0]))
            results.append(bench.editor(task["editor"], settings).edit(request))
        matrix = conflict_matrix(Judge(bench.model, groups[0].images[:0]), results)
        return {
            "survives": matrix.survives.astype(int).tolist(),
            "shared": matrix.shared.round(4).tolist(),
            "survival": matrix.survival,
        }

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """The matrices by editor."""
        names = [plan.measured[number].name for number in rows.iloc[0]["groups"]]
        same = [[a.split(" taken for ")[0] == b.split(" taken for ")[0] for b in names] for a in names]
        editors = {}
        for row in rows.to_dict("records"):
            editors[row["editor"]] = {
                "survives": row["survives"],
                "shared": row["shared"],
                "survival": None if row["survival"] is None else round(row["survival"], 4),
                "shared_mean": round(
                    float(np.array(row["shared"])[~np.eye(len(names), dtype=bool)].mean()), 4
                ),
            }
        return {"names": names, "same_class": np.array(same).astype(int).tolist(), "editors": editors}
