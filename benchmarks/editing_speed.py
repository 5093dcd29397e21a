"""Editing, timed against the published procedure: one edit, its evaluation, many evaluations, one mask search.

    python -m benchmarks.editing_speed [--only PART …] [--rounds N] [--images N] [--reference-images N] [--threads N]

Writes results/editing_speed.json; with --only it prints the parts asked for and writes nothing. ViT-B/16 at 224 px with
random weights. Both sides take turns on the same inputs, so that what else the machine does hits both alike; speed-ups
are of the calls of one turn. The reference is benchmarks/published_procedure.py. Its evaluations are linear in the
images and the same for every edit: they are timed on --reference-images and scaled, which the results say. Memory is
the largest resident size of a process of its own less what it had before the model was built. Beside each time stands
its floor: the operations that are needed at all over the rate of fp32 matrix products of the same shapes, measured in
the same turns. Where there is a CUDA device everything is measured there too, with the prefix in float32 and bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import published_procedure as published
from benchmarks._editing_flops import Needs
from benchmarks.record import write_results
from workbench.editing import (
    BinaryMask,
    Change,
    Edit,
    Editor,
    EditRequest,
    EditSettings,
    EditSpace,
    Judge,
    RandomMask,
)
from workbench.editing.losses import distillation
from workbench.editing.mask_search import SearchSettings, samples_within, search_masks
from workbench.editing.meta_training import SEARCH_MEMORY
from workbench.models import PrefixCache, SplitViT, fingerprint

PARTS = ("edit", "evaluate", "many", "search", "memory")

#: Density of the mask, and whether every layer is computed as the full model does.
EDITS = {
    "density 0.1": (0.1, False),
    "density 0.05": (0.05, False),
    "density 1": (1.0, False),
    "density 0.1, exact": (0.1, True),
}

MEMORY_TASKS = ("edit", "evaluate", "search")

#: A step that leaves the loss above zero for all of the edit's updates; the published 2e-5 would not on random weights.
_RATE = 1e-6

#: Bytes of tokens in memory, by device: on a processor fewer than the images have, so that they are read from a file.
_CACHE_BUDGET = {"cpu": 128 << 20, "cuda": 4 << 30}

#: Images of the processes that evaluation's memory is measured in; with more it stays the same.
_MEMORY_IMAGES = 256


def main() -> None:
    """Measure and write; with ``--memory CASE``, print what this process needed for one side instead."""
    options = _options()
    torch.set_num_threads(options.threads)
    if options.memory:
        print(_memory_here(options))
        return
    began, parts = time.perf_counter(), options.only or PARTS
    results: dict[str, Any] = {
        "model": "ViT-B/16, 224 px, random weights",
        "threads": options.threads,
        "rounds": options.rounds,
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }
    results |= Bench(options, torch.device("cpu")).measure(parts)
    if "memory" in parts:
        results["memory_mib"] = _memory(options)
    if torch.cuda.is_available():
        results["cuda"] = {"device": torch.cuda.get_device_name()}
        for dtype in (None, torch.bfloat16):
            bench = Bench(options, torch.device("cuda"), dtype)
            name = "float32 prefix" if dtype is None else "bfloat16 prefix"
            results["cuda"][name] = bench.measure(parts)
    if options.only:
        print(json.dumps(results, indent=1))
    else:
        print(write_results("editing_speed", results, options.seed, time.perf_counter() - began))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, help="measure these, print them and write nothing"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="updates of an edit")
    parser.add_argument("--images", type=int, default=1000, help="that an edit is evaluated on")
    parser.add_argument(
        "--reference-images", type=int, default=128, help="of them for the reference, then scaled"
    )
    parser.add_argument("--edits", type=int, default=20, help="evaluated over the same images")
    parser.add_argument("--pairs", type=int, default=8, help="of a mask search")
    parser.add_argument("--inner-steps", type=int, default=2)
    parser.add_argument("--outer-steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    return parser.parse_args()


@dataclass(frozen=True)
class Turns:
    """Seconds of both sides and operations a second of plain matrix products, turn by turn; and the last results."""

    reference: list[float]
    workbench: list[float]
    rates: list[float]
    theirs: Any
    ours: Any

    def summary(self, needed: int, scale: float = 1.0) -> dict[str, Any]:
        """Both times, how many times faster, and the floor; the reference's seconds are multiplied by `scale`."""
        theirs, ours = scale * np.array(self.reference), np.array(self.workbench)
        rate = float(np.median(self.rates))
        floor = needed / rate
        return {
            "reference_seconds": _spread(theirs),
            "workbench_seconds": _spread(ours),
            "times_faster": _spread(theirs / ours),
            "needed_gflop": round(needed / 1e9, 1),
            "matrix_gflop_per_second": round(rate / 1e9, 1),
            "floor_seconds": round(floor, 4),
            "share_of_floor": round(floor / float(np.median(ours)), 3),
        }


class Sides(NamedTuple):
    """The same task, as published and as the workbench does it."""

    reference: Callable[[], Any]
    workbench: Callable[[], Any]


class Bench:
    """Everything that is measured on one device, over the same model and images."""

    def __init__(
        self, options: argparse.Namespace, device: torch.device, prefix_dtype: torch.dtype | None = None
    ) -> None:
        self.options, self.device, self.prefix_dtype = options, device, prefix_dtype
        self.model: Any = _model(options.seed).to(device)
        self.space = EditSpace.of(self.model)
        self.needs = Needs.of(self.model, self.space)
        self.split = SplitViT(self.model, self.space.blocks[0], pooled_only=True, prefix_dtype=prefix_dtype)
        self.images = Images(options.images, options.seed)
        self.some = Images(options.reference_images, options.seed)

    def measure(self, parts: Sequence[str]) -> dict[str, Any]:
        """Results of the parts asked for, by part."""
        measures = {
            "edit": lambda: {name: self.edit(*case) for name, case in EDITS.items()},
            "evaluate": self.evaluate,
            "many": self.evaluate_many,
            "search": self.search,
        }
        return {part: measure() for part, measure in measures.items() if part in parts}

    def edit(self, density: float, exact: bool) -> dict[str, Any]:
        """One edit of a fixed number of steps; the mask is given, so that the hypernetwork has no part in it."""
        turns = self.take_turns(self.edit_sides(density, exact))
        theirs, edit = turns.theirs, turns.ours.edit
        differences = [
            float((theirs.state[f"{a}.weight"].detach() - w).abs().max())
            for a, w in edit.weights(self.model).items()
        ]
        return turns.summary(self.needs.edit(self.mask(density), self.options.steps)) | {
            "steps": {"reference": theirs.steps, "workbench": turns.ours.steps},
            "largest_change_of_a_weight": max(float(c.delta.abs().max()) for c in edit.changes.values()),
            "largest_difference_of_a_weight": max(differences),
        }

    def edit_sides(self, density: float, exact: bool = False) -> Sides:
        """An edit towards the class that comes second."""
        mask, steps = self.mask(density), self.options.steps
        gates = {
            f"{a}.weight": self.space.gate(mask.bits.to(self.device, torch.float32), a)
            for a in self.space.addresses
        }
        image = Images(1, self.options.seed + 1).tensor()
        target = self.split(image).topk(2).indices[:, 1]
        request, on_device = EditRequest(image, int(target)), image.to(self.device)
        settings = EditSettings(learning_rate=_RATE, max_steps=steps, stop_loss=0.0)
        editor = Editor(self.model, mask, settings, exact, None if exact else self.prefix_dtype)
        return Sides(
            lambda: published.edit(self.model, on_device, target, gates, _RATE, steps, stop_loss=0.0),
            lambda: editor.edit(request, record=False),
        )

    def evaluate(self) -> dict[str, Any]:
        """One edit over all images; tokens and the unedited model's predictions are known."""
        with self.judge() as judge:
            edit = self.random_edit(self.options.seed)
            judge.changed(edit)
            turns = self.take_turns(Sides(self.published_evaluation(edit), lambda: judge.changed(edit)))
            found, before = judge.predictions(edit, self.some), judge.before[: len(self.some)]
        after, unedited = (theirs.cpu() for theirs in turns.theirs)
        needed, scale = len(self.images) * self.needs.forward, len(self.images) / len(self.some)
        return turns.summary(needed, scale) | {
            "images": len(self.images),
            "reference": f"measured on {len(self.some)} images, scaled in proportion",
            "changed_predictions": int(turns.ours.sum()),
            "compared_predictions": 2 * len(self.some),
            "different_predictions": int((found != after).sum()) + int((before != unedited).sum()),
        }

    def evaluate_many(self) -> dict[str, Any]:
        """Several edits over all images, from nothing; the reference does the same thing anew for each."""
        edits = [self.random_edit(self.options.seed + i) for i in range(self.options.edits)]

        def from_nothing() -> list[int]:
            with self.judge() as judge:
                return [int(judge.changed(edit).sum()) for edit in edits]

        turns = self.take_turns(Sides(self.published_evaluation(edits[0]), from_nothing), rounds=1)
        needed = len(self.images) * (self.needs.prefix + (1 + len(edits)) * self.needs.forward)
        return turns.summary(needed, len(edits) * len(self.images) / len(self.some)) | {
            "images": len(self.images),
            "edits": len(edits),
            "reference": f"measured on {len(self.some)} images and one edit, scaled in proportion",
            "changed_predictions": turns.ours,
        }

    def published_evaluation(self, edit: Edit) -> Callable[[], Any]:
        """The reference's evaluation, on some of the images; the edited state is there already."""
        edited = {f"{a}.weight": w for a, w in edit.weights(self.model).items()}
        state = {name: edited.get(name, p).detach().clone() for name, p in self.model.named_parameters()}
        return lambda: published.evaluate(self.model, state, (batch.to(self.device) for batch in self.some))

    @contextmanager
    def judge(self) -> Iterator[Judge]:
        """A judge that starts from nothing, with files of its own."""
        with tempfile.TemporaryDirectory() as folder:
            cache = PrefixCache(_CACHE_BUDGET[self.device.type], Path(folder))
            yield Judge(self.model, self.images, cache, prefix_dtype=self.prefix_dtype)

    def search(self) -> dict[str, Any]:
        """One iteration of meta-training without the hypernetwork's own steps, which are the same on both sides."""
        o = self.options
        turns = self.take_turns(self.search_sides())
        difference = (turns.theirs - turns.ours).abs()
        return turns.summary(o.pairs * self.needs.search(o.inner_steps, o.outer_steps)) | {
            "pairs": o.pairs,
            "inner_steps": o.inner_steps,
            "outer_steps": o.outer_steps,
            "together": samples_within(SEARCH_MEMORY, self.space.weights(self.model)),
            "labels": difference.numel(),
            "largest_difference_of_a_label": float(difference.max()),
            "labels_that_differ_by_more_than_1e-5": int((difference > 1e-5).sum()),
        }

    def search_sides(self) -> Sides:
        """Labels of pairs of a clean image and another; how they were mixed makes no difference here."""
        o = self.options
        hosts, mixed = (Images(o.pairs, o.seed + 2 + i).tensor().to(self.device) for i in range(2))
        generator = torch.Generator().manual_seed(o.seed)
        start = (torch.rand(o.pairs, *self.space.shape, generator=generator) * 2 - 1).to(self.device)
        names = tuple(f"{a}.weight" for a in self.space.addresses)
        settings = SearchSettings(inner_steps=o.inner_steps, outer_steps=o.outer_steps)
        steps = (o.inner_steps, o.outer_steps)
        return Sides(
            lambda: published.search_labels(
                self.model, hosts, mixed, start, names, *steps, price=o.pairs * settings.price
            ),
            lambda: self.labels(hosts, mixed, start, settings),
        )

    def labels(self, hosts: Tensor, mixed: Tensor, start: Tensor, settings: SearchSettings) -> Tensor:
        """Labels as meta-training finds them: clean predictions, tokens, features, and the search in groups."""
        split, base = self.split, self.space.weights(self.model)
        with torch.no_grad():
            clean = split(hosts)
        tokens = split.prefix(mixed)
        split.class_token(tokens)  # the hypernetwork's input

        def group(tokens: Tensor, clean: Tensor, start: Tensor) -> Tensor:
            losses = lambda weights: distillation(clean, split.tail(tokens, weights))  # noqa: E731
            return search_masks(losses, base, self.space, start, settings).labels

        together = samples_within(SEARCH_MEMORY, base)
        parts = zip(*(t.split(together) for t in (tokens, clean, start)), strict=True)
        return torch.cat([group(*part) for part in parts])

    def mask(self, density: float, seed: int | None = None) -> BinaryMask:
        """Units drawn at random."""
        where = RandomMask(1 - density, self.options.seed if seed is None else seed)
        return where.choose(self.split, self.space, torch.empty(0), torch.empty(0))

    def random_edit(self, seed: int) -> Edit:
        """A tenth of the units moved at random, far enough to change predictions."""
        mask, generator = self.mask(0.1, seed), torch.Generator().manual_seed(seed)
        changes = {}
        for a in self.space.addresses:
            rows = mask.rows(a)
            delta = 0.05 * torch.randn(len(rows), self.space.width, generator=generator)
            changes[a] = Change(self.space.axis(a), rows, delta)
        return Edit(fingerprint(self.model), changes)

    def take_turns(self, sides: Sides, rounds: int | None = None) -> Turns:
        """Both sides by turns, as often as the options say."""
        reference, workbench, rates = [], [], []
        for _ in range(rounds or self.options.rounds):
            rates.append(self.matrix_rate())
            theirs, took = self.timed(sides.reference)
            reference.append(took)
            ours, took = self.timed(sides.workbench)
            workbench.append(took)
        return Turns(reference, workbench, rates, theirs, ours)

    def timed(self, call: Callable[[], Any]) -> tuple[Any, float]:
        """What a call gives, and its seconds."""
        self._wait()
        began = time.perf_counter()
        found = call()
        self._wait()
        return found, time.perf_counter() - began

    def matrix_rate(self, repeats: int = 20) -> float:
        """Operations a second of a feed-forward network's two products for one image, in float32."""
        n = self.needs
        inputs = [torch.randn(n.tokens, size, device=self.device) for size in (n.width, n.units)]
        weights = [
            torch.randn(*size, device=self.device) for size in ((n.units, n.width), (n.width, n.units))
        ]

        def products() -> None:
            for x, weight in zip(inputs, weights, strict=True):
                F.linear(x, weight)

        took = [self.timed(products)[1] for _ in range(repeats)]
        return 4 * n.tokens * n.width * n.units / float(np.median(took))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Images:
    """Coarse coloured noise, made again whenever it is gone through, `batch_size` images at a time."""

    def __init__(self, count: int, seed: int, batch_size: int = 64) -> None:
        self.count, self.seed, self.batch_size = count, seed, batch_size

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, self.count, self.batch_size):
            end = min(start + self.batch_size, self.count)
            batch = torch.empty(end - start, 3, 224, 224)
            for place, i in enumerate(range(start, end)):
                batch[place] = _noise(self.seed * 1_000_003 + i)
            yield batch

    def tensor(self) -> Tensor:
        """All of them."""
        return torch.cat(list(self))


def _noise(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    fine = torch.rand(1, 3, 224, 224, generator=generator)
    return (0.8 * F.interpolate(coarse, size=(224, 224), mode="bilinear") + 0.2 * fine)[0]


def _model(seed: int) -> nn.Module:
    import timm

    torch.manual_seed(seed)
    return timm.create_model("vit_base_patch16_224", pretrained=False).eval().requires_grad_(False)


def _spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Median and extremes: there are few values."""
    return {
        name: round(float(value), 4)
        for name, value in (("median", np.median(values)), ("low", np.min(values)), ("high", np.max(values)))
    }


def _memory(options: argparse.Namespace) -> dict[str, Any]:
    """What each task needs on each side, MiB beside the libraries, and the workbench's share."""
    found = {}
    for task in MEMORY_TASKS:
        own = {side: _memory_of(f"{task} {side}", options) for side in Sides._fields}
        found[task] = own | {"share": round(own["workbench"] / own["reference"], 3)}
    return found


def _memory_of(case: str, options: argparse.Namespace) -> float:
    """`_memory_here` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.editing_speed", "--memory", case]
    sizes = ["--threads", str(options.threads), "--pairs", str(options.pairs), "--seed", str(options.seed)]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _memory_here(options: argparse.Namespace) -> float:
    """MiB that this process has had at most, beyond what it had before the model was built.

    Two steps of an edit, or of a search's inner loop, need as much as many.
    """
    task, side = options.memory.split()
    options.steps, options.inner_steps, options.outer_steps = 2, 2, 1
    options.images = options.reference_images = _MEMORY_IMAGES
    before = _resident("VmRSS")
    bench = Bench(options, torch.device("cpu"))
    if task == "evaluate":
        edit = bench.random_edit(options.seed)
        with bench.judge() as judge:
            judge.changed(edit) if side == "workbench" else bench.published_evaluation(edit)()
    else:
        sides = bench.edit_sides(0.1) if task == "edit" else bench.search_sides()
        getattr(sides, side)()
    return round(_resident("VmHWM") - before, 1)


def _resident(field: str) -> float:
    """MiB: the resident size now (VmRSS) or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


if __name__ == "__main__":
    main()
