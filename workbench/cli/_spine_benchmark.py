"""Measuring a cascade on labelled radiographs, image by image, so that a run that is cut short goes on where it was."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.cli._spine_labels import open_phase, sound_rows
from workbench.data.aasce import AasceCase
from workbench.data.radiographs import Radiograph
from workbench.data.vertebrae import Corners
from workbench.errors import InvalidInputError
from workbench.files import write_json
from workbench.spine.cascade import SpineCascade
from workbench.spine.metrics import SpineEvaluation, cmae, evaluate, mae, smape
from workbench.spine.results import SpinePrediction

#: What angles are compared with, whatever else a folder holds.
ANGLE_TRUTH = "official angles of the labelled landmarks"

_IDENTITY = "identity.json"


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled radiograph.

    Args:
        name: For the table.
        read: Gives the image.
        corners: (17, 4, 2) in pixels of that image, as labelled.
        size: Height and width without padding: what the NMSE divides by.
        angles: Angles that came with the image in a file, where they did.
    """

    name: str
    read: Callable[[], Radiograph | np.ndarray]
    corners: Corners
    size: tuple[int, int]
    angles: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Cases:
    """Radiographs to measure on, what they are in words, and how many of their labels are doubtful."""

    cases: tuple[Case, ...]
    what: str
    doubtful: int = 0
    left_out: int = 0


def phantom_cases(count: int, level: str) -> Cases:
    """The first phantoms of the set "test", which no training sees."""
    from workbench.spine.samples import phantom_samples

    samples = phantom_samples("test", count, level, progress=sys.stderr.isatty())  # type: ignore[arg-type]  # checked inside
    corners, sizes = samples.corners.double().numpy(), samples.sizes.tolist()
    cases = [
        Case(f"test-{level}-{i:04d}", samples.images[i].numpy, corners[i], (sizes[i][0], sizes[i][1]))
        for i in range(len(samples))
    ]
    return Cases(tuple(cases), f"{count} {level} phantoms of the set test")


def labelled_cases(root: Path, phase_name: str, skip_problems: bool) -> Cases:
    """A phase of a folder in the AASCE layout, labels as they stand; doubtful ones are counted, or left out."""
    phase = open_phase(root, phase_name)
    bad = {problem.row for problem in phase.problems() if problem.row is not None}
    rows = sound_rows(phase, True) if skip_problems else range(len(phase))
    cases = tuple(_case(phase[row]) for row in rows)
    left_out = len(phase) - len(cases)
    return Cases(cases, f"phase {phase_name} of {root}", len(bad) - left_out, left_out)


def _case(case: AasceCase) -> Case:
    return Case(case.name, case.read, case.corners, case.size, case.angles)


def predict_all(model: SpineCascade, cases: Cases, folder: Path, flip: bool) -> list[SpinePrediction]:
    """Predictions of all cases, kept in a folder one by one; those that are there are not made again.

    Raises:
        InvalidInputError: the folder belongs to another cascade or other radiographs.
    """
    from tqdm.auto import tqdm

    _claim(folder, _identity(model, cases, flip))
    found = []
    for i, case in enumerate(tqdm(cases.cases, desc="radiographs", disable=not sys.stderr.isatty())):
        path = folder / f"{i:04d}.json"
        if not path.exists():
            model.predict(case.read(), flip_average=flip).save(path)
        found.append(SpinePrediction.load(path))  # as it was rounded, be it made now or before
    return found


def _identity(model: SpineCascade, cases: Cases, flip: bool) -> dict[str, Any]:
    truth = np.stack([case.corners for case in cases.cases])
    return {"cascade": weights_digest(model), "data": cases.what, "truth": _digest([truth]), "flip": flip}


def weights_digest(model: SpineCascade) -> str:
    """Which weights these are: 16 hexadecimal digits."""
    return _digest([value.numpy() for _, value in sorted(model.tensors().items())])


def _digest(arrays: Sequence[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[
        :16
    ]


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    path = folder / _IDENTITY
    if not path.exists():
        write_json(path, identity)
        return
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        kept = None
    if kept != identity:
        raise InvalidInputError(
            f"{folder} holds predictions of another cascade or other radiographs; delete it, or give another name "
            "with -o"
        )


def by_stage(cases: Cases, predictions: Sequence[SpinePrediction]) -> dict[str, SpineEvaluation]:
    """An evaluation of every stage, from the start to the last."""
    truth, sizes, names = zip(*((case.corners, case.size, case.name) for case in cases.cases), strict=True)
    stages = zip(*(prediction.stages for prediction in predictions), strict=True)
    return {stage[0].name: evaluate([one.corners for one in stage], truth, sizes, names) for stage in stages}


def report(cases: Cases, evaluations: dict[str, SpineEvaluation]) -> dict[str, Any]:
    """Everything that was measured, as plain values; null where there is nothing to compare."""
    last = list(evaluations.values())[-1]
    return plain(
        {
            "data": cases.what,
            "images": len(cases.cases),
            "doubtful_labels": cases.doubtful,
            "left_out": cases.left_out,
            "angle_truth": ANGLE_TRUTH,
            "stages": {name: evaluation.summary() for name, evaluation in evaluations.items()},
            "against_angles_csv": _against_file(cases, last),
            "by_image": last.to_frame().to_dict("records"),
        }
    )


def _against_file(cases: Cases, last: SpineEvaluation) -> dict[str, Any] | None:
    """The last stage's angles against those of the file, where every image has some there."""
    given = [case.angles for case in cases.cases if case.angles is not None]
    if len(given) < len(cases.cases):
        return None
    pair = last.predicted_angles, np.array(given)
    return {"smape": smape(*pair), "cmae": cmae(*pair), "mae": list(mae(*pair))}


def plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
