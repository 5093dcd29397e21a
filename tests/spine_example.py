"""One phantom, a shape model of drawn spines, and a prediction that gets nearer to the truth at every stage."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from workbench.data.phantom import Phantom, draw_geometry, phantom
from workbench.data.vertebrae import Centres, Corners, centres_of
from workbench.figures.spine_modes import laid_on
from workbench.spine.frames import Frame
from workbench.spine.quality import quality_flags
from workbench.spine.results import SpinePrediction, Stage
from workbench.spine.shape_model import ShapeModel

#: Shares of the way from the start to the truth after each stage.
CENTRES, CORNERS = (0.6, 0.85, 0.95), (0.7, 0.9, 1.0)


@lru_cache(maxsize=4)
def film(index: int = 0) -> Phantom:
    return phantom(index, set_name="tests")


@lru_cache(maxsize=1)
def shape_model() -> ShapeModel:
    """Of forty spines in the frame, as fractions of its width and height."""
    rng = np.random.default_rng(1)
    shapes = []
    for _ in range(40):
        centres = draw_geometry(rng).centres
        placed = (centres - centres.mean(0)) * 600 / np.ptp(centres[:, 1]) + [192, 352] + rng.normal(0, 8, 2)
        shapes.append((placed / [384, 704]).ravel())
    return ShapeModel.fit(np.array(shapes), variance=0.99)


def prediction(of: Phantom, noise: float = 1.0, seed: int = 0) -> SpinePrediction:
    """Three stages of centres, the second with mode 3 at its limit, and three of corners, `noise` px off at the end."""
    model, size = shape_model(), (of.image.shape[0], of.image.shape[1])
    frame, rng = Frame.of(size), np.random.default_rng(seed)
    wanted = model.project((frame.forward(centres_of(of.corners)) / [384, 704]).ravel())
    stages = [_centre_stage("start", model, wanted * 0, frame)]
    for i, share in enumerate(CENTRES):
        coefficients = model.clamp(wanted * share)
        if i == 1:
            coefficients[3] = 3 * np.sqrt(model.variances[3])
        stages.append(_centre_stage(f"centres {i + 1}", model, coefficients, frame))
    last = stages[-1].corners
    for i, share in enumerate(CORNERS):
        off = rng.normal(0, noise, (17, 1, 2)) + rng.normal(0, noise / 2, (17, 4, 2))
        corners = last + share * (of.corners - last) + off
        stages.append(Stage(f"corners {i + 1}", "corners", centres_of(corners), corners))
    return SpinePrediction(tuple(stages), size, quality_flags(corners, size), None, "example")


def _centre_stage(name: str, model: ShapeModel, coefficients: np.ndarray, frame: Frame) -> Stage:
    centres: Centres = frame.inverse(model.reconstruct(coefficients).reshape(17, 2) * [384, 704])
    clamped = tuple(int(k) for k in np.flatnonzero(model.clamped(coefficients)))
    step = "start" if name == "start" else "centres"
    return Stage(name, step, centres, laid_on(centres), coefficients, clamped)  # type: ignore[arg-type]


class Cascade:
    """Stands in for a detector: lays a vertebra on every centre, and remembers what it was asked."""

    def __init__(self) -> None:
        self.shape_model, self.asked = shape_model(), []

    def refine(self, image: np.ndarray, centres: Centres, levels: list[int] | None = None) -> Corners:
        self.asked.append((image, levels))
        corners = laid_on(centres)
        if levels is not None:
            corners[[k for k in range(17) if k not in levels]] = np.nan
        return corners
