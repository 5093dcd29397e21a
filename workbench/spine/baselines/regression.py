"""Direct regression: one CNN looks at the whole frame and says all 136 coordinates at once.

The network is the cascade's first, at twice its resolution, so that what is compared is one look against many. Source:
specification, section 9.3; the layers are a design of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from workbench.spine.baselines._base import SCALE, Baseline, check_frames, check_samples, with_mirrored
from workbench.spine.baselines._training import Plan, look, train
from workbench.spine.networks import GlobalNetwork

if TYPE_CHECKING:
    from workbench.spine.samples import Samples

#: Height and width of what the network sees: the frame at half size.
SIZE = (352, 192)
_WIDTHS = (32, 64, 128, 256)

#: Errors below this, in normalised units, count squared.
_BETA = 0.005


class DirectRegression(Baseline):
    """One residual CNN from the whole frame at half size to 136 coordinates."""

    name: ClassVar[str] = "direct"

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

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
    ) -> DirectRegression:
        """Train on random views (smooth L1, AdamW, cosine)."""
        shapes = with_mirrored(check_samples(samples)) / SCALE
        mean, spread = shapes.mean(0), shapes.std(0) + 1e-6
        plan = Plan(minutes, epochs, seed)
        scale = torch.from_numpy(SCALE).float()

        def loss_of(found: Tensor, corners: Tensor) -> Tensor:
            return F.smooth_l1_loss(found / scale, corners / scale, beta=_BETA) / _BETA

        return cls(
            train(cls.name, lambda: _Network(mean, spread), SIZE, loss_of, samples, plan, progress, log)
        )

    @torch.no_grad()
    def predict_frames(self, images: UInt8[Tensor, "n 704 384"]) -> Float[np.ndarray, "n 17 4 2"]:
        """Corners in pixels of the frame."""
        found = [self.network(seen) for seen in look(check_frames(images), SIZE)]
        return torch.cat(found).double().numpy()

    def tensors(self) -> dict[str, Tensor]:
        """The weights, and the mean and spread that outputs are relative to."""
        return dict(self.network.state_dict())

    def extra(self) -> dict[str, Any]:
        """What the network sees, and its widths."""
        return {"size": list(SIZE), "widths": list(_WIDTHS)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> DirectRegression:
        """From the weights."""
        network = _Network(np.zeros((17, 4, 2)), np.ones((17, 4, 2)))
        network.load_state_dict(dict(tensors))
        return cls(network)


class _Network(nn.Module):
    """Numbers of standard deviations from the mean corners, as corners in pixels of the frame."""

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Float[np.ndarray, "17 4 2"], spread: Float[np.ndarray, "17 4 2"]) -> None:
        super().__init__()
        self.body = GlobalNetwork(SIZE, _WIDTHS, mean.size).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean", torch.from_numpy(mean * SCALE).float())
        self.register_buffer("spread", torch.from_numpy(spread * SCALE).float())

    def forward(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 17 4 2"]:
        return self.mean + self.spread * self.body(images).reshape(-1, *self.mean.shape)
