"""Parts of the editing benchmark that trace fronts: learning rates, the front of every editor, edit samples, depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks._editing_bench import Bench, Part, Plan, records
from benchmarks._editing_rows import Found, Task
from benchmarks.record import bootstrap_interval
from workbench.data import emoji
from workbench.data.failures import sensitive_set
from workbench.editing import (
    Editor,
    EditRequest,
    LearnedMask,
    MaskHypernetwork,
    front_area,
    front_areas,
    sweep_means,
)
from workbench.editing.editors import EDITORS, EditorEntry
from workbench.editing.sweeps import measure_edit, setting_label
from workbench.models import load_model

REFERENCE = "learned-mask"

#: Steps of RMSprop: below, at and above the published one.
_RMSPROP = (5e-6, 1e-5, 2e-5, 5e-5)

#: Learning rates to choose from, for every editor that optimises at one its sweep does not set.
RATES: Mapping[str, tuple[float, ...]] = {
    "learned-mask": _RMSPROP,
    "random-mask": _RMSPROP,
    "gradient-mask": _RMSPROP,
    "ft-l1": _RMSPROP,
    "ft-l2": _RMSPROP,
    "ft-linf": (2e-5, 1e-4, 5e-4),
    "rome": (0.1, 0.2, 0.5),
    "t-patcher": (0.03, 0.1, 0.3),
}

#: Groups, protected images and settings (first, middle, last of the sweep) with which a rate is chosen.
RATE_GROUPS, RATE_PROTECTED = 5, 50


class Rates(Part):
    """Which learning rate suits each editor, on groups and protected images that are measured nowhere else."""

    name = "rates"

    def tasks(self, plan: Plan) -> list[Task]:
        """First, middle and last setting of each sweep at every rate."""
        return [
            {
                "part": self.name,
                "editor": editor,
                "position": position,
                "settings": {**EDITORS[editor].sweep[position], "learning_rate": rate},
                "setting": setting_label(EDITORS[editor].sweep[position]),
                "rate": rate,
                "group": group.name,
                "protected": RATE_PROTECTED,
            }
            for group in plan.held_out[:RATE_GROUPS]
            for editor in plan.options.editors
            for rate in RATES.get(editor, ())
            for position in positions(EDITORS[editor], 3)
        ]

    def measure(self, bench: Bench, task: Task) -> Found:
        """One edit of a held-out group."""
        judge, method = (
            bench.held_out_judge(task["protected"]),
            bench.editor(task["editor"], task["settings"]),
        )
        return measure_edit(method, judge, bench.groups[task["group"]])

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """Area under the front of three settings by rate, and the rate of the largest."""
        editors = {}
        for editor, part in rows.groupby("editor", sort=False):
            areas = {}
            for rate, cell in part.groupby("rate"):
                means = cell.groupby("position")[["gr", "lr"]].mean()
                areas[f"{rate:g}"] = round(front_area(means["gr"].to_numpy(), means["lr"].to_numpy()), 4)
            editors[str(editor)] = {"areas": areas, "chosen": float(max(areas, key=lambda rate: areas[rate]))}
        return {"groups": rows["group"].nunique(), "protected": RATE_PROTECTED, "editors": editors}


def positions(entry: EditorEntry, most: int) -> list[int]:
    """Positions of at most so many settings of a sweep, evenly spread, both ends among them."""
    count, last = min(most, len(entry.sweep)), len(entry.sweep) - 1
    return [round(i * last / max(1, count - 1)) for i in range(count)]


def _one_edit(part: str, plan: Plan, editor: str, position: int, number: int) -> Task:
    """One setting of an editor's sweep on one group."""
    setting = EDITORS[editor].sweep[position]
    return {
        "part": part,
        "editor": editor,
        "position": position,
        "settings": plan.settings(editor, setting, number),
        "setting": setting_label(setting),
        "group": plan.measured[number].name,
        "number": number,
        "protected": plan.options.protected,
    }


class Front(Part):
    """GR against LR of every editor over its sweep."""

    name = "front"
    needs = ("rates",)

    def tasks(self, plan: Plan) -> list[Task]:
        """The first image of each group, group by group."""
        return [
            _one_edit(self.name, plan, editor, position, number)
            for number in plan.measured
            for editor in plan.options.editors
            for position in positions(EDITORS[editor], plan.options.settings or len(EDITORS[editor].sweep))
        ]

    def measure(self, bench: Bench, task: Task) -> Found:
        """One edit."""
        judge = bench.judge(task["protected"], task["number"])
        return measure_edit(
            bench.editor(task["editor"], task["settings"]), judge, bench.groups[task["group"]]
        )

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """Means, areas and differences, overall (drawings) and by style; learned against random masks by density."""
        seed, drawn = plan.options.seed, rows[~rows["style"].str.endswith("(views)")]
        named = list(dict.fromkeys([*emoji.styles("shift"), *rows["style"]]))
        styles = {str(style): _summary(rows[rows["style"] == style], seed) for style in named}
        protected = sensitive_set(load_model(plan.options.model))
        return {
            "protected": {"images": len(protected), "an_edit": plan.options.protected, "gap": protected.gap},
            "reference": REFERENCE,
            "rates": {editor: plan.rates.get(editor) for editor in plan.options.editors},
            "editors": {editor: describe(EDITORS[editor]) for editor in plan.options.editors},
            "overall": _summary(drawn, seed),
            "styles": styles,
            "leads": {style: _leads(found["areas"]) for style, found in styles.items() if found["groups"]},
            "density": _by_density(drawn, seed),
            "seconds_an_edit": rows.groupby("editor")["seconds"].mean().round(2).to_dict(),
        }


def describe(entry: EditorEntry) -> dict[str, str]:
    """What the registry says of an editor, as plain values."""
    return {
        "title": entry.title,
        "family": entry.family,
        "origin": entry.origin,
        "definition": entry.definition,
        "citation": entry.citation,
    }


def _summary(rows: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Of one population; without rows only that there are none."""
    if rows.empty:
        return {"groups": 0, "cells": [], "areas": []}
    reference = REFERENCE if REFERENCE in set(rows["editor"]) else None
    return {
        "groups": int(rows["group"].nunique()),
        "cells": records(sweep_means(rows, seed)),
        "areas": records(front_areas(rows, reference, seed)),
    }


def _leads(areas: list[dict[str, Any]]) -> bool | None:
    """Whether the learned mask has the largest area among masks and fine-tuning; None where it was not measured."""
    rivals = {a["editor"]: a["area"] for a in areas if EDITORS[a["editor"]].family in ("mask", "fine-tuning")}
    return None if REFERENCE not in rivals else rivals[REFERENCE] == max(rivals.values())


def _by_density(rows: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Learned minus random mask by setting, paired by edit."""
    found = []
    for setting, part in rows[rows["editor"].isin([REFERENCE, "random-mask"])].groupby("setting", sort=False):
        cell: dict[str, Any] = {"setting": setting, "sparsity": part["settings"].iloc[0]["sparsity"]}
        for name in ("gr", "lr", "steps"):
            table = part.pivot(index="group", columns="editor", values=name).astype(float)
            if set(table.columns) != {REFERENCE, "random-mask"}:
                return []
            apart = (table[REFERENCE] - table["random-mask"]).dropna()
            cell |= {"edits": len(apart), name: round(float(apart.mean()), 4)}
            cell[f"{name}_low"], cell[f"{name}_high"] = bootstrap_interval(apart.tolist(), seed=seed)
        found.append(cell)
    return found


#: How many images of a group are edited at once; all edits are judged by those after the last.
SAMPLES = (1, 2, 3)
SAMPLE_EDITORS, SAMPLE_GROUPS = ("learned-mask", "ft"), 8


class Samples(Part):
    """One, two or three images of a group in one request."""

    name = "samples"
    needs = ("rates",)

    def tasks(self, plan: Plan) -> list[Task]:
        """Three settings of each sweep."""
        return [
            _one_edit(self.name, plan, editor, position, number) | {"samples": samples}
            for number in list(plan.drawn)[::3][:SAMPLE_GROUPS]
            for editor in SAMPLE_EDITORS
            if editor in plan.options.editors
            for position in positions(EDITORS[editor], 3)
            for samples in SAMPLES
        ]

    def measure(self, bench: Bench, task: Task) -> Found:
        """Edit the group's first images together; judge by those that no edit of this part sees."""
        group, method = bench.groups[task["group"]], bench.editor(task["editor"], task["settings"])
        judge, others = bench.judge(task["protected"], task["number"]), group.without_first(max(SAMPLES))
        count = task["samples"]
        result = method.edit(EditRequest(group.images[:count], group.targets[:count].tolist()))
        scores = judge.scores(result.edit, others.images, others.targets, None, result.reliability)
        return {
            "steps": result.steps,
            "sr": scores.sr,
            "gr": scores.gr,
            "lr": scores.lr,
            "style": group.style,
        }

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """Means and areas by number of images; differences are to one image."""
        cells, areas = [], []
        for editor, part in rows.groupby("editor", sort=False):
            # One "editor" a number of images: what is compared here is how many there are.
            named = part.assign(editor=part["samples"].astype(str))
            cells.append(
                sweep_means(named, plan.options.seed).assign(samples=lambda t: t["editor"].astype(int))
            )
            areas.append(
                front_areas(named, "1", plan.options.seed).assign(samples=lambda t: t["editor"].astype(int))
            )
            cells[-1]["editor"] = areas[-1]["editor"] = editor
        return {
            "groups": int(rows["group"].nunique()),
            "cells": records(pd.concat(cells)),
            "areas": records(pd.concat(areas).sort_values(["editor", "samples"])),
        }


class Depth(Part):
    """Hypernetworks of other depths, where files of them are given."""

    name = "depth"
    needs = ("rates",)

    def tasks(self, plan: Plan) -> list[Task]:
        """The learned mask's sweep with every hypernetwork given."""
        return [
            {
                "part": self.name,
                "file": file,
                "depth": label,
                "position": position,
                "setting": setting_label(settings),
                "settings": plan.settings(REFERENCE, settings, number),
                "group": group.name,
                "number": number,
                "protected": plan.options.protected,
            }
            for number, group in plan.drawn.items()
            for label, file in plan.options.depths
            for position, settings in enumerate(EDITORS[REFERENCE].sweep)
        ]

    def measure(self, bench: Bench, task: Task) -> Found:
        """One edit under another hypernetwork's mask."""
        settings = dict(task["settings"])
        sparsity = settings.pop("sparsity")
        like = bench.masked("ft", settings)
        editor = Editor(
            bench.model, LearnedMask(MaskHypernetwork.load(task["file"]), sparsity), like.settings
        )
        judge = bench.judge(task["protected"], task["number"])
        return measure_edit(editor, judge, bench.groups[task["group"]])

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """Means and areas by depth."""
        named = rows.assign(editor=rows["depth"])
        return {
            "groups": int(rows["group"].nunique()),
            "cells": records(sweep_means(named, plan.options.seed)),
            "areas": records(front_areas(named, None, plan.options.seed)),
        }
