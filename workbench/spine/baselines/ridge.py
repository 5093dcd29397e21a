"""A cascade of ridge regressions on gradient histograms: the same two steps as the CNN cascade, without deep learning.

Four stages move the 17 centres within a linear shape model, three move the corners of each vertebra in its local
frame, one regressor for all levels. Every stage adds what a linear map reads off the features at the current points
(supervised descent). Stages start from the mean, never from the truth. Source: specification, sections 2.5 and 9.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from workbench.data.vertebrae import VERTEBRAE
from workbench.spine.baselines._base import SCALE, Baseline, check_frames
from workbench.spine.baselines._closed_form import Ridge
from workbench.spine.baselines._vertebra_shapes import VertebraShapes
from workbench.spine.baselines.gradients import FeatureMaps
from workbench.spine.local_frames import LocalFrames
from workbench.spine.shape_model import ShapeModel

if TYPE_CHECKING:
    from workbench.spine.samples import Samples

#: Distance of the feature grids' points in pixels of the frame, stage by stage. Those of the centres are wider than the
#: specification's 22 to 6, for films that show more than the spine.
CENTRE_STEPS = (44.0, 24.0, 13.0, 7.0)
CORNER_STEPS = (6.0, 4.0, 3.0)


class RidgeCascade(Baseline):
    """Four ridge regressions for the centres and three for the corners, on gradient histograms.

    Args:
        shapes: Model of the normalised centres x1, y1, x2, y2, …
        vertebrae: Model of a vertebra's corners in its local frame.
        centre_stages: One map for each of `CENTRE_STEPS`.
        corner_stages: One map for each of `CORNER_STEPS`.
    """

    name: ClassVar[str] = "ridge"

    def __init__(
        self,
        shapes: ShapeModel,
        vertebrae: VertebraShapes,
        centre_stages: tuple[Ridge, ...],
        corner_stages: tuple[Ridge, ...],
    ) -> None:
        self.shapes, self.vertebrae = shapes, vertebrae
        self.centre_stages, self.corner_stages = centre_stages, corner_stages

    @classmethod
    def fit(
        cls,
        samples: Samples,
        *,
        seed: int = 0,
        minutes: float | None = None,
        epochs: int | None = None,
        progress: bool = True,
        log: Path | None = None,
    ) -> RidgeCascade:
        """Fit stage after stage in closed form: `minutes` and `epochs` change nothing.

        The log has one row a stage: the errors in normalised units squared (NMSE over the frame) on the images
        fitted on and on those held out.
        """
        from workbench.spine.baselines._ridge_fitting import fit_stages

        return cls(*fit_stages(samples, seed, progress, log))

    def predict_frames(self, images: UInt8[Tensor, "n 704 384"]) -> Float[np.ndarray, "n 17 4 2"]:
        """Corners in pixels of the frame."""
        found = [self._predict(image) for image in check_frames(images).numpy()]
        return np.stack(found) if found else np.empty((0, VERTEBRAE, 4, 2))

    def _predict(self, image: UInt8[np.ndarray, "704 384"]) -> Float[np.ndarray, "17 4 2"]:
        """Corners in one image."""
        maps = {step: FeatureMaps.of(image, step) for step in {*CENTRE_STEPS, *CORNER_STEPS}}
        state = np.zeros((1, self.shapes.components))
        for step, ridge in zip(CENTRE_STEPS, self.centre_stages, strict=True):
            change = ridge(centre_features(maps[step], self.shapes, state))
            state = self.shapes.clamp(state + change)
        return self._corners(maps, centres_at(self.shapes, state))[0]

    def _corners(
        self, maps: Mapping[float, FeatureMaps], centres: Float[np.ndarray, "starts 17 2"]
    ) -> Float[np.ndarray, "starts 17 4 2"]:
        frames = LocalFrames.of(torch.from_numpy(centres))
        state = np.zeros((len(centres), VERTEBRAE, self.vertebrae.modes))
        for step, ridge in zip(CORNER_STEPS, self.corner_stages, strict=True):
            points = corners_at(frames, self.vertebrae, state)
            change = ridge(corner_features(maps[step], points, turns(frames), state))
            state = self.vertebrae.clamp(state + change.reshape(state.shape))
        return corners_at(frames, self.vertebrae, state)

    def tensors(self) -> dict[str, Tensor]:
        """The models and the maps."""
        arrays = {
            "shapes.mean": self.shapes.mean,
            "shapes.basis": self.shapes.basis,
            "shapes.variances": self.shapes.variances,
            "vertebrae.mean": self.vertebrae.mean,
            "vertebrae.basis": self.vertebrae.basis,
            "vertebrae.variances": self.vertebrae.variances,
        }
        for kind, stages in (("centres", self.centre_stages), ("corners", self.corner_stages)):
            for t, ridge in enumerate(stages):
                arrays |= {f"{kind}.{t}.weight": ridge.weight, f"{kind}.{t}.bias": ridge.bias}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    def extra(self) -> dict[str, Any]:
        """The grids' steps."""
        return {"centre_steps": list(CENTRE_STEPS), "corner_steps": list(CORNER_STEPS)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> RidgeCascade:
        """From the models and the maps."""
        if extra["centre_steps"] != list(CENTRE_STEPS) or extra["corner_steps"] != list(CORNER_STEPS):
            raise ValueError("its feature grids have other steps than this version's; fit it anew")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}

        def stages(kind: str, count: int) -> tuple[Ridge, ...]:
            return tuple(
                Ridge(arrays[f"{kind}.{t}.weight"], arrays[f"{kind}.{t}.bias"]) for t in range(count)
            )

        return cls(
            ShapeModel(*(arrays[f"shapes.{part}"] for part in ("mean", "basis", "variances"))),
            VertebraShapes(*(arrays[f"vertebrae.{part}"] for part in ("mean", "basis", "variances"))),
            stages("centres", len(CENTRE_STEPS)),
            stages("corners", len(CORNER_STEPS)),
        )


def centres_at(shapes: ShapeModel, state: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n 17 2"]:
    """Centres in pixels of the frame, from coefficients."""
    return shapes.reconstruct(state).reshape(*state.shape[:-1], VERTEBRAE, 2) * SCALE


def centre_features(
    maps: FeatureMaps, shapes: ShapeModel, state: Float[np.ndarray, "starts k"]
) -> Float[np.ndarray, "starts features"]:
    """What is seen around all centres, and where they are: one row a start."""
    points = centres_at(shapes, state)
    seen = maps.at(points.reshape(-1, 2)).reshape(len(state), -1)
    return np.concatenate([seen, state / np.sqrt(shapes.variances)], 1).astype(np.float32)


def corners_at(
    frames: LocalFrames, vertebrae: VertebraShapes, state: Float[np.ndarray, "*n 17 modes"]
) -> Float[np.ndarray, "*n 17 4 2"]:
    """Corners in pixels of the frame, from coefficients; the local frames are those of all n, in a row."""
    local = torch.from_numpy(vertebrae.reconstruct(state).reshape(-1, VERTEBRAE, 4, 2))
    points: np.ndarray = frames.to_image(local).numpy()
    return points.reshape(*state.shape[:-1], 4, 2)


def turns(frames: LocalFrames) -> Float[np.ndarray, "n 17"]:
    """Angle of each local frame in radians, clockwise on screen."""
    return torch.atan2(frames.across[..., 1], frames.across[..., 0]).numpy()


def corner_features(
    maps: FeatureMaps,
    points: Float[np.ndarray, "starts 17 4 2"],
    turned: Float[np.ndarray, "starts 17"],
    state: Float[np.ndarray, "starts 17 modes"],
) -> Float[np.ndarray, "rows features"]:
    """What is seen around the corners of each vertebra, its level and its coefficients: one row a vertebra.

    Args:
        maps: Of the image.
        points: The corners.
        turned: Angle of each vertebra's local frame: grids and orientations turn with it.
        state: Coefficients of the corners in the local frames.
    """
    rows = len(points) * VERTEBRAE
    seen = maps.at(points.reshape(-1, 2), np.repeat(turned.reshape(-1), 4)).reshape(rows, -1)
    level = np.tile(np.eye(VERTEBRAE), (len(points), 1))
    return np.concatenate([seen, level, state.reshape(rows, -1)], 1).astype(np.float32)
