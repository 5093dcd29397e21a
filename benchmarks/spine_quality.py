"""Spine landmarks, measured: the cascade by stage, its rivals and its ablations, on phantoms and on a projected CT.

    python -m benchmarks.spine_quality [--only cascade-0 heatmap …]

Fits what is not fitted yet, one method after the other, into runs/spine-benchmark (a fit cut short goes on where
it was; with --only just those named are fitted and nothing is written), then measures all on the same 200 clean and 200
hard phantoms that nobody was trained on, and on 40 projections of a real CT. Writes results/spine_quality.json. Means
have 95 % intervals, bootstrap over images; the cascade is trained with three seeds. About three hours of one core.

The heat-map network gets as much processor time as the first cascade took, the direct regression a quarter of it.
Angles are compared with those of the true landmarks. The ablations share the training phantoms and seed of cascade-0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor

from benchmarks.record import bootstrap_interval, write_results
from workbench.checkpoints import shipped_path
from workbench.data.drr import projections
from workbench.spine import (
    CascadeSettings,
    Samples,
    ShapeModel,
    SpineCascade,
    SpineEvaluation,
    evaluate,
    phantom_samples,
)
from workbench.spine.baselines import BASELINES, ORACLES
from workbench.spine.baselines import fit as fit_baseline
from workbench.spine.baselines import load as load_baseline
from workbench.spine.network import CascadeNetwork
from workbench.spine.training import CascadeTraining, limits_of
from workbench.spine.views import Pyramid

FOLDER = Path("runs/spine-benchmark")
TRAINING, TESTS, PROJECTIONS = 2400, 200, 40
SEEDS = (0, 1, 2)
TEST_SETS = ("clean", "hard", "ct")

#: Cascades that differ from cascade-0 in one thing. The first two train a first step of their own and go on with the
#: second step of cascade-0.
ABLATIONS: Mapping[str, dict[str, Any]] = {
    "no-pca": {"constrain": "none", "corner_stages": 0},
    "offset-pca": {"constrain": "offset", "corner_stages": 0},
    "one-step": {"points": "corners"},
}

#: Share of the first cascade's processor time that a baseline's network is given.
TIME_SHARES: Mapping[str, float] = {"heatmap": 1.0, "direct": 0.25}
#: Phantoms that the ridge cascade is fitted on: its features of all of them are in memory at once.
RIDGE_TRAINING = 600

#: Pixels of the frame by which a start near the truth is off.
NEAR = 20.0

#: What is given with an interval, by its name in `SpineEvaluation.to_frame`.
_FIGURES = ("nmse", "centre_nmse", "or20", "or40", "mean_frame_px", "smape", "cmae")
_RADII = (1, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 40)

#: What the command line says to leave out; it is named in the results.
LEFT_OUT: set[str] = set()

Predict = Callable[[Tensor], np.ndarray]


def main() -> None:
    """Fit, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*_fits()], help="fit these and stop")
    parser.add_argument("--without", nargs="+", default=[], choices=[*_fits()], help="leave these out")
    arguments = parser.parse_args()
    only = arguments.only
    LEFT_OUT.update(arguments.without)
    began = time.perf_counter()
    for name in only or _wanted(_fits()):
        _fits()[name]()
    if only:
        return
    sets = Parallel(n_jobs=2)(delayed(_measure_set)(name, frozenset(LEFT_OUT)) for name in TEST_SETS)
    results: dict[str, Any] = dict(zip(TEST_SETS, sets, strict=True))
    results["training"] = _training()
    print(write_results("spine_quality", results, seed=0, seconds=time.perf_counter() - began))


def _fits() -> dict[str, Callable[[], object]]:
    """Everything that is fitted, by name; each does nothing where it was done."""
    cascades = {f"cascade-{seed}": CascadeSettings(seed=seed) for seed in SEEDS}
    cascades |= {name: CascadeSettings(**changes) for name, changes in ABLATIONS.items()}
    fits: dict[str, Callable[[], object]] = {
        name: partial(_cascade, name, settings) for name, settings in cascades.items()
    }
    return fits | {name: partial(_baseline, name) for name in BASELINES}


def _wanted(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in LEFT_OUT]


def _cascade(name: str, settings: CascadeSettings) -> SpineCascade:
    folder = FOLDER / name
    training = phantom_samples("train", TRAINING, "mixed")
    run = CascadeTraining(training, settings, folder / "training.csv", folder / "state.pt", progress=True)
    return SpineCascade(run.run(), name=name)


def _seconds(name: str) -> float:
    """Processor time that a cascade took."""
    state = torch.load(FOLDER / name / "state.pt", weights_only=True)
    return float(state["done"]["seconds"])


def _baseline(name: str) -> Any:
    path = FOLDER / f"{name}.safetensors"
    if path.exists():
        return load_baseline(path)
    minutes = _seconds("cascade-0") / 60 * TIME_SHARES.get(name, 0)
    began = time.process_time()
    fitted = fit_baseline(
        name,
        phantom_samples("train", TRAINING, "mixed")[: RIDGE_TRAINING if name == "ridge" else TRAINING],
        seed=0,
        minutes=minutes or None,
        log=FOLDER / f"{name}.csv",
    )
    fitted.save(path, seed=0, seconds=round(time.process_time() - began, 1))
    return fitted


def _test_set(name: str) -> Samples:
    if name == "ct":
        return Samples.of((film.image, film.corners) for film in projections(PROJECTIONS))
    return phantom_samples("test", TESTS, name)  # type: ignore[arg-type]


def _measure_set(name: str, left_out: frozenset[str]) -> dict[str, Any]:
    """Everything about one set, in a process of its own."""
    LEFT_OUT.update(left_out)
    torch.set_num_threads(1)
    samples = _test_set(name)
    cascades = [_cascade(f"cascade-{seed}", CascadeSettings(seed=seed)) for seed in SEEDS]
    traces = [cascade.trace_frames(samples.images, flip_average=True) for cascade in cascades]
    names = _stage_names(cascades[0])
    seeds = [_evaluated(samples, trace[-1]) for trace in traces]
    return {
        "cascade": _summary(seeds) | {"by_seed": [_short(seed) for seed in seeds]},
        "cascade_without_flip": _summary(
            [_evaluated(samples, c.predict_frames(samples.images)) for c in cascades]
        ),
        "stages": {
            name: _summary([_evaluated(samples, trace[i]) for trace in traces])
            for i, name in enumerate(names)
        },
        "got_worse": _got_worse(samples, traces[0], names),
        "methods": {
            name: _summary([_evaluated(samples, p(samples.images))]) for name, p in _rivals().items()
        },
        "ablations": {
            name: _summary([_evaluated(samples, p(samples.images))])
            for name, p in _ablations(cascades[0]).items()
        },
        "oracles": _oracles(samples) | _started_near_truth(samples, cascades),
        "agreement": _agreement(seeds[0]),
    }


def _stage_names(cascade: SpineCascade) -> list[str]:
    settings = cascade.network.settings
    centres = [f"centres {i + 1}" for i in range(settings.centre_stages)]
    return ["start", *centres, *(f"corners {i + 1}" for i in range(settings.corner_stages))]


def _rivals() -> dict[str, Predict]:
    return {name: _baseline(name).predict_frames for name in _wanted(BASELINES)}


def _ablations(cascade: SpineCascade) -> dict[str, Predict]:
    """The cascades without one thing, and what can be left out of cascade-0 itself."""
    averaged: dict[str, SpineCascade] = {}
    for name in _wanted(ABLATIONS):
        found = _cascade(name, CascadeSettings(**ABLATIONS[name]))
        averaged[name] = (
            found if name == "one-step" else SpineCascade(_grafted(found.network, cascade.network))
        )
    averaged["joint-corners"] = SpineCascade(_joint(cascade.network))
    for count in range(1, cascade.network.settings.centre_stages):
        averaged[f"centre-stages-{count}"] = SpineCascade(_shortened(cascade.network, count))
    return {name: partial(one.predict_frames, flip_average=True) for name, one in averaged.items()}


def _grafted(first: CascadeNetwork, second: CascadeNetwork) -> CascadeNetwork:
    """The first step of one cascade and the second of another."""
    settings = replace(first.settings, corner_stages=second.settings.corner_stages)
    changed = CascadeNetwork(settings, first.shape, second.means)
    changed.centre_stages.extend(first.centre_stages)
    changed.corner_stages.extend(second.corner_stages)
    return changed.eval()


def _joint(network: CascadeNetwork) -> CascadeNetwork:
    """The same stages, with all 68 corners brought into a joint model after each stage of the second step."""
    settings = replace(network.settings, corner_pca="joint")
    corners = phantom_samples("train", TRAINING, "mixed").corners.double()
    shapes = (corners / torch.tensor([384.0, 704.0])).flatten(1).numpy()
    model = ShapeModel.fit(shapes, components=settings.joint_components)
    return _with(network, settings, network.settings.centre_stages, limits_of(model, settings.clamp))


def _shortened(network: CascadeNetwork, count: int) -> CascadeNetwork:
    """The same cascade with fewer stages in its first step."""
    return _with(network, replace(network.settings, centre_stages=count), count, None)


def _with(
    network: CascadeNetwork, settings: CascadeSettings, centre_stages: int, joint: Any
) -> CascadeNetwork:
    changed = CascadeNetwork(settings, network.shape, network.means, joint)
    changed.centre_stages.extend(network.centre_stages[:centre_stages])
    changed.corner_stages.extend(network.corner_stages)
    return changed.eval()


def _oracles(samples: Samples) -> dict[str, Any]:
    """How well limited answers that are told the truth could do at best."""
    if not torch.isfinite(samples.corners).all():
        return {}
    training = phantom_samples("train", TRAINING, "mixed")
    found = {}
    for name, kind in ORACLES.items():
        oracle = kind.fit(training)
        found[name] = _summary(
            [_evaluated(samples, oracle.predict_knowing(samples.corners.double().numpy()))]
        )
    return found


def _started_near_truth(samples: Samples, cascades: list[SpineCascade]) -> dict[str, Any]:
    """The cascades from the second stage on, started from the true centres moved down by half a vertebra or so.

    Told where the spine is, not where each vertebra ends: what is missed then is not the first stage's fault.
    """
    start = samples.corners.mean(2) + torch.tensor([0.0, NEAR])
    for k in range(1, start.shape[1]):  # beyond the last vertebra that is seen the spine goes on as before it
        unseen = ~torch.isfinite(start[:, k, 0])
        start[unseen, k] = (2 * start[:, k - 1] - start[:, k - 2])[unseen]
    found = []
    for cascade in cascades:
        corners = [
            cascade.network.trace(Pyramid.of(images), start=points)[-1].corners
            for images, points in zip(samples.images.split(16), start.split(16), strict=True)
        ]
        found.append(_evaluated(samples, torch.cat(corners).numpy()))
    return {"oracle-start": _summary(found)}


def _evaluated(samples: Samples, predicted: np.ndarray) -> SpineEvaluation:
    truth = samples.in_image(samples.corners.double().numpy())
    sizes = [(int(h), int(w)) for h, w in samples.sizes]
    return evaluate(list(samples.in_image(np.asarray(predicted, dtype=np.float64))), list(truth), sizes)


def _summary(evaluations: list[SpineEvaluation]) -> dict[str, Any]:
    """Means over images and seeds with intervals over images, distances by level, the detection curve."""
    frames = [evaluation.to_frame() for evaluation in evaluations]
    found: dict[str, Any] = {}
    for name in _FIGURES:
        values = np.mean([frame[name].to_numpy(dtype=float) for frame in frames], axis=0)
        values = values[np.isfinite(values)]
        found[name] = {
            "mean": _round(values.mean()),
            "interval": _interval(values),
            "median": _round(np.median(values)),
        }
    whole = [evaluation.summary() for evaluation in evaluations]
    others = ("level_shift_rate", "gate_rate", "same_branch", "mean_widths", "wedge_error")
    angles = [
        f"{kind}_{angle}" for kind in ("mae", "bias", "icc", "smape") for angle in ("an1", "an2", "an3")
    ]
    found |= {name: _round(np.mean([one[name] for one in whole])) for name in (*others, *angles)}
    found["level_errors"] = [
        _round(v) for v in np.mean([e.level_errors(frame=True) for e in evaluations], axis=0)
    ]
    found["within_px"] = {
        str(r): _round(v)
        for r, v in zip(
            _RADII, np.mean([e.detection_curve(_RADII) for e in evaluations], axis=0), strict=True
        )
    }
    found["centres_within_half_a_body"] = _round(np.mean([_near_centres(e) for e in evaluations]))
    return found


def _near_centres(evaluation: SpineEvaluation) -> float:
    """Share of visible vertebrae whose centre is found to within half of the body's height, in per cent."""
    truth = evaluation.truth
    heights = np.linalg.norm((truth[:, :, 2:] - truth[:, :, :2]).mean(2), axis=-1)
    apart = np.linalg.norm((evaluation.predicted - truth).mean(2), axis=-1)
    seen = np.isfinite(apart)
    return float(100 * (apart[seen] <= heights[seen] / 2).mean())


def _short(evaluation: SpineEvaluation) -> dict[str, Any]:
    summary = evaluation.summary()
    return {name: _round(summary[name]) for name in _FIGURES}


def _got_worse(samples: Samples, trace: list[np.ndarray], names: list[str]) -> dict[str, Any]:
    """Share of images whose landmark error a stage made larger, in per cent."""
    truth = samples.corners.double().numpy()
    errors = [np.nanmean(np.linalg.norm(stage - truth, axis=-1), axis=(1, 2)) for stage in trace]
    pairs = zip(names[1:], errors[1:], errors, strict=False)
    return {name: _round(100 * float((after > before).mean())) for name, after, before in pairs}


def _agreement(evaluation: SpineEvaluation) -> dict[str, list[list[float | None]]]:
    """The angles of each image, predicted and true, for the agreement plot."""
    return {
        "predicted": [[_round(v) for v in row] for row in evaluation.predicted_angles],
        "truth": [[_round(v) for v in row] for row in evaluation.truth_angles],
    }


def _training() -> dict[str, Any]:
    path = shipped_path("spine", "phantom")
    return {
        "phantoms": TRAINING,
        "cascade_seconds": {f"cascade-{seed}": round(_seconds(f"cascade-{seed}"), 1) for seed in SEEDS},
        "ablation_seconds": {name: round(_seconds(name), 1) for name in _wanted(ABLATIONS)},
        "time_shares": dict(TIME_SHARES),
        "ridge_phantoms": RIDGE_TRAINING,
        "left_out": sorted(LEFT_OUT),
        "shipped_bytes": path.stat().st_size if path.exists() else None,
    }


def _interval(values: np.ndarray) -> list[float | None]:
    """As `bootstrap_interval`, but with significant digits instead of decimals: the NMSE is small."""
    scale = 1.0 if not np.any(values) else float(np.abs(values).max())
    low, high = bootstrap_interval(list(values / scale))
    return [_round(low * scale), _round(high * scale)]


def _round(value: float | np.floating[Any]) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


if __name__ == "__main__":
    main()
