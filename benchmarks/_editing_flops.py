"""Floating point operations that editing cannot do without, counted for one image; a multiply-add is two.

Matrix products alone are counted, attention's among them. The counts follow from the method, not from how the
workbench computes it: nothing before the first edited weight needs a gradient, of an edited weight only the selected
rows or columns do, and in the last block only the class token is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.editing import EditSpace
from workbench.editing.masks import BinaryMask


@dataclass(frozen=True)
class Needs:
    """Operations of the parts of a ViT whose feed-forward networks are edited in some blocks.

    Args:
        tokens: Of one image, the class token among them.
        width: Of a token.
        units: Hidden units of a feed-forward network.
        depth: Number of blocks.
        pixels: Values of one patch.
        classes: Of the head.
        space: What is edited.
    """

    tokens: int
    width: int
    units: int
    depth: int
    pixels: int
    classes: int
    space: EditSpace

    @classmethod
    def of(cls, model: Any, space: EditSpace) -> Needs:
        """Those of a timm ViT with a class token, at its own image size."""
        patches = model.patch_embed.num_patches
        height, width = model.patch_embed.patch_size
        tokens = patches + model.num_prefix_tokens
        return cls(
            tokens,
            model.embed_dim,
            space.units,
            len(model.blocks),
            3 * height * width,
            model.num_classes,
            space,
        )

    def _linear(self, rows: int, inputs: int, outputs: int) -> int:
        return 2 * rows * inputs * outputs

    def _feed_forward(self, rows: int, units: int) -> int:
        return 2 * self._linear(rows, self.width, units)

    @property
    def _products(self) -> int:
        """Of attention: queries by keys, and weights by values."""
        return 4 * self.tokens**2 * self.width

    @property
    def _attention(self) -> int:
        return self._linear(self.tokens, self.width, 4 * self.width) + self._products

    @property
    def _last_block(self) -> int:
        """Keys and values of all tokens; all else for the class token alone."""
        one = self._linear(1, self.width, 2 * self.width) + self._feed_forward(1, self.units)
        return self._linear(self.tokens, self.width, 2 * self.width) + 4 * self.tokens * self.width + one

    @property
    def _middle(self) -> int:
        """Blocks between the first edited one and the last of the model."""
        return self.depth - 2 - self.space.blocks[0]

    @property
    def _head(self) -> int:
        return self._linear(1, self.width, self.classes)

    @property
    def prefix(self) -> int:
        """From pixels to the feed-forward network of the first edited block."""
        embed = self._linear(self.tokens - 1, self.pixels, self.width)
        blocks = self.space.blocks[0] * (self._attention + self._feed_forward(self.tokens, self.units))
        return embed + blocks + self._attention

    @property
    def forward(self) -> int:
        """From there to the logits."""
        return self._feed_forward(self.tokens, self.units) + self._after_first()

    def _after_first(self) -> int:
        block = self._attention + self._feed_forward(self.tokens, self.units)
        return self._middle * block + self._last_block + self._head

    def _backward_after_first(self) -> int:
        """Gradients of inputs: as much again, and attention's products twice."""
        return self._after_first() + self._middle * self._products + 4 * self.tokens * self.width

    def edit(self, mask: BinaryMask, steps: int) -> int:
        """An edit of one image: the prefix, what is constant, and `steps` forward and backward passes."""
        rows, columns = mask.bits[0], mask.bits[1]
        chosen = int((rows | columns).sum())
        constant = self._feed_forward(self.tokens, self.units - chosen)
        forward = self._feed_forward(self.tokens, chosen) + self._after_first()
        inward = self._linear(self.tokens, self.width, chosen if bool(rows.any()) else 0)
        trained = self._linear(self.tokens, self.width, mask.count)
        return self.prefix + constant + steps * (forward + self._backward_after_first() + inward + trained)

    def search(self, inner_steps: int, outer_steps: int) -> int:
        """Labels of one pair: both images once, then passes; the first gradient is the same in every outer step."""
        inward = self._linear(self.tokens, self.width, self.units)
        trained = self._linear(self.tokens, self.width, self.space.size)
        one = self.forward + self._backward_after_first() + inward + trained
        return 2 * (self.prefix + self.forward) + (1 + inner_steps * outer_steps) * one
