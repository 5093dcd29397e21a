"""The editing benchmark: every editor's trade-off, where to edit, and what happens with many edits of one model.

    python -m benchmarks.editing_benchmark [--only front windows] [--edits 2] [--editors learned-mask ft]

Parts, in the order of their importance:

    rates        the learning rate of every editor, chosen on failure groups that are measured nowhere else
    front        GR against LR for every setting of every editor's sweep, by shift style, with areas under the fronts
    windows      which three blocks to edit, feed-forward networks or attention (held-out groups)
    many         fifty edits of one model: in a row, in one request, or made separately and added up
    conflicts    which separately made edits survive which others
    samples      one, two or three images of a group in a request
    specificity  overlap of masks within groups and between them
    stopping     rules that say when an edit ends
    depth        hypernetworks of other depths, where --depths names their files

All of it takes about an hour and a half on two quiet cores, the front fifty minutes of that; --settings 4 takes fewer
settings of each sweep, and a quarter off the front.

Every measurement is a row in runs/editing_benchmark/<part>.jsonl, known by the weights and by what was measured, so a
run that was stopped goes on where it was, and a part that was asked for before costs nothing. A changed editor is not
noticed: delete the rows. results/editing_benchmark.json is written anew whenever a part is complete, and holds every
part that is. To train hypernetworks for --depths, for each depth D:

    workbench train hypernetwork --depth D -o runs/hypernetwork-D --iterations 350 --schedule 480 --inner-steps 3
        --outer-steps 5 --learning-rate 2e-4
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from benchmarks._editing_bench import Bench, Options, Part, Plan
from benchmarks._editing_fronts import Depth, Front, Rates, Samples
from benchmarks._editing_many import Conflicts, Many
from benchmarks._editing_masks import Specificity
from benchmarks._editing_rows import Found, RowStore, Task, run_tasks
from benchmarks._editing_stops import Stops
from benchmarks._editing_windows import Windows
from benchmarks.record import write_results
from workbench.editing.editors import EDITORS

PARTS: Mapping[str, Part] = {
    part.name: part
    for part in (Rates(), Front(), Windows(), Many(), Conflicts(), Samples(), Specificity(), Stops(), Depth())
}


def main() -> None:
    """Measure what is missing and write the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Options()
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (and what they need)"
    )
    parser.add_argument("--editors", nargs="+", choices=EDITORS, default=list(EDITORS))
    parser.add_argument("--edits", type=int, help="groups of each style; default: all")
    parser.add_argument("--settings", type=int, help="settings of each sweep at most; default: all")
    parser.add_argument(
        "--protected", type=int, default=default.protected, help="sensitive images an edit is judged by"
    )
    parser.add_argument("--model", default=default.model)
    parser.add_argument("--hypernetwork", default=default.hypernetwork)
    parser.add_argument("--depths", nargs="+", default=[], metavar="DEPTH=FILE", help="further hypernetworks")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes of one thread each"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    options = Options(
        model=given.model,
        hypernetwork=given.hypernetwork,
        depths=tuple(_labelled(text) for text in given.depths),
        editors=tuple(given.editors),
        edits=given.edits,
        settings=given.settings,
        protected=given.protected,
        seed=given.seed,
    )
    print(run(options, given.only, given.workers))


def run(options: Options, only: Sequence[str], workers: int) -> Path | None:
    """Measure parts, and write the results after each; gives their path, or None where no part is complete."""
    bench = Bench(options)
    work = _Work(
        bench.plan(), {name: RowStore(options.folder / f"{name}.jsonl", bench.base) for name in PARTS}
    )
    for name in PARTS:
        work.summarise(name)
    path = work.write()
    for name in with_needs(only):
        missing = work.missing(name)
        if not missing:
            print(f"{name}: nothing to measure")
            continue
        began = time.perf_counter()
        found = run_tasks(missing, min(workers, len(missing)), _Measurer, (options,))
        for task, values in tqdm(found, total=len(missing), desc=name, mininterval=5, file=sys.stdout):
            work.stores[name].add(task, values)
        print(f"{name}: {len(missing)} measurements in {time.perf_counter() - began:.0f} s")
        work.summarise(name)
        path = work.write()
    return path


class _Work:
    """What is to be measured, the rows there are, and the summaries of the parts that are complete."""

    def __init__(self, plan: Plan, stores: Mapping[str, RowStore]) -> None:
        self.plan, self.stores = plan, stores
        self.summaries: dict[str, dict[str, Any]] = {}

    def missing(self, name: str) -> list[Task]:
        return self.stores[name].missing(PARTS[name].tasks(self.plan))

    def summarise(self, name: str) -> None:
        """Summarise a part if it is complete; the learning rates, once chosen, are part of the plan."""
        part = PARTS[name]
        tasks = part.tasks(self.plan)
        if not tasks or self.stores[name].missing(tasks):
            return
        rows = self.stores[name].frame(tasks)
        cost = {"measurements": len(rows), "seconds": round(float(rows["seconds"].sum()), 1)}
        self.summaries[name] = {**cost, **part.summarise(rows, self.plan)}
        if name == "rates":
            chosen = self.summaries[name]["editors"]
            self.plan.rates |= {editor: found["chosen"] for editor, found in chosen.items()}

    def write(self) -> Path | None:
        """Write what is complete."""
        if not self.summaries:
            return None
        ordered = {name: self.summaries[name] for name in PARTS if name in self.summaries}
        seconds = sum(found["seconds"] for found in ordered.values())
        return write_results("editing_benchmark", ordered, self.plan.options.seed, seconds)


def with_needs(names: Sequence[str]) -> list[str]:
    """The parts asked for and those they need, in order."""
    wanted = {*names, *(need for name in names for need in PARTS[name].needs)}
    return [name for name in PARTS if name in wanted]


class _Measurer:
    """Measures tasks of any part in one process."""

    def __init__(self, options: Options) -> None:
        self.bench = Bench(options)

    def measure(self, task: Task) -> Found:
        return PARTS[task["part"]].measure(self.bench, task)


def _labelled(text: str) -> tuple[str, str]:
    label, equals, file = text.partition("=")
    if not equals:
        sys.exit(
            f"--depths takes DEPTH=FILE, as in 1=runs/hypernetwork-1/hypernetwork-NAME.safetensors; got {text}"
        )
    return label, file


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in the other processes, so that rows do not depend on how many there are
    main()
