"""What a stage is trained on: the error of where it moves points to, from starts drawn from residuals.

Source: specification, section 2.3; the weight of the mid-lines, which the angles are made of, follows section 6.3.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from workbench.spine.augmentation import RandomViews
from workbench.spine.local_frames import LocalFrames
from workbench.spine.network import CascadeNetwork
from workbench.spine.residuals import INFLATION, Residuals, started
from workbench.spine.stages import CentreStage, CornerStage, denormalise, normalise
from workbench.spine.views import Pyramid

#: Smooth-L1 turns from square to absolute here: in the frame (normalised units) and in a vertebra (local units).
_FRAME_BETA, _LOCAL_BETA = 0.005, 0.02
#: Weight of the error of the coefficients beside that of the points.
_COEFFICIENT_WEIGHT = 0.01


def centre_loss(
    stage: CentreStage,
    network: CascadeNetwork,
    views: RandomViews,
    pyramid: Pyramid,
    truth: Tensor,
    drawn: Residuals,
) -> Tensor:
    """Error of a stage of the first step on views of some radiographs.

    Args:
        stage: What is trained.
        network: The cascade before it.
        views: How the radiographs are looked at.
        pyramid: The radiographs.
        truth: Where the points lie in the views, (n, p, 2) in pixels of the frame.
        drawn: What the stages before may leave.
    """
    target = normalise(truth)
    start = _start(stage, network, target, drawn.points)
    points = denormalise(start)
    moved = stage(stage.look(views, pyramid, points), points)
    error = F.smooth_l1_loss(normalise(moved.points), target, beta=_FRAME_BETA)
    wanted = _wanted(stage, target - start)
    return error + _COEFFICIENT_WEIGHT * ((moved.coefficients - wanted) / stage.scale).square().mean()


def _start(stage: CentreStage, network: CascadeNetwork, target: Tensor, residual: Tensor) -> Tensor:
    """Where the points are before the stage: the mean shape, or the truth and a residual."""
    if stage.index == 0:
        return network.shape.mean.expand_as(target)
    start = target - residual * INFLATION
    return network.shape.constrain(start) if stage.constraint == "shape" else start


def _wanted(stage: CentreStage, move: Tensor) -> Tensor:
    if stage.constraint == "none":
        return move
    if stage.constraint == "offset":
        return stage.limits.project(move)
    return move @ stage.limits.basis


def corner_loss(
    stage: CornerStage,
    network: CascadeNetwork,
    views: RandomViews,
    pyramid: Pyramid,
    truth: Tensor,
    drawn: Residuals,
) -> Tensor:
    """Error of a stage of the second step; arguments as in `centre_loss`, the truth being all corners (n, 17, 4, 2)."""
    frames = LocalFrames.of(started(truth, drawn))
    target = frames.to_local(truth).flatten(2)
    assert drawn.corners is not None
    start = network.means.expand_as(target) if stage.index == 0 else target - drawn.corners * INFLATION
    moved = stage(stage.look(views, pyramid, frames, start), start).points
    error = F.smooth_l1_loss(moved, target, beta=_LOCAL_BETA)
    tilt = F.smooth_l1_loss(_mid_lines(moved)[..., 1], _mid_lines(target)[..., 1], beta=_LOCAL_BETA)
    return error + network.settings.tilt_weight * tilt


def _mid_lines(corners: Tensor) -> Tensor:
    """Vectors from the middle of the left side to that of the right one, (n, 17, 2)."""
    four = corners.reshape(*corners.shape[:2], 4, 2)
    return (four[:, :, 1] + four[:, :, 3] - four[:, :, 0] - four[:, :, 2]) / 2
