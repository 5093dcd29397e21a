"""Part of the editing benchmark: whether masks are specific to the failure, by their overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks._editing_bench import Bench, Part, Plan
from benchmarks._editing_rows import Found, Task
from benchmarks.record import bootstrap_interval
from workbench.editing import EditRequest, mask_of
from workbench.figures import mask_overlap

#: As published; images of each group, the most confident failures.
SPARSITY, PER_GROUP = 0.95, 6

#: The gradient's mask sees the label: it says how specific masks can be.
EDITORS = ("learned-mask", "gradient-mask")


class Specificity(Part):
    """Intersection over union of masks at 0.95 sparsity."""

    name = "specificity"

    def tasks(self, plan: Plan) -> list[Task]:
        """All masks of an editor in one task: what is compared is pairs."""
        groups = [group.name for group in plan.drawn.values()]
        chosen = [editor for editor in EDITORS if editor in plan.options.editors]
        settings = {"sparsity": SPARSITY}
        return [{"part": self.name, "editor": e, "settings": settings, "groups": groups} for e in chosen]

    def measure(self, bench: Bench, task: Task) -> Found:
        """Mean overlap within each group, between groups of one style, and between styles."""
        editor, masks, names, styles = bench.masked(task["editor"], task["settings"]), [], [], []
        for name in task["groups"]:
            group = bench.groups[name]
            for image, target in list(zip(group.images, group.targets.tolist(), strict=True))[:PER_GROUP]:
                masks.append(mask_of(editor, EditRequest(image, target)))
                names.append(name)
                styles.append(group.style)
        found = mask_overlap(masks, names)
        group_of, style_of = np.array(names), np.array(styles)
        pairs = np.triu(np.ones_like(found.iou, dtype=bool), k=1)
        same, alike = group_of[:, None] == group_of, style_of[:, None] == style_of
        within = [float(found.iou[pairs & same & (group_of == name)].mean()) for name in task["groups"]]
        return {
            "masks": len(masks),
            "within": within,
            "between": _mean(found.iou[pairs & ~same]),
            "between_of_one_style": _mean(found.iou[pairs & ~same & alike]),
            "chance": found.chance,
        }

    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """Means by editor; the interval within groups is over groups."""
        editors = {}
        for row in rows.to_dict("records"):
            low, high = bootstrap_interval(row["within"], seed=plan.options.seed)
            editors[row["editor"]] = {
                "masks": row["masks"],
                "within": round(float(np.mean(row["within"])), 4),
                "within_low": low,
                "within_high": high,
                **{k: row[k] and round(row[k], 4) for k in ("between", "between_of_one_style", "chance")},
            }
        return {
            "sparsity": SPARSITY,
            "groups": len(plan.drawn),
            "images_a_group": PER_GROUP,
            "editors": editors,
        }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
