"""One real edit of a small model with everything evaluated, and masks of some images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from workbench.editing import (
    Editor,
    EditRequest,
    EditSettings,
    EditSpace,
    EditTrajectory,
    EvaluationSet,
    RandomMask,
)
from workbench.editing.masks import SoftMasks
from workbench.models import logits_of
from workbench.widgets import EditStepper, MaskExplorer


@pytest.fixture
def trajectory(vit: nn.Module, images: Tensor) -> EditTrajectory:
    targets = logits_of(vit, images).topk(2).indices[:, 1]
    settings = EditSettings(blocks=(1, 2, 3), max_steps=4, learning_rate=3e-4, stop_loss=1e-4)
    editor = Editor(vit, RandomMask(0.5), settings)
    evaluation = EvaluationSet.build(editor.split, images[:6], targets[:6], 2, images[6:])
    return editor.edit(EditRequest(images[2], int(targets[2])), evaluation)


@pytest.fixture
def stepper(trajectory: EditTrajectory, images: Tensor) -> EditStepper:
    return EditStepper(trajectory, images[:6], images[6:], titles=[f"n{i}" for i in range(6)])


@pytest.fixture
def soft() -> SoftMasks:
    space = EditSpace((1, 2), units=96, width=24)
    return SoftMasks(torch.rand(3, *space.shape, generator=torch.Generator().manual_seed(0)), space)


@pytest.fixture
def explorer(soft: SoftMasks, images: Tensor) -> MaskExplorer:
    return MaskExplorer(soft, images[:3], ["ant", "bee", "crab"])
