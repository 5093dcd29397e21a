"""All stages of a cascade in a row: from images in the frame to the landmarks after every stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.vertebrae import VERTEBRAE
from workbench.errors import CheckpointError
from workbench.spine.augmentation import PlainViews, Views
from workbench.spine.local_frames import LocalFrames
from workbench.spine.settings import CascadeSettings
from workbench.spine.stages import CentreStage, CornerStage, Limits, denormalise, normalise
from workbench.spine.views import Pyramid


@dataclass(frozen=True)
class State:
    """Landmarks of n images after a stage, in pixels of the frame.

    Args:
        step: Which step moved them.
        centres: (n, 17, 2).
        corners: (n, 17, 4, 2).
    """

    step: Literal["start", "centres", "corners"]
    centres: Float[Tensor, "n 17 2"]
    corners: Float[Tensor, "n 17 4 2"]


class CascadeNetwork(nn.Module):
    """A cascade: the start, the stages of both steps, and what the second step needs to know of vertebrae.

    Args:
        settings: How it is built.
        shape: Model of the first step's points; its mean is the start.
        means: Mean corners of each level in local coordinates, (17, 8).
        joint: Model of all corners, for ``corner_pca="joint"``.
    """

    means: Tensor

    def __init__(
        self, settings: CascadeSettings, shape: Limits, means: Tensor, joint: Limits | None = None
    ) -> None:
        super().__init__()
        self.settings, self.shape = settings, shape
        self.register_buffer("means", means.float())
        self.joint = joint
        self.centre_stages, self.corner_stages = nn.ModuleList(), nn.ModuleList()

    @torch.inference_mode()
    def trace(
        self, pyramid: Pyramid, views: Views | None = None, start: Float[Tensor, "n p 2"] | None = None
    ) -> list[State]:
        """Landmarks at the start and after every stage that is there.

        Args:
            pyramid: The images.
            views: How they are looked at; as they are where None.
            start: Points of the first step in the frame, from which the second stage goes on; where None the first
                stage goes on from the mean shape.
        """
        views = views or PlainViews()
        points = denormalise(self.shape.mean[None]).expand(len(pyramid), -1, 2) if start is None else start
        states = [self._state("start", points)]
        for stage in list(self.centre_stages)[0 if start is None else 1 :]:
            assert isinstance(stage, CentreStage)
            points = stage(stage.look(views, pyramid, points), points).points
            states.append(self._state("centres" if self._two_steps else "corners", points))
        if self.corner_stages:
            states += self._corner_states(pyramid, views, points)
        return states

    @torch.inference_mode()
    def corners_of(self, pyramid: Pyramid, centres: Float[Tensor, "n 17 2"]) -> Float[Tensor, "n 17 4 2"]:
        """The second step alone, from these centres."""
        states = self._corner_states(pyramid, PlainViews(), centres)
        return states[-1].corners if states else self._state("centres", centres).corners

    @property
    def _two_steps(self) -> bool:
        return self.settings.points == "centres"

    def _corner_states(self, pyramid: Pyramid, views: Views, centres: Tensor) -> list[State]:
        frames = LocalFrames.of(centres)
        local = self.means.expand(len(centres), -1, -1)
        states = []
        for stage in self.corner_stages:
            assert isinstance(stage, CornerStage)
            local = stage(stage.look(views, pyramid, frames, local), local).points
            corners = frames.to_image(local.reshape(len(local), VERTEBRAE, 4, 2))
            if self.joint is not None:
                corners = self._joined(corners)
                local = frames.to_local(corners).flatten(2)
            states.append(State("corners", corners.mean(2), corners))
        return states

    def _joined(self, corners: Tensor) -> Tensor:
        assert self.joint is not None
        shapes = self.joint.constrain(normalise(corners.flatten(1, 2)))
        return denormalise(shapes).reshape(corners.shape)

    def _state(self, step: Literal["start", "centres", "corners"], points: Tensor) -> State:
        if not self._two_steps:
            corners = points.reshape(len(points), VERTEBRAE, 4, 2)
            return State(step, corners.mean(2), corners)
        local = self.means.expand(len(points), -1, -1).reshape(len(points), VERTEBRAE, 4, 2)
        return State(step, points, LocalFrames.of(points).to_image(local))

    @classmethod
    def of_tensors(cls, settings: CascadeSettings, tensors: Mapping[str, Tensor]) -> CascadeNetwork:
        """A network from what `state_dict` gave; the sizes of its parts are those of the tensors.

        Raises:
            CheckpointError: tensors are missing, left over, or of other shapes.
        """
        try:
            joint = _limits(tensors, "joint.", 8 * VERTEBRAE) if settings.corner_pca == "joint" else None
            points = VERTEBRAE * (1 if settings.points == "centres" else 4)
            shape = _limits(tensors, "shape.", 2 * points)
            network = cls(settings, shape, tensors["means"], joint)
            for i in range(settings.centre_stages):
                prefix = f"centre_stages.{i}."
                limits, scale = _limits(tensors, prefix + "limits."), tensors[prefix + "scale"]
                network.centre_stages.append(CentreStage(i, settings, points, limits, scale))
            for i in range(settings.corner_stage_count):
                prefix = f"corner_stages.{i}."
                limits, scale = _limits(tensors, prefix + "limits."), tensors[prefix + "scale"]
                network.corner_stages.append(CornerStage(i, settings, tensors["means"], limits, scale))
            network.load_state_dict(dict(tensors))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"these tensors are not a cascade with such settings: {error}") from error
        return network.eval()


def _limits(tensors: Mapping[str, Tensor], prefix: str, length: int | None = None) -> Limits:
    mean, basis, limits = (tensors[prefix + name] for name in ("mean", "basis", "limits"))
    if basis.shape != (length or len(mean), len(limits)) or mean.shape != basis.shape[:1]:
        raise ValueError(f"{prefix}basis is {tuple(basis.shape)}, {prefix}mean {tuple(mean.shape)}")
    return Limits(mean, basis, limits, float(tensors[prefix + "ellipsoid"]))
