"""What every results file says about itself: command, seed, versions, hardware, date."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.checkpoints import versions
from workbench.files import write_json

RESULTS = Path(__file__).parent.parent / "results"


def write_results(name: str, results: dict[str, Any], seed: int, seconds: float) -> Path:
    """Write ``results/<name>.json``: the results and where they come from."""
    record = {
        "name": name,
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": _revision(),
        "seed": seed,
        "seconds": round(seconds, 1),
        "versions": versions(),
        "hardware": {"processor": _processor(), "cores": os.cpu_count()},
        "results": results,
    }
    return write_json(RESULTS / f"{name}.json", record)


def bootstrap_interval(
    values: Sequence[float], groups: Sequence[object] | None = None, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """95 % percentile interval of the mean; whole groups are drawn where they are given."""
    array = np.asarray(values, dtype=float)
    random = np.random.default_rng(seed)
    if groups is None:
        means = array[random.integers(len(array), size=(draws, len(array)))].mean(axis=1)
    else:
        labels = np.asarray([str(g) for g in groups])
        members = [array[labels == g] for g in sorted(set(labels))]
        sums, counts = np.array([m.sum() for m in members]), np.array([len(m) for m in members])
        picks = random.integers(len(members), size=(draws, len(members)))
        means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def _revision() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
