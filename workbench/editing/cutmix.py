"""CutMix pseudo-failures: a patch-aligned rectangle of a donor pasted into a host, at the same place.

Source: specification, section 3.1. The published rectangles are 3 to 8 of 14 patches a side and never reach the
last row and column (an off-by-one); ours scale with the grid and reach every patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import InvalidInputError


@dataclass(frozen=True)
class CutMix:
    """Mixed images and the rectangles that were pasted.

    Args:
        images: Hosts with a rectangle of the donor, (batch, 3, height, width).
        rectangles: Top, left, height and width in patches, (batch, 4).
        patch: Patch height and width in pixels.
    """

    images: Float[Tensor, "batch 3 height width"]
    rectangles: Int[Tensor, "batch 4"]
    patch: tuple[int, int]

    @property
    def area(self) -> Float[Tensor, " batch"]:
        """Fraction of each image that was pasted."""
        pixels = self.rectangles[:, 2] * self.rectangles[:, 3] * self.patch[0] * self.patch[1]
        return pixels / (self.images.shape[-2] * self.images.shape[-1])


def cutmix(
    hosts: Float[Tensor, "batch 3 height width"],
    donors: Float[Tensor, "batch 3 height width"],
    patch: tuple[int, int],
    generator: torch.Generator,
    sides: tuple[int, int] | None = None,
    reach_last: bool = True,
) -> CutMix:
    """Paste a random rectangle of each donor into its host; neither is modified.

    Args:
        hosts: Images that keep what is outside the rectangle.
        donors: Images that give what is inside.
        patch: Patch height and width in pixels.
        generator: Source of randomness.
        sides: Smallest and largest side in patches, both included; by default 3/14 to 8/14 of the grid.
        reach_last: Let rectangles touch the last row and column (False: the published range).

    Raises:
        InvalidInputError: shapes differ, or the sides do not fit into the grid.
    """
    if hosts.shape != donors.shape:
        raise InvalidInputError(
            f"hosts are {tuple(hosts.shape)} but donors {tuple(donors.shape)}; give as many of each"
        )
    rows, columns = hosts.shape[-2] // patch[0], hosts.shape[-1] // patch[1]
    low, high = sides or default_sides(min(rows, columns))
    slack = 0 if reach_last else 1
    if not 1 <= low <= high <= min(rows, columns) - slack:
        raise InvalidInputError(
            f"rectangle sides {low}..{high} do not fit into a grid of {rows}x{columns} patches"
        )
    rectangles = torch.stack([_rectangle(rows, columns, low, high, slack, generator) for _ in hosts])
    mixed = hosts.clone()
    for i, (top, left, height, width) in enumerate(rectangles.tolist()):
        area = (
            slice(top * patch[0], (top + height) * patch[0]),
            slice(left * patch[1], (left + width) * patch[1]),
        )
        mixed[i, :, *area] = donors[i, :, *area]
    return CutMix(mixed, rectangles, patch)


def default_sides(grid: int) -> tuple[int, int]:
    """The published 3 to 8 of 14 patches, scaled to another grid: 2 to 5 of 8.

    Example:
        >>> default_sides(14), default_sides(8)
        ((3, 8), (2, 5))
    """
    return max(1, round(3 * grid / 14)), max(1, round(8 * grid / 14))


def _rectangle(
    rows: int, columns: int, low: int, high: int, slack: int, generator: torch.Generator
) -> Tensor:
    def draw(first: int, last: int) -> int:
        return int(torch.randint(first, last + 1, (1,), generator=generator))

    height, width = draw(low, high), draw(low, high)
    return torch.tensor([draw(0, rows - height - slack), draw(0, columns - width - slack), height, width])
