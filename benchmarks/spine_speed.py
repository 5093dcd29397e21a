"""Spine landmarks, timed: one 704 × 384 image through the cascade and through the heat-map network, and their memory.

    python -m benchmarks.spine_speed [--cascade NAME_OR_PATH] [--rounds N] [--threads N]

Writes results/spine_speed.json. A few minutes on two cores that do nothing else. All take turns, so that what else the
machine does hits all alike; speed-ups are of the calls of one turn. The heat-map network has the published input size,
widths and depths, but random weights: they take as long as trained ones. It is also timed without its normalisation
layers, since those of the published network can be folded into its convolutions once it is trained. Memory is the
largest resident size of a process of its own that does nothing else, and what of it the libraries alone need.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmarks.record import write_results
from workbench.data.phantom import phantom
from workbench.spine import Samples, SpineCascade
from workbench.spine.baselines import HeatmapDetector
from workbench.spine.baselines.heatmap import HeatmapSettings
from workbench.spine.views import Pyramid

#: What is compared: the cascade with and without the flipped image, and the heat-map network in three forms.
CASCADE, FLIPPED = "cascade", "cascade, flip-averaged"
PUBLISHED, FOLDED = "heat map 1024 x 512", "heat map 1024 x 512, no normalisation"
SMALL = "heat map 352 x 192"
METHODS = (CASCADE, FLIPPED, PUBLISHED, FOLDED, SMALL)

#: Calls before the clock runs, and images in the processes that memory is measured in.
_WARM_UP, _MEMORY_IMAGES = 2, 3


def main() -> None:
    """Measure and write; with ``--memory METHOD``, print what this process needed for one method instead."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cascade", default="phantom", help="a shipped cascade or a .safetensors file")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    image = _image(given.seed)
    if given.memory:
        print(json.dumps(_memory_here(given.memory, given.cascade, image)))
        return
    began = time.perf_counter()
    about = {
        "threads": given.threads,
        "rounds": given.rounds,
        "cascade": given.cascade,
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }
    results = about | _measure(given, image)
    print(write_results("spine_speed", results, given.seed, time.perf_counter() - began))


def _measure(given: argparse.Namespace, image: np.ndarray) -> dict[str, Any]:
    seconds = _take_turns({name: _call(name, given.cascade, image) for name in METHODS}, given.rounds)
    return {
        "milliseconds": {name: _spread([1000 * s for s in times]) for name, times in seconds.items()},
        "times_faster": _faster(seconds),
        "share_of_time": _shares(SpineCascade.load(given.cascade), image, given.rounds),
        "memory_mib": {name: _memory_of(name, given.cascade, given.threads) for name in METHODS},
    }


def _image(seed: int) -> np.ndarray:
    """A phantom in the frame, (704, 384), uint8."""
    drawn = phantom(seed, set_name="speed")
    return Samples.of([(drawn.image, drawn.corners)]).images[0].numpy()


def _call(name: str, cascade: str, image: np.ndarray) -> Callable[[], object]:
    """A function without arguments that predicts the image's landmarks."""
    if name in (CASCADE, FLIPPED):
        detector = SpineCascade.load(cascade)
        return lambda: detector.predict(image, flip_average=name == FLIPPED)
    heatmap = HeatmapDetector.untrained(HeatmapSettings() if name == SMALL else HeatmapSettings.published())
    if name == FOLDED:
        _drop_normalisation(heatmap.network)
    frames = torch.from_numpy(image)[None]
    return lambda: heatmap.predict_frames(frames)


def _drop_normalisation(network: nn.Module) -> None:
    for module in network.modules():
        for name, part in module.named_children():
            if isinstance(part, nn.GroupNorm):
                setattr(module, name, nn.Identity())


def _take_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(_WARM_UP + rounds):
        for name, call in calls.items():
            took = _timed(call)
            if turn >= _WARM_UP:
                seconds[name].append(took)
    return seconds


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _spread(values: list[float]) -> dict[str, float]:
    """Median, and where nine of ten values lie."""
    low, middle, high = np.percentile(values, [5, 50, 95])
    return {"median": round(float(middle), 2), "p5": round(float(low), 2), "p95": round(float(high), 2)}


def _faster(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """How many times faster both forms of the cascade are than the others, turn by turn."""
    return {
        f"{ours} against {theirs}": _spread((np.array(seconds[theirs]) / np.array(seconds[ours])).tolist())
        for ours in (CASCADE, FLIPPED)
        for theirs in (PUBLISHED, FOLDED, SMALL)
    }


def _shares(cascade: SpineCascade, image: np.ndarray, rounds: int) -> dict[str, float]:
    """Which shares of a prediction (not flip-averaged) go into pyramid, patches, networks, and all else.

    Patches are all that lies between the pyramid and what a network is given: where to look, and looking.
    """
    spent = {"pyramid": 0.0, "patches": 0.0, "networks": 0.0}
    with _clocks(cascade, spent):
        cascade.predict(image, flip_average=False)
        spent.update(dict.fromkeys(spent, 0.0))
        total = sum(_timed(lambda: cascade.predict(image, flip_average=False)) for _ in range(rounds))
    shares = {name: round(value / total, 4) for name, value in spent.items()}
    return shares | {"other": round(1 - sum(spent.values()) / total, 4)}


@contextmanager
def _clocks(cascade: SpineCascade, spent: dict[str, float]) -> Iterator[None]:
    """Let the pyramid, the stages' looks and their networks add to `spent` what they take."""
    stages: list[Any] = [*cascade.network.centre_stages, *cascade.network.corner_stages]
    places = [(Pyramid, "of", "pyramid"), *((stage, "look", "patches") for stage in stages)]
    places += [(stage.network, "forward", "networks") for stage in stages]
    with ExitStack() as stack:
        for owner, method, name in places:
            clocked = _clocked(getattr(owner, method), name, spent)
            stack.enter_context(mock.patch.object(owner, method, clocked))
        yield


def _clocked(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            spent[name] += time.perf_counter() - began

    return call


def _memory_here(name: str, cascade: str, image: np.ndarray) -> dict[str, float]:
    """Largest resident size so far, before and after a method is loaded and used."""
    before = _largest()
    call = _call(name, cascade, image)
    for _ in range(_MEMORY_IMAGES):
        call()
    return {"peak": _largest(), "libraries": before}


def _largest() -> float:
    """MiB. Not `ru_maxrss` where it can be helped: that starts at what the parent process had."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _memory_of(name: str, cascade: str, threads: int) -> dict[str, float]:
    """`_memory_here` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.spine_speed", "--memory", name]
    done = subprocess.run(
        [*command, "--cascade", cascade, "--threads", str(threads)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"own": round(found["peak"] - found["libraries"], 1)}


if __name__ == "__main__":
    main()
