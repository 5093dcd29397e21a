"""What every baseline is: fitted on samples, it turns frames into corners, and is saved with a card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from workbench.checkpoints import Card, load_checkpoint, save_checkpoint
from workbench.data.vertebrae import flip_corners
from workbench.errors import CheckpointError, InvalidInputError
from workbench.spine.frames import FRAME

if TYPE_CHECKING:
    from workbench.spine.samples import Samples

#: The kind that cards of baselines carry.
KIND = "spine-baseline"

#: Points over this are normalised: x over the frame's width, y over its height.
SCALE = np.array([FRAME[1], FRAME[0]], dtype=np.float64)


class Detector(Protocol):
    """Anything that finds the corners in frames without knowing them: the baselines and the cascade."""

    def predict_frames(self, images: UInt8[Tensor, "n 704 384"]) -> Float[np.ndarray, "n 17 4 2"]:
        """Corners in pixels of the frame."""
        ...


class Baseline(ABC):
    """A detector to print beside the cascade.

    A baseline is made by `fit` (or by `restore`, from a file) and not changed afterwards.
    """

    #: The name in the registry.
    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(
        cls,
        samples: Samples,
        *,
        seed: int = 0,
        minutes: float | None = None,
        epochs: int | None = None,
        progress: bool = True,
        log: Path | None = None,
    ) -> Baseline:
        """Fit on training samples.

        Args:
            samples: Frames and their corners, all vertebrae there.
            seed: Of everything random.
            minutes: Time to train for. How many steps fit in depends on the machine, so that two runs differ.
            epochs: Passes to train for instead: the same seed then gives the same weights.
            progress: Show a progress bar.
            log: CSV file of the run.

        Raises:
            InvalidInputError: no samples, or some with missing vertebrae; both `minutes` and `epochs`.
            TrainingDivergedError: a loss is not finite.
        """

    @abstractmethod
    def predict_frames(self, images: UInt8[Tensor, "n 704 384"]) -> Float[np.ndarray, "n 17 4 2"]:
        """Corners in pixels of the frame; nothing but the images is looked at."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What a file of this baseline holds."""

    @abstractmethod
    def extra(self) -> dict[str, Any]:
        """What its card must say so that `restore` can rebuild it."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> Baseline:
        """Rebuild from `tensors` and `extra`; raises KeyError, RuntimeError or ValueError where they do not fit."""

    def save(
        self,
        path: str | Path,
        *,
        command: str = "",
        seed: int = 0,
        metrics: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> Path:
        """Write ``<path>.safetensors`` and its card, and return the former's path.

        Args:
            path: Where; the suffix is put right.
            command: What made it, for the card.
            seed: The seed it was fitted with.
            metrics: What it was measured at.
            seconds: How long fitting took.
        """
        card = Card(
            name=Path(path).stem,
            kind=KIND,
            description=(type(self).__doc__ or "").strip().splitlines()[0],
            command=command,
            seed=seed,
            settings={},
            metrics=dict(metrics or {}),
            extra={"baseline": self.name, **self.extra()},
            seconds=seconds,
        )
        return save_checkpoint(path, self.tensors(), card)

    @classmethod
    def load(cls, path: str | Path) -> Baseline:
        """Read a file that `save` wrote.

        Raises:
            CheckpointError: the file is damaged, its card is missing, or it holds another baseline.
        """
        tensors, card = load_checkpoint(KIND, Path(path).with_suffix(".safetensors"))
        if card.extra.get("baseline") != cls.name:
            raise CheckpointError(
                f"{path} holds the baseline {card.extra.get('baseline')!r}, not {cls.name!r}; "
                "workbench.spine.baselines.load takes any"
            )
        try:
            return cls.restore(tensors, card.extra)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} does not fit its own card: {error}") from error


def check_frames(images: Tensor) -> Tensor:
    """The images, if they are frames: uint8 (n, 704, 384); raises `InvalidInputError` otherwise."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or tuple(images.shape[1:]) != FRAME:
        found = (
            f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        )
        raise InvalidInputError(
            f"images are {found}; expected a uint8 tensor (n, {FRAME[0]}, {FRAME[1]}): "
            "put radiographs into the frame with workbench.spine.frames.Frame"
        )
    return images


def check_samples(samples: Samples) -> Float[np.ndarray, "n 17 4 2"]:
    """Corners of training samples as float64; raises `InvalidInputError` where they cannot be fitted on."""
    check_frames(samples.images)
    corners = samples.corners.double().numpy()
    if len(corners) == 0:
        raise InvalidInputError("there are no samples to fit on; give at least one")
    if not np.isfinite(corners).all():
        bad = np.flatnonzero(~np.isfinite(corners).all((1, 2, 3)))
        raise InvalidInputError(
            f"{len(bad)} of {len(corners)} samples lack vertebrae (the first is number {bad[0]}); "
            "baselines are fitted on samples with all 17"
        )
    return corners


def with_mirrored(corners: Float[np.ndarray, "n 17 4 2"]) -> Float[np.ndarray, "m 17 4 2"]:
    """Corners in the frame, and after them those of the mirror images."""
    return np.concatenate([corners, flip_corners(corners, FRAME[1])])
