"""Masks of the published shape, and one real edit of a small model with everything evaluated."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go
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

SPACE = EditSpace((7, 8, 9), units=1536, width=384)


@pytest.fixture
def make_soft() -> Callable[..., SoftMasks]:
    """Soft masks with all values distinct, of the default model's shape unless told otherwise."""

    def make(count: int = 1, seed: int = 0, space: EditSpace = SPACE) -> SoftMasks:
        generator = torch.Generator().manual_seed(seed)
        return SoftMasks(torch.rand(count, *space.shape, generator=generator), space)

    return make


@pytest.fixture
def soft(make_soft: Callable[..., SoftMasks]) -> SoftMasks:
    return make_soft()


@pytest.fixture
def trajectory(vit: nn.Module, images: Tensor) -> EditTrajectory:
    """An edit of image 2 in four steps at most, with six neighbours and six protected images."""
    targets = logits_of(vit, images).topk(2).indices[:, 1]
    settings = EditSettings(blocks=(1, 2, 3), max_steps=4, learning_rate=3e-4, stop_loss=1e-4)
    editor = Editor(vit, RandomMask(0.5), settings)
    evaluation = EvaluationSet.build(editor.split, images[:6], targets[:6], 2, images[6:])
    return editor.edit(EditRequest(images[2], int(targets[2])), evaluation)


@pytest.fixture
def group(images: Tensor) -> Tensor:
    return images[:6]


@pytest.fixture
def protected(images: Tensor) -> Tensor:
    return images[6:]


@pytest.fixture
def texts() -> Callable[[go.Figure], str]:
    """Everything written on a figure, as one text."""

    def read(figure: go.Figure) -> str:
        written = [text for trace in figure.data if trace.type == "scatter" for text in trace.text or ()]
        notes = [note.text for note in figure.layout.annotations]
        return "\n".join([figure.layout.title.text or "", *notes, *written])

    return read
