"""Predictions on many images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.images import check_images
from workbench.models.preprocessing import normalize


def logits_of(
    model: nn.Module, images: Float[Tensor, "batch 3 height width"], batch_size: int = 128
) -> Float[Tensor, "batch classes"]:
    """Logits of images in [0, 1], without gradient, a batch at a time.

    Raises:
        InvalidInputError: wrong rank, dtype or range of the images.

    Example:
        >>> logits_of(model, images).softmax(dim=1).argmax(dim=1)
    """
    check_images(images)
    with torch.no_grad():
        return torch.cat([model(normalize(model, chunk)) for chunk in images.split(batch_size)])
