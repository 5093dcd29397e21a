"""Detectors to print beside the cascade: mean shape, ridge cascade, direct regression, heat map.

Each is fitted by `fit`, saved and loaded with a card, and turns frames into corners with `predict_frames`, looking at
nothing but the images. The oracles (`ORACLES`) do look at the truth: they say how well a limited class of answers could
do at best. Source: specification, sections 3.3 and 9.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from workbench.checkpoints import read_card
from workbench.errors import UnknownNameError
from workbench.spine.baselines._base import Baseline, Detector
from workbench.spine.baselines.heatmap import HeatmapDetector
from workbench.spine.baselines.mean_shape import MeanShape, ModeProjection, TranslatedMeanShape
from workbench.spine.baselines.regression import DirectRegression
from workbench.spine.baselines.ridge import RidgeCascade

if TYPE_CHECKING:
    from workbench.spine.samples import Samples

__all__ = [
    "BASELINES",
    "ORACLES",
    "Baseline",
    "Detector",
    "DirectRegression",
    "HeatmapDetector",
    "MeanShape",
    "ModeProjection",
    "RidgeCascade",
    "TranslatedMeanShape",
    "fit",
    "load",
]

#: The detectors by name, from the simplest on.
BASELINES: Mapping[str, type[Baseline]] = MappingProxyType(
    {kind.name: kind for kind in (MeanShape, RidgeCascade, DirectRegression, HeatmapDetector)}
)

#: What is told a part of the truth, by name: never compare it with a detector without saying so.
ORACLES: Mapping[str, type[TranslatedMeanShape] | type[ModeProjection]] = MappingProxyType(
    {kind.name: kind for kind in (TranslatedMeanShape, ModeProjection)}
)


def fit(
    name: str,
    samples: Samples,
    seed: int = 0,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    progress: bool = True,
    log: Path | None = None,
) -> Baseline:
    """Fit a baseline by name; arguments as in `Baseline.fit`.

    Raises:
        UnknownNameError: no baseline of that name; the message names the nearest.

    Example:
        >>> ridge = fit("ridge", phantom_samples("train", 300), seed=0)
        >>> ridge.predict_frames(phantom_samples("test", 2).images).shape
        (2, 17, 4, 2)
    """
    if name not in BASELINES:
        raise UnknownNameError("baseline", name, BASELINES)
    return BASELINES[name].fit(samples, seed=seed, minutes=minutes, epochs=epochs, progress=progress, log=log)


def load(path: str | Path) -> Baseline:
    """A saved baseline of any kind.

    Raises:
        CheckpointError: the file is damaged, or its card is missing or speaks of no known baseline.
    """
    name = read_card(Path(path).with_suffix(".json")).extra.get("baseline", "")
    if name not in BASELINES:
        raise UnknownNameError("baseline", name, BASELINES, hint=f"so says the card of {path}")
    return BASELINES[name].load(path)
