"""Part of the editing benchmark: rules that say when an edit ends."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks._editing_bench import Bench, Part, Plan, records
from benchmarks._editing_rows import Found, Task
from workbench.editing import Judge, LocalityStop, sweep_means
from workbench.editing.editors import EditMethod
from workbench.editing.sweeps import measure_edit

#: Watched images, and the largest shares of them that may change.
WATCHED, BOUNDS = 24, (0.2, 0.1, 0.05)

#: Groups edited: a watched step costs as much as a step and its evaluation.
GROUPS = 8

SETTINGS: dict[str, dict[str, Any]] = {"learned-mask": {"sparsity": 0.9}, "ft": {"learning_rate": 5e-6}}


class Stops(Part):
    """The published rule, stopping once the image is right, and stopping when too many watched predictions change."""

    name = "stopping"
    needs = ("rates",)

    def tasks(self, plan: Plan) -> list[Task]:
        """Every rule for two editors."""
        once_right: dict[str, Any] = {"bound": None, "stop_loss": 100.0}
        rules = [{"bound": None}, once_right, *({"bound": bound} for bound in BOUNDS)]
        return [
            {
                "part": self.name,
                "editor": editor,
                "settings": plan.settings(editor, settings, number)
                | ({"stop_loss": rule["stop_loss"]} if "stop_loss" in rule else {}),
                "bound": rule["bound"],
                "group": group.name,
                "number": number,
                "protected": plan.options.protected,
            }
            for number, group in list(plan.drawn.items())[:GROUPS]
            for editor, settings in SETTINGS.items()
            if editor in plan.options.editors
            for rule in rules
        ]

    def measure(self, bench: Bench, task: Task) -> Found:
        """One edit; the judge's images are none of those watched."""
        images = bench.sensitive(WATCHED + task["protected"], task["number"])
        watched, protected = images[:WATCHED], images[WATCHED:]
        editor: EditMethod = bench.masked(task["editor"], task["settings"])
        if task["bound"] is not None:
            editor = LocalityStop(bench.masked(task["editor"], task["settings"]), watched, task["bound"])
        return measure_edit(editor, Judge(bench.model, protected), bench.groups[task["group"]])

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """Means by editor and rule."""
        rules = [
            "once right" if "stop_loss" in row["settings"] else _shown(row["bound"])
            for row in rows.to_dict("records")
        ]
        order = {rule: i for i, rule in enumerate(dict.fromkeys(rules))}
        named = rows.assign(setting=rules, position=[order[rule] for rule in rules])
        return {
            "groups": int(rows["group"].nunique()),
            "watched": WATCHED,
            "settings": {row["editor"]: row["settings"] for row in rows.to_dict("records")},
            "cells": records(sweep_means(named, plan.options.seed)),
        }


def _shown(bound: float | None) -> str:
    return "published" if bound is None or pd.isna(bound) else f"at most {bound:.0%} of watched"
