"""The stages of a cascade: each looks at images where the points are now, and says where they should go.

Points are in pixels of the frame. `CentreStage` moves all points of the first step at once, within a shape model;
`CornerStage` moves the four corners of each vertebra in its local frame. Source: specification, sections 2.3, 2.4, 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.vertebrae import VERTEBRAE
from workbench.spine.augmentation import Views, show
from workbench.spine.frames import FRAME
from workbench.spine.local_frames import LocalFrames
from workbench.spine.networks import GlobalNetwork, PointsNetwork, VertebraNetwork
from workbench.spine.settings import CascadeSettings
from workbench.spine.shape_model import BOX
from workbench.spine.views import Pyramid, lattice

#: The whole frame as the first stage sees it.
GLOBAL_SIZE = (176, 96)
_GLOBAL_WIDTHS = (32, 64, 128, 192)

#: Length of the mean spine and distance of neighbouring centres in pixels: they choose the level of the pyramid, for
#: all images alike, so that a prediction does not depend on what it is made together with.
_MEAN_LENGTH, _MEAN_UNIT = 610.0, 38.0

#: Sides of the patches around the points of the first step, by stage, as fractions of the spine's length: 128, 96 and
#: 64 pixels of the mean spine's 610.
_POINT_SIDES = (0.21, 0.157, 0.105)
_POINT_SIZE, _POINT_WIDTHS = (40, 40), (16, 32, 64)

#: The whole vertebra with half of each neighbour, in local units, and as the network sees it.
_CROP_SIDES, _CROP_SIZE, _CROP_WIDTHS = (3.2, 2.2), (48, 72), (16, 32, 64)

#: Sides of the patches around corners, by stage, in local units (a body is about 0.75 high).
_PATCH_SIDES = (0.75, 0.5)
_PATCH_SIZE, _PATCH_WIDTHS = (24, 24), (16, 32, 64)


class Limits(nn.Module):
    """A linear model of shapes or moves as a stage uses it: mean, basis, and how far each coefficient may go.

    Args:
        mean: (d,).
        basis: (d, K).
        limits: (K,): three standard deviations.
        ellipsoid: Mahalanobis radius, or zero for the box.
    """

    mean: Tensor
    basis: Tensor
    limits: Tensor
    ellipsoid: Tensor

    def __init__(self, mean: Tensor, basis: Tensor, limits: Tensor, ellipsoid: float = 0.0) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("basis", basis), ("limits", limits)):
            self.register_buffer(name, value.float())
        self.register_buffer("ellipsoid", torch.tensor(float(ellipsoid)))

    def project(self, shapes: Float[Tensor, "*n d"]) -> Float[Tensor, "*n k"]:
        """Coefficients of shapes."""
        return (shapes - self.mean) @ self.basis

    def reconstruct(self, coefficients: Float[Tensor, "*n k"]) -> Float[Tensor, "*n d"]:
        """Shapes with these coefficients."""
        return self.mean + coefficients @ self.basis.T

    def clamp(self, coefficients: Float[Tensor, "*n k"]) -> Float[Tensor, "*n k"]:
        """Coefficients within the limits."""
        if self.ellipsoid == 0:
            return torch.maximum(torch.minimum(coefficients, self.limits), -self.limits)
        norm = (coefficients / (self.limits / BOX)).norm(dim=-1, keepdim=True)
        return coefficients * (self.ellipsoid / norm.clamp_min(1e-9)).clamp_max(1)

    def constrain(self, shapes: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The nearest shapes of the model, within its limits."""
        return self.reconstruct(self.clamp(self.project(shapes)))


def normalise(points: Float[Tensor, "n p 2"]) -> Float[Tensor, "n d"]:
    """Points of the frame as shape vectors: x / 384, y / 704, point by point."""
    return (points / _frame_size(points)).flatten(1)


def denormalise(shapes: Float[Tensor, "n d"]) -> Float[Tensor, "n p 2"]:
    """Shape vectors as points of the frame."""
    points = shapes.reshape(len(shapes), -1, 2)
    return points * _frame_size(points)


@dataclass(frozen=True)
class Move:
    """What a stage says: where the points go, and the coefficients of the step (moves, or whole shapes)."""

    points: Tensor
    coefficients: Tensor


class CentreStage(nn.Module):
    """One stage of the first step: 17 centres (or, as an ablation, 68 corners) at once.

    Args:
        index: 0 looks at the whole frame, the others at patches.
        settings: The cascade's.
        points: How many points.
        limits: The shape model (``constrain="shape"``) or a model of this stage's moves (``"offset"``).
        scale: Standard deviations of the moves it has to make: of coefficients, or of coordinates for ``"none"``.
    """

    scale: Tensor

    def __init__(
        self, index: int, settings: CascadeSettings, points: int, limits: Limits, scale: Tensor
    ) -> None:
        super().__init__()
        self.index, self.constraint = index, settings.constrain
        self.limits = limits
        self.register_buffer("scale", scale.float())
        self.network: nn.Module
        if index == 0:
            self.network = GlobalNetwork(GLOBAL_SIZE, _GLOBAL_WIDTHS, len(scale))
        else:
            self.network = PointsNetwork(points, _POINT_SIZE, _POINT_WIDTHS, len(scale))

    def look(self, views: Views, pyramid: Pyramid, points: Float[Tensor, "n p 2"]) -> Tensor:
        """What the network sees: the whole frame, or a patch around each point."""
        if self.index == 0:
            return show(views, pyramid, GLOBAL_SIZE)
        spine = (
            points if points.shape[1] == VERTEBRAE else points.reshape(len(points), VERTEBRAE, 4, 2).mean(2)
        )
        length = (spine[:, 1:] - spine[:, :-1]).norm(dim=-1).sum(1)
        side = of_stage(_POINT_SIDES, self.index) * length
        grid = points[:, :, None, None] + side[:, None, None, None, None] * lattice(*_POINT_SIZE)
        spacing = of_stage(_POINT_SIDES, self.index) * _MEAN_LENGTH / _POINT_SIZE[0]
        return views.sample(pyramid, grid, spacing)

    def forward(self, seen: Tensor, points: Float[Tensor, "n p 2"]) -> Move:
        """Move points, by what was seen at them."""
        shapes = normalise(points)
        if self.index == 0:
            change = self.network(seen) * self.scale
        else:
            change = self.network(seen, self._standardised(shapes)) * self.scale
        if self.constraint == "none":
            return Move(denormalise(shapes + change), change)
        if self.constraint == "offset":
            return Move(denormalise(shapes + self.limits.reconstruct(self.limits.clamp(change))), change)
        coefficients = self.limits.clamp(self.limits.project(shapes) + change)
        return Move(denormalise(self.limits.reconstruct(coefficients)), change)

    def _standardised(self, shapes: Tensor) -> Tensor:
        return (shapes.reshape(len(shapes), -1, 2) - 0.5) * 4


class CornerStage(nn.Module):
    """One stage of the second step: the four corners of each vertebra, in its local frame.

    Args:
        index: 0 looks at the whole vertebra, the others at a patch around each corner.
        settings: The cascade's.
        means: Mean corners of each level in local coordinates, (17, 8).
        limits: Model of how a vertebra's corners differ from its level's mean.
        scale: Standard deviations of the coefficients of the moves, (K,), or (8,) where the stage is free.
    """

    means: Tensor
    scale: Tensor

    def __init__(
        self, index: int, settings: CascadeSettings, means: Tensor, limits: Limits, scale: Tensor
    ) -> None:
        super().__init__()
        self.index = index
        self.free = settings.free_last and index == settings.corner_stages - 1
        self.limits = limits
        self.register_buffer("means", means.float())
        self.register_buffer("scale", scale.float())
        outputs = 8 if self.free else limits.basis.shape[1]
        if index == 0:
            self.network = VertebraNetwork(1, _CROP_SIZE, _CROP_WIDTHS, outputs, settings.neighbours)
        else:
            self.network = VertebraNetwork(4, _PATCH_SIZE, _PATCH_WIDTHS, outputs, settings.neighbours)

    def look(
        self, views: Views, pyramid: Pyramid, frames: LocalFrames, corners: Float[Tensor, "n 17 8"]
    ) -> Float[Tensor, "n 17 patches h w"]:
        """What the network sees of each vertebra: all of it, or a patch around each corner as it is now."""
        if self.index == 0:
            local = (lattice(*_CROP_SIZE) * torch.tensor(_CROP_SIDES))[None].expand(
                VERTEBRAE, 1, *_CROP_SIZE, 2
            )
            local = local.expand(len(pyramid), *local.shape)
            spacing = _CROP_SIDES[1] / _CROP_SIZE[0]
        else:
            side = of_stage(_PATCH_SIDES, self.index)
            places = corners.reshape(*corners.shape[:2], 4, 1, 1, 2)
            local = places + side * lattice(*_PATCH_SIZE)
            spacing = side / _PATCH_SIZE[0]
        return views.sample(pyramid, frames.to_image(local), spacing * _MEAN_UNIT)

    def forward(self, seen: Tensor, corners: Float[Tensor, "n 17 8"]) -> Move:
        """Move corners, in local coordinates, by what was seen."""
        change = self.network(seen, (corners - self.means) * 5) * self.scale
        if self.free:
            return Move(corners + change, change)
        deviation = self.limits.clamp(self.limits.project(corners - self.means) + change)
        return Move(self.means + self.limits.reconstruct(deviation), change)


def of_stage(values: tuple[float, ...], index: int) -> float:
    """The value of a patch stage (1, 2, …); the last is kept for stages beyond."""
    return values[min(index, len(values)) - 1]


def _frame_size(like: Tensor) -> Tensor:
    return torch.tensor([FRAME[1], FRAME[0]], dtype=like.dtype, device=like.device)
