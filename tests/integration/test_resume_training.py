"""Meta-training in a process of its own that is killed, twice, and goes on as if nothing had happened."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ITERATIONS = 40

#: Arguments: folder for log, state and result. Images come slowly, so that a kill falls in the middle.
SCRIPT = f"""
import sys, time
from pathlib import Path

import conftest
from safetensors.torch import save_file
from workbench.editing import MetaTrainingSettings, train_hypernetwork
from workbench.editing.mask_search import SearchSettings

def images(iteration):
    time.sleep(0.05)
    return conftest.make_images(4, seed=iteration)

folder = Path(sys.argv[1])
settings = MetaTrainingSettings(
    iterations={ITERATIONS}, pairs=2, blocks=(1, 2), depth=1, learning_rate=1e-3,
    search=SearchSettings(inner_steps=2, outer_steps=2, inner_rate=1e-2),
)
trained = train_hypernetwork(
    conftest.build_vit(), images, settings, log=folder / "log.csv", state=folder / "state.pt", save_every=3,
    progress=False,
)
save_file(trained.network.state_dict(), folder / "network.safetensors")
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], env=environment)


def rows(folder: Path) -> list[dict[str, str]]:
    log = folder / "log.csv"
    if not log.exists():
        return []
    with log.open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def kill_after(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    """Kill the process, without a chance to tidy up, once the log has `count` rows."""
    deadline = time.monotonic() + 120
    while len(rows(folder)) < count:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = start(whole)
    for count in (8, 25):
        kill_after(start(killed), killed, count)
        state = torch.load(killed / "state.pt", weights_only=True)
        assert 0 < state["iteration"] <= len(rows(killed)) < ITERATIONS
        assert not (killed / "network.safetensors").exists()
    assert start(killed).wait(timeout=120) == 0
    assert uninterrupted.wait(timeout=120) == 0
    assert [float(row["iteration"]) for row in rows(whole)] == list(range(ITERATIONS))
    assert rows(killed) == rows(whole)
    mine, wanted = (load_file(folder / "network.safetensors") for folder in (killed, whole))
    assert mine.keys() == wanted.keys()
    assert all(torch.equal(mine[name], wanted[name]) for name in wanted)
