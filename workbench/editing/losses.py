"""The distillation loss of meta-training. Source: specification, section 3.2."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

#: Temperature of the softmaxes; the loss is scaled by its square.
TEMPERATURE = 5.0


def distillation(
    clean: Float[Tensor, "batch classes"],
    mixed: Float[Tensor, "batch classes"],
    temperature: float = TEMPERATURE,
) -> Float[Tensor, " batch"]:
    """T² · KL(softmax(clean / T) ‖ softmax(mixed / T)), one value an image, at least 0.

    Args:
        clean: Logits of the unedited model on the clean host: the target, normally without gradient.
        mixed: Logits of the edited model on the CutMix image.
        temperature: T.
    """
    target = F.log_softmax(clean / temperature, dim=-1)
    found = F.log_softmax(mixed / temperature, dim=-1)
    return temperature**2 * F.kl_div(found, target, reduction="none", log_target=True).sum(dim=-1)
