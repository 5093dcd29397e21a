"""The frame every radiograph is laid into before a network sees it, and the way back to its own pixels.

A frame is 704 pixels high and 384 wide; an image keeps its proportions and is padded with zeros. Points are (x, y) with
(0, 0) the centre of a pixel, so scaling by s takes x to (x + ½)·s − ½. Source: specification, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from workbench.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import Tensor

#: Height and width of the frame in pixels.
FRAME = (704, 384)


@dataclass(frozen=True)
class Frame:
    """How an image of some size lies in the frame: its size there and its upper left corner.

    Args:
        size: Height and width of the image in its own pixels.
        scaled: Height and width of the image in the frame.
        corner: Row and column of its upper left pixel in the frame.

    Example:
        >>> frame = Frame.of((2500, 1000))
        >>> frame.scaled, frame.corner
        ((704, 282), (0, 51))
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    corner: tuple[int, int]

    @classmethod
    def of(cls, size: tuple[int, int]) -> Frame:
        """The frame of an image of `size` (height, width).

        Raises:
            InvalidInputError: a side is not positive, or so short that nothing would be left of it.
        """
        height, width = size
        if min(size) < 1:
            raise InvalidInputError(f"an image of {height} x {width} pixels cannot be framed")
        scale = min(FRAME[0] / height, FRAME[1] / width)
        scaled = (min(FRAME[0], round(height * scale)), min(FRAME[1], round(width * scale)))
        if min(scaled) < 1:
            raise InvalidInputError(f"an image of {height} x {width} pixels is too narrow for a radiograph")
        return cls((height, width), scaled, ((FRAME[0] - scaled[0]) // 2, (FRAME[1] - scaled[1]) // 2))

    @property
    def scale(self) -> np.ndarray:
        """Frame pixels per image pixel along (x, y); they differ only by the rounding to whole pixels."""
        return np.array([self.scaled[1] / self.size[1], self.scaled[0] / self.size[0]])

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) of the image in the frame."""
        return (np.asarray(points) + 0.5) * self.scale - 0.5 + np.array(self.corner[::-1])

    def inverse(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) of the frame in the image: the exact inverse of `forward`."""
        return (np.asarray(points) - np.array(self.corner[::-1]) + 0.5) / self.scale - 0.5

    def image(self, pixels: Float[np.ndarray, "height width"]) -> Float[Tensor, "704 384"]:
        """The image in the frame, scaled with anti-aliasing and padded with zeros."""
        import torch  # here, so that metrics and figures can do without it
        import torch.nn.functional as F

        if tuple(pixels.shape) != self.size:
            raise InvalidInputError(f"this frame is for images {self.size}, not {tuple(pixels.shape)}")
        values = torch.as_tensor(np.ascontiguousarray(pixels), dtype=torch.float32)[None, None]
        if self.scaled != self.size:
            values = F.interpolate(values, self.scaled, mode="bilinear", antialias=True, align_corners=False)
        framed = torch.zeros(FRAME)
        (top, left), (height, width) = self.corner, self.scaled
        framed[top : top + height, left : left + width] = values[0, 0]
        return framed
