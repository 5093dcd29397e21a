"""The detector: a trained cascade that takes a radiograph of any size and gives landmarks in its own pixels.

Nothing is known of the image but its pixels: the start is the mean of the training shapes in the frame, never a box
from labels (as the group's published evaluation has it; specification, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from workbench.checkpoints import Card, load_checkpoint, save_checkpoint
from workbench.data.radiographs import Radiograph, from_array
from workbench.data.vertebrae import LEVELS, VERTEBRAE, Centres, Corners, flip_corners
from workbench.errors import CheckpointError, InvalidInputError, UnknownNameError
from workbench.spine.frames import FRAME, Frame
from workbench.spine.network import CascadeNetwork, State
from workbench.spine.quality import QualityFlag, quality_flags
from workbench.spine.results import SpinePrediction, Stage
from workbench.spine.settings import CascadeSettings
from workbench.spine.shape_model import BOX, ShapeModel
from workbench.spine.stages import normalise
from workbench.spine.views import Pyramid

#: Where the prediction and that of the flipped image lie apart by more than this share of the vertebrae's width, on
#: average, neither is to be trusted.
UNSTEADY = 0.25

#: Radiographs that are predicted together.
_BATCH = 16


class SpineCascade:
    """Finds 17 centres, then 68 corners, stage by stage. Research use, not for diagnosis.

    Args:
        network: A trained network.
        card: How it was trained, where it was loaded from a file.
        name: What predictions say they were made by.

    Example:
        >>> cascade = SpineCascade.load("phantom")
        >>> prediction = cascade.predict(read_radiograph("spine.png"))
        >>> prediction.corners, prediction.angles(), prediction.flags
    """

    def __init__(self, network: CascadeNetwork, card: Card | None = None, name: str = "cascade") -> None:
        self.network, self.card, self.name = network.eval(), card, name

    @classmethod
    def load(cls, name_or_path: str | Path) -> SpineCascade:
        """A shipped cascade by name, or one from a ``.safetensors`` file with its card beside it.

        Raises:
            UnknownNameError: no shipped cascade has this name.
            CheckpointError: the file is damaged, of another kind, or does not fit its card.
        """
        tensors, card = load_checkpoint("spine", name_or_path)
        try:
            settings = CascadeSettings.from_dict(card.settings)
        except (UnknownNameError, InvalidInputError, TypeError) as error:
            raise CheckpointError(
                f"the card of cascade {name_or_path} has settings that are none: {error}"
            ) from error
        network = CascadeNetwork.of_tensors(settings, {k: v.float() for k, v in tensors.items()})
        return cls(network, card, card.name)

    def save(self, path: str | Path, card: Card) -> Path:
        """Write weights in half precision, shape models in single, and the card; returns the weights' path."""
        return save_checkpoint(path, self.tensors(), replace(card, settings=self.network.settings.to_dict()))

    def tensors(self) -> dict[str, Tensor]:
        """The network's tensors as they are saved; none shares memory with another."""
        state = self.network.state_dict()
        learned = {name for name, _ in self.network.named_parameters()}
        return {name: value.half() if name in learned else value.clone() for name, value in state.items()}

    @property
    def shape_model(self) -> ShapeModel:
        """Model of the first step's points: x / 384, y / 704 in the frame, point by point."""
        shape = self.network.shape
        mean, basis, limits = (part.double().numpy() for part in (shape.mean, shape.basis, shape.limits))
        return ShapeModel(mean, basis, (limits / BOX) ** 2)

    def predict(
        self,
        image: Radiograph | np.ndarray | Tensor,
        *,
        flip_average: bool = True,
        start: Centres | None = None,
    ) -> SpinePrediction:
        """Landmarks of one radiograph of any size, in its own pixels.

        Args:
            image: A radiograph, or an array (H, W), (1, H, W) or (3, H, W); see `radiographs.from_array`.
            flip_average: Average with the prediction of the flipped image, mirrored back: steadier, for twice the time;
                where the two disagree the result is flagged ``"unsteady"``.
            start: Centres (17, 2) in pixels of the original image, drawn by hand or by another detector: the first
                stage, which finds the spine in the whole image, is left out. None: only the image is looked at.

        Raises:
            InvalidInputError: not an image, not a radiograph, or a start that is not 17 finite points.

        Example:
            >>> line = np.linspace(first_centre, last_centre, 17)  # T1 and L5, by hand
            >>> cascade.predict(film, start=line)
        """
        radiograph = image if isinstance(image, Radiograph) else from_array(image)
        frame = Frame.of((radiograph.pixels.shape[0], radiograph.pixels.shape[1]))
        framed = (frame.image(radiograph.pixels) * 255).round().clamp(0, 255).to(torch.uint8)
        images = torch.stack([framed, framed.flip(1)]) if flip_average else framed[None]
        points = None if start is None else self._start(start, frame, radiograph, flip_average)
        states = self.network.trace(Pyramid.of(images), start=points)
        merged = [(_merged if flip_average else _single)(state) for state in states]
        stages = self._stages(states, merged, frame, radiograph, first=1 if start is None else 2)
        flags = quality_flags(stages[-1].corners, radiograph.size)
        if flip_average:
            flags += _steadiness(states[-1], merged[-1][1])
        return SpinePrediction(stages, radiograph.size, flags, radiograph.spacing_mm, self.name)

    def predict_frames(
        self, images: UInt8[Tensor, "n 704 384"], *, flip_average: bool = False
    ) -> Float[np.ndarray, "n 17 4 2"]:
        """Corners of images that are in the frame already, in pixels of the frame."""
        return self.trace_frames(images, flip_average=flip_average)[-1]

    def trace_frames(
        self, images: UInt8[Tensor, "n 704 384"], *, flip_average: bool = False
    ) -> list[Float[np.ndarray, "n 17 4 2"]]:
        """Corners after every stage of images that are in the frame already, in pixels of the frame."""
        parts = []
        for batch in images.split(_BATCH):
            stages = [state.corners.numpy() for state in self.network.trace(Pyramid.of(batch))]
            if flip_average:
                mirrored = self.network.trace(Pyramid.of(batch.flip(2)))
                turned = [flip_corners(state.corners.numpy(), FRAME[1]) for state in mirrored]
                stages = [(a + b) / 2 for a, b in zip(stages, turned, strict=True)]
            parts.append(stages)
        return [np.concatenate(stage) for stage in zip(*parts, strict=True)]

    def refine(
        self, image: Radiograph | np.ndarray | Tensor, centres: Centres, levels: Sequence[int] | None = None
    ) -> Corners:
        """The second step alone: corners around given centres.

        Args:
            image: As for `predict`.
            centres: (17, 2) in pixels of the original image.
            levels: Whose corners are wanted, 0-based; the others come back as NaN. None: all.

        Raises:
            InvalidInputError: centres of another shape, not finite, or a level that is none; or the cascade moves all
                corners at once and has no second step.
        """
        if self.network.settings.points != "centres":
            raise InvalidInputError(
                f"{self} has no second step, which refines corners around centres; use predict"
            )
        radiograph = image if isinstance(image, Radiograph) else from_array(image)
        points = _checked_centres(centres)
        wanted = range(VERTEBRAE) if levels is None else levels
        if bad := [k for k in wanted if not 0 <= k < VERTEBRAE]:
            raise InvalidInputError(
                f"level {bad[0]} is none; levels are 0 ({LEVELS[0]}) to 16 ({LEVELS[-1]})"
            )
        frame = Frame.of((radiograph.pixels.shape[0], radiograph.pixels.shape[1]))
        framed = (frame.image(radiograph.pixels) * 255).round().clamp(0, 255).to(torch.uint8)
        there = torch.from_numpy(frame.forward(radiograph.from_original(points))).float()[None]
        found = self.network.corners_of(Pyramid.of(framed[None]), there)[0].numpy()
        corners = np.full((VERTEBRAE, 4, 2), np.nan)
        corners[list(wanted)] = radiograph.to_original(frame.inverse(found))[list(wanted)]
        return corners

    def _start(self, start: Centres, frame: Frame, radiograph: Radiograph, flip: bool) -> Tensor:
        """Given centres in the frame, and in the flipped one."""
        if self.network.settings.points != "centres":
            raise InvalidInputError("this cascade moves corners in one step; it cannot start from centres")
        points = frame.forward(radiograph.from_original(_checked_centres(start)))
        mirrored = points * [-1, 1] + [FRAME[1] - 1, 0]
        return torch.from_numpy(np.stack([points, mirrored] if flip else [points])).float()

    def _stages(
        self,
        states: list[State],
        merged: list[tuple[Any, Any]],
        frame: Frame,
        radiograph: Radiograph,
        first: int,
    ) -> tuple[Stage, ...]:
        """Stages in pixels of the original image; `first` is the number of the first centre stage that was run."""
        model = self.shape_model
        stages, counts = [], {"start": 0, "centres": first - 1, "corners": 0}
        for state, (centres, corners) in zip(states, merged, strict=True):
            counts[state.step] += 1
            points = centres if len(model.mean) == 2 * VERTEBRAE else corners.reshape(-1, 2)
            coefficients = model.project(normalise(torch.from_numpy(points)[None]).numpy()[0])
            clamped = (
                () if state.step == "start" else tuple(np.flatnonzero(model.clamped(coefficients)).tolist())
            )
            stages.append(
                Stage(
                    "start" if state.step == "start" else f"{state.step} {counts[state.step]}",
                    state.step,
                    radiograph.to_original(frame.inverse(centres)),
                    radiograph.to_original(frame.inverse(corners)),
                    coefficients,
                    clamped,
                )
            )
        return tuple(stages)

    def __repr__(self) -> str:
        settings = self.network.settings
        return f"SpineCascade({self.name}: {settings.centre_stages} + {settings.corner_stage_count} stages)"


def _checked_centres(centres: Centres) -> Centres:
    points = np.asarray(centres, dtype=np.float64)
    if points.shape != (VERTEBRAE, 2) or not np.isfinite(points).all():
        found = f"these are {points.shape}" if np.isfinite(points).all() else "some of these are not finite"
        raise InvalidInputError(
            f"centres must be 17 finite points (17, 2), {found}; give those that are not seen by guess"
        )
    return points


def _single(state: State) -> tuple[np.ndarray, np.ndarray]:
    return state.centres[0].double().numpy(), state.corners[0].double().numpy()


def _merged(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a prediction and that of the flipped image, mirrored back."""
    corners = state.corners.double().numpy()
    centres = state.centres.double().numpy()
    mirrored = centres[1] * [-1, 1] + [FRAME[1] - 1, 0]
    return (centres[0] + mirrored) / 2, (corners[0] + flip_corners(corners[1], FRAME[1])) / 2


def _steadiness(state: State, corners: np.ndarray) -> tuple[QualityFlag, ...]:
    """A flag for the levels at which an image and its mirror image are not told the same."""
    apart = 2 * np.linalg.norm(state.corners[0].double().numpy() - corners, axis=-1).mean(1)
    width = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=-1)
    levels = tuple(np.flatnonzero(apart > UNSTEADY * np.maximum(width, 1e-6)).tolist())
    if not levels:
        return ()
    names = ", ".join(LEVELS[k] for k in levels)
    text = f"The image and its mirror image disagree about {names} by more than {UNSTEADY:.0%} of the width."
    return (QualityFlag("unsteady", levels, text),)
