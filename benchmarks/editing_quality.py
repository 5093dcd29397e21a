"""Where to edit, measured: learned, random and gradient masks and no mask, over density and learning rate.

    python -m benchmarks.editing_quality [--per-group 1] [--rates 2e-5 5e-5] [--sweep 10]

Every edit of a failure group is judged by the other failures of its group (GR) and by the whole sensitive set (LR).
One row an edit goes to runs/editing_quality/edits.jsonl, so a run that was stopped goes on where it was;
results/editing_quality.json holds means with 95 % intervals (bootstrap over groups), overall and by shift style, and
the paired difference between learned and random masks. About one second an edit and method on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from benchmarks.record import bootstrap_interval, write_results
from workbench.data.failures import FailureGroup, SensitiveSet, failure_groups, sensitive_set
from workbench.editing import (
    Editor,
    EditRequest,
    EditSettings,
    EvaluationSet,
    FullMask,
    GradientMask,
    LearnedMask,
    MaskHypernetwork,
    RandomMask,
    Where,
)
from workbench.models import SplitViT, fingerprint, load_model

DENSITIES = (0.75, 0.5, 0.25, 0.1, 0.05)
#: Densities at which masks matter most: all that is measured of the gradient mask, and at further learning rates.
SPARSE = (0.25, 0.1, 0.05)
_ROWS = Path("runs/editing_quality/edits.jsonl")


@dataclass(frozen=True)
class Trial:
    """One way to edit."""

    method: str
    density: float
    rate: float

    def where(self, hypernetwork: MaskHypernetwork, seed: int) -> Where:
        """How the mask is chosen."""
        sparsity = round(1 - self.density, 6)
        if self.method == "learned":
            return LearnedMask(hypernetwork, sparsity)
        if self.method == "random":
            return RandomMask(sparsity, seed)
        return GradientMask(sparsity) if self.method == "gradient" else FullMask()


def main() -> None:
    """Measure what is missing and write the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="emoji_vit_s14")
    parser.add_argument("--hypernetwork", default="emoji_vit_s14")
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-5, 5e-5])
    parser.add_argument("--per-group", type=int, default=1, help="edited images of each group")
    parser.add_argument(
        "--sweep", type=int, default=10, help="edits measured at learning rates after the first"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    bench = Bench(options.model, options.hypernetwork, options.rates, options.seed)
    trials = list(all_trials(options.rates))
    bench.run(trials, options.per_group, options.sweep)
    results = summarise(bench.rows(trials, options.per_group), options.seed)
    results["protected"] = {"images": len(bench.protected), "gap": bench.protected.gap}
    print(write_results("editing_quality", results, options.seed, time.perf_counter() - began))


def all_trials(rates: list[float]) -> Iterator[Trial]:
    """No mask, and masks by density; at learning rates after the first only the sparse ones."""
    for position, rate in enumerate(rates):
        yield Trial("full", 1.0, rate)
        for density in DENSITIES if position == 0 else SPARSE:
            yield from (Trial(method, density, rate) for method in ("learned", "random"))
            if position == 0 and density in SPARSE:
                yield Trial("gradient", density, rate)


class Bench:
    """The groups, the protected images and the rows measured so far."""

    def __init__(self, model: str, hypernetwork: str, rates: list[float], seed: int) -> None:
        self.model, self.seed = load_model(model), seed
        self.editors = {rate: Editor(self.model, settings=EditSettings(learning_rate=rate)) for rate in rates}
        self.hypernetwork = MaskHypernetwork.load(hypernetwork)
        self.groups: list[FailureGroup] = failure_groups(self.model)
        self.protected: SensitiveSet = sensitive_set(self.model)
        self.split = SplitViT(self.model, self.hypernetwork.space.blocks[0], pooled_only=True)
        self.key = _key(fingerprint(self.model), fingerprint(self.hypernetwork.network))

    def run(self, trials: list[Trial], per_group: int, sweep: int) -> None:
        """Measure every (edit, trial) that has no row yet; only `sweep` edits at rates after the first."""
        done = {(r["group"], r["concept"], r["method"], r["density"], r["rate"]) for r in self._saved()}
        empty = EvaluationSet.build(self.split, self.protected.images[:0], [], None, self.protected.images)
        _ROWS.parent.mkdir(parents=True, exist_ok=True)
        edits = [(r, g) for r in range(per_group) for g in self.groups if r < len(g)]
        for number, (position, group) in enumerate(tqdm(edits, desc="edits", mininterval=10)):
            concept = group.failures[position].concept
            wanted = [t for t in trials if t.rate == trials[0].rate or number < sweep]
            left = [t for t in wanted if (group.name, concept, t.method, t.density, t.rate) not in done]
            if not left:
                continue
            own = EvaluationSet.build(
                self.split, group.images, group.targets, position, self.protected.images[:0]
            )
            judged = EvaluationSet(own.group, own.targets, position, empty.protected, empty.before)
            with _ROWS.open("a", encoding="utf-8") as file:
                for trial in left:
                    row = self._measure(trial, group, position, judged, number)
                    file.write(json.dumps(row) + "\n")
                    file.flush()

    def _measure(
        self, trial: Trial, group: FailureGroup, position: int, judged: EvaluationSet, number: int
    ) -> dict[str, Any]:
        settings = EditSettings(learning_rate=trial.rate)
        editor = Editor(self.model, trial.where(self.hypernetwork, self.seed + number), settings)
        failure = group.failures[position]
        course = editor.edit(EditRequest(failure.image, failure.true), record=False)
        right = float(course.predictions[-1, 0] == failure.true)
        scores = judged.scores(*judged.predict(self.split, course.edit.weights(self.model)), sr=right)
        return {
            "key": self.key,
            "group": group.name,
            "style": group.style,
            "size": len(group),
            "concept": failure.concept,
            "method": trial.method,
            "density": trial.density,
            "rate": trial.rate,
            "steps": course.steps,
            "succeeded": course.succeeded,
            "sr": scores.sr,
            "gr": scores.gr,
            "gr_published": scores.gr_published,
            "lr": scores.lr,
        }

    def _saved(self) -> list[dict[str, Any]]:
        """Rows measured with these very weights."""
        if not _ROWS.exists():
            return []
        rows = [
            json.loads(line) for line in _ROWS.read_text(encoding="utf-8").splitlines() if line.endswith("}")
        ]
        return [row for row in rows if row["key"] == self.key]

    def rows(self, trials: list[Trial], per_group: int) -> pd.DataFrame:
        """Rows of the trials and edits asked for."""
        wanted = {(t.method, t.density, t.rate) for t in trials}
        edits = {(g.name, f.concept) for g in self.groups for f in g.failures[:per_group]}
        frame = pd.DataFrame(self._saved())
        kept = [
            (r.method, r.density, r.rate) in wanted and (r.group, r.concept) in edits
            for r in frame.itertuples()
        ]
        return frame[kept]


def summarise(rows: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Means with intervals by method, density and rate; by style; and learned minus random, paired."""
    return {
        "edits": int(rows.groupby(["group", "concept"]).ngroups),
        "groups": int(rows["group"].nunique()),
        "styles": {s: int(n) for s, n in rows.groupby("style")["group"].nunique().items()},
        "overall": [_summary(part, seed) | _named(key) for key, part in rows.groupby(_BY)],
        "by_style": [
            _summary(part, seed) | _named(key[1:]) | {"style": key[0]}
            for key, part in rows.groupby(["style", *_BY])
        ],
        "learned_minus_random": [_paired(rows, "random", d, r, seed) for d, r in _cells(rows)],
        "learned_minus_gradient": [
            _paired(rows, "gradient", d, r, seed) for d, r in _cells(rows, "gradient")
        ],
    }


_BY = ["method", "density", "rate"]


def _named(key: Any) -> dict[str, Any]:
    return dict(zip(_BY, key, strict=True))


def _cells(rows: pd.DataFrame, rival: str = "random") -> list[tuple[float, float]]:
    masked = rows[rows["method"] == rival]
    return sorted(set(zip(masked["density"], masked["rate"], strict=True)))


def _summary(part: pd.DataFrame, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {"edits": len(part), "steps": round(float(part["steps"].mean()), 2)}
    for name in ("sr", "gr", "lr"):
        values = part[name].astype(float)
        found[name] = round(float(values.mean()), 4)
        found[f"{name}_interval"] = bootstrap_interval(values.tolist(), part["group"].tolist(), seed)
    found["gr_macro"] = round(float(part.groupby("group")["gr"].mean().mean()), 4)
    found["gr_published"] = round(float(part["gr_published"].mean()), 4)
    return found


def _paired(rows: pd.DataFrame, rival: str, density: float, rate: float, seed: int) -> dict[str, Any]:
    cell = rows[(rows["density"] == density) & (rows["rate"] == rate)]
    found: dict[str, Any] = {"density": density, "rate": rate}
    for name in ("gr", "lr"):
        table = cell.pivot_table(index=["group", "concept"], columns="method", values=name)
        difference = (table["learned"] - table[rival]).dropna()
        groups = difference.index.get_level_values("group").tolist()
        found[name] = round(float(difference.mean()), 4)
        found[f"{name}_interval"] = bootstrap_interval(difference.tolist(), groups, seed)
    return found


def _key(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
