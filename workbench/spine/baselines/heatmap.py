"""A heat-map detector in the style of Yi et al. 2020: vertebrae are peaks, corners are vectors from them.

An encoder and a decoder give, on a grid of a quarter of the input, a map of how likely a centre is there (focal loss),
where in the cell it is, and the vectors to its four corners (L1). The 17 best peaks, sorted by y, are the vertebrae.
From that paper and its public code are the three heads, the grid, the kinds of loss, how levels are joined, and what
`HeatmapSettings.published` says; the rest, such as normalisation by groups, the peaks' width and the loss weights, is a
design of ours. Source: specification, section 4, and the published code's layer sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from workbench.data.vertebrae import VERTEBRAE
from workbench.errors import InvalidInputError
from workbench.spine.baselines._base import Baseline, check_frames, check_samples
from workbench.spine.baselines._heatmap_network import HeatmapNetwork
from workbench.spine.baselines._heatmap_targets import decode, detection_loss
from workbench.spine.baselines._training import Plan, look, train

if TYPE_CHECKING:
    from workbench.spine.samples import Samples


@dataclass(frozen=True)
class HeatmapSettings:
    """What the network is like.

    Args:
        size: Height and width of its input, multiples of 16; the whole frame is scaled to it, stretched if need be.
        widths: Channels of the encoder's four levels.
        blocks: Residual blocks of each level.
        head_width: Channels within the heads.
        vector_side: Side of the convolutions of the head that gives vectors; an odd number.
    """

    size: tuple[int, int] = (352, 192)
    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    blocks: tuple[int, int, int, int] = (1, 1, 1, 1)
    head_width: int = 64
    vector_side: int = 3

    def __post_init__(self) -> None:
        if any(side < 16 or side % 16 for side in self.size):
            raise InvalidInputError(f"size is {self.size}; height and width must be multiples of 16")
        if (self.size[0] // 4) * (self.size[1] // 4) < VERTEBRAE:
            raise InvalidInputError(f"size is {self.size}; its grid has no room for {VERTEBRAE} peaks")

        if self.vector_side < 1 or self.vector_side % 2 == 0:
            raise InvalidInputError(f"vector_side is {self.vector_side}; it must be odd")

    @classmethod
    def published(cls) -> HeatmapSettings:
        """Input size, widths and depths of the published network: for timing; far too slow to train on a CPU."""
        return cls((1024, 512), (64, 128, 256, 512), (3, 4, 6, 3), head_width=256, vector_side=7)


class HeatmapDetector(Baseline):
    """Centres as peaks of a heat map, corners as vectors from them, by an encoder and a decoder."""

    name: ClassVar[str] = "heatmap"

    def __init__(self, network: HeatmapNetwork, settings: HeatmapSettings) -> None:
        self.network, self.settings = network.eval(), settings

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
        settings: HeatmapSettings | None = None,
    ) -> HeatmapDetector:
        """Train on random views; `settings` says what the network is like."""
        check_samples(samples)
        chosen = settings or HeatmapSettings()
        plan = Plan(minutes, epochs, seed)
        network = train(
            cls.name, lambda: _build(chosen), chosen.size, detection_loss, samples, plan, progress, log
        )
        assert isinstance(network, HeatmapNetwork)
        return cls(network, chosen)

    @classmethod
    def untrained(cls, settings: HeatmapSettings | None = None) -> HeatmapDetector:
        """With random weights: it takes as long as a trained one, and finds nothing."""
        chosen = settings or HeatmapSettings()
        return cls(_build(chosen), chosen)

    @torch.no_grad()
    def predict_frames(self, images: UInt8[Tensor, "n 704 384"]) -> Float[np.ndarray, "n 17 4 2"]:
        """Corners in pixels of the frame."""
        found = [decode(self.network(seen)) for seen in look(check_frames(images), self.settings.size)]
        return torch.cat(found).double().numpy()

    def tensors(self) -> dict[str, Tensor]:
        """The weights."""
        return dict(self.network.state_dict())

    def extra(self) -> dict[str, Any]:
        """What the network is like."""
        return asdict(self.settings)

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> HeatmapDetector:
        """From the weights."""
        lists = {part: tuple(extra[part]) for part in ("size", "widths", "blocks")}
        settings = HeatmapSettings(**lists, head_width=extra["head_width"], vector_side=extra["vector_side"])
        network = _build(settings)
        network.load_state_dict(dict(tensors))
        return cls(network, settings)


def _build(settings: HeatmapSettings) -> HeatmapNetwork:
    network = HeatmapNetwork(settings.widths, settings.blocks, settings.head_width, settings.vector_side)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
