"""Measurements as rows in a file, so that a stopped run goes on where it was, and the processes that make them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.editing.row_log import RowLog, row_key

#: What is measured, as plain values: it says everything that the outcome depends on, the weights aside.
Task = dict[str, Any]

#: What was found, as plain values.
Found = Mapping[str, Any]


class RowStore:
    """Rows of one part of a benchmark, known by what was measured and on which weights.

    Args:
        path: The file, one JSON object a line.
        base: What stands for the weights: fingerprints of the model and of the hypernetwork.
    """

    def __init__(self, path: Path, base: str) -> None:
        self.log, self.base = RowLog(path), base

    def missing(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks that have no row yet."""
        return [task for task in tasks if self._key(task) not in self.log]

    def add(self, task: Task, found: Found) -> None:
        """Write a row."""
        self.log.append(self._key(task), {**task, **found})

    def frame(self, tasks: Sequence[Task]) -> pd.DataFrame:
        """The rows of tasks, in their order; those that are missing are left out."""
        keys = [self._key(task) for task in tasks]
        return pd.DataFrame([self.log[key] for key in keys if key in self.log])

    def _key(self, task: Task) -> str:
        return row_key({"base": self.base, "task": task})


def run_tasks(
    tasks: Sequence[Task], workers: int, setup: Callable[..., Any], arguments: Sequence[Any]
) -> Iterator[tuple[Task, Found]]:
    """Measure tasks, in any order, in processes of one thread each.

    Args:
        tasks: What to measure.
        workers: Processes; 1 measures in this one.
        setup: ``setup(*arguments)`` gives the object whose ``measure(task)`` does it; called once a process.
        arguments: Of `setup`; they travel to the processes.
    """
    if workers == 1:
        bench = setup(*arguments)
        for task in tasks:
            yield task, _timed(bench, task)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start, (setup, tuple(arguments))) as pool:
        yield from pool.imap_unordered(_measure, tasks)


_BENCH: Any = None


def _start(setup: Callable[..., Any], arguments: Sequence[Any]) -> None:
    global _BENCH
    import torch

    torch.set_num_threads(1)
    _BENCH = setup(*arguments)


def _measure(task: Task) -> tuple[Task, Found]:
    return task, _timed(_BENCH, task)


def _timed(bench: Any, task: Task) -> Found:
    began = time.perf_counter()
    found = bench.measure(task)
    return {**found, "seconds": round(time.perf_counter() - began, 3)}
