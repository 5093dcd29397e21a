"""Part of the editing benchmark: which blocks to edit, and whether their feed-forward networks or their attention."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks._editing_bench import Bench, Part, Plan, records
from benchmarks._editing_rows import Found, Task
from workbench.editing import front_areas, sweep_means
from workbench.editing.editors import EditMethod
from workbench.editing.editors.attention import AttentionFineTuning
from workbench.editing.space import DEFAULT_BLOCKS
from workbench.editing.sweeps import measure_edit

#: Consecutive blocks of a window, as published.
LENGTH = 3

#: Learning rates of plain fine-tuning, whose front is the window's.
RATES = (5e-6, 2e-5)

KINDS = ("feed-forward", "attention")

#: Held-out groups and protected images: the blocks must not be chosen on what is measured.
GROUPS, PROTECTED = 6, 50


class Windows(Part):
    """Plain fine-tuning of every window of three blocks."""

    name = "windows"

    def tasks(self, plan: Plan) -> list[Task]:
        """Every window at every rate; the groups are those after the ones that learning rates are chosen on."""
        return [
            {
                "part": self.name,
                "kind": kind,
                "blocks": list(range(first, first + LENGTH)),
                "rate": rate,
                "group": group.name,
                "protected": PROTECTED,
            }
            for group in plan.held_out[-GROUPS:]
            for kind in KINDS
            for first in range(plan.blocks - LENGTH + 1)
            for rate in RATES
        ]

    def measure(self, bench: Bench, task: Task) -> Found:
        """One edit of a held-out group."""
        method: EditMethod
        if task["kind"] == "attention":
            method = AttentionFineTuning(bench.model, task["rate"], blocks=task["blocks"])
        else:
            method = bench.editor("ft", {"learning_rate": task["rate"], "blocks": task["blocks"]})
        return measure_edit(method, bench.held_out_judge(task["protected"]), bench.groups[task["group"]])

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """Means and areas by window; the best one of each kind, and where the default blocks stand."""
        names = rows["kind"] + " " + rows["blocks"].map(lambda b: f"{b[0]}–{b[-1]}")
        named = rows.assign(editor=names, position=rows["rate"], setting=rows["rate"].map("{:g}".format))
        default = f"feed-forward {DEFAULT_BLOCKS[0]}–{DEFAULT_BLOCKS[-1]}"
        seed = plan.options.seed
        where = named.drop_duplicates("editor").set_index("editor")[["kind", "blocks"]]
        cells = sweep_means(named, seed).join(where, on="editor")
        areas = front_areas(named, default if default in set(names) else None, seed).join(where, on="editor")
        best = {kind: part.iloc[0]["blocks"] for kind, part in areas.groupby("kind")}
        found = {
            "groups": int(rows["group"].nunique()),
            "protected": PROTECTED,
            "cells": records(cells),
            "areas": records(areas),
            "best": best,
            "default": {"blocks": list(DEFAULT_BLOCKS), "rank": None},
        }
        own = areas[areas["kind"] == "feed-forward"].reset_index(drop=True)
        at = own.index[own["editor"] == default]
        if len(at):
            found["default"] = {"blocks": list(DEFAULT_BLOCKS), "rank": int(at[0]) + 1, "of": len(own)}
        return found
