"""The feed-forward network of one block, taken apart, for editors that look at its hidden units."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from workbench.editing.editors._optimise import check_classifier
from workbench.errors import InvalidInputError
from workbench.models import SplitViT
from workbench.models.split import Logits, Tokens, reads_prefix_tokens_only


class FeedForward:
    """One block's feed-forward network between a frozen prefix and the rest of the model.

    Args:
        model: A timm vision transformer with a head; it is never changed.
        block: Which block, 0-based; negative ones count from the end.

    Raises:
        InvalidInputError: no such block, or a model without a head.

    Example:
        >>> network = FeedForward(model, block=9)
        >>> tokens = network.tokens(images)
        >>> hidden = network.hidden(tokens)                      # (batch, tokens, units)
        >>> network.logits(tokens, network.mlp.fc2(hidden))      # those of the model
    """

    def __init__(self, model: nn.Module, block: int) -> None:
        self.model: Any = check_classifier(model)
        depth = len(self.model.blocks)
        if not -depth <= block < depth:
            raise InvalidInputError(f"block {block} is outside 0..{depth - 1} (the model has {depth} blocks)")
        self.block = block % depth
        self.split = SplitViT(model, self.block)
        self.mlp = self.model.blocks[self.block].mlp
        last, pooled = self.block == depth - 1, reads_prefix_tokens_only(self.model)
        self._rest = None if last else SplitViT(model, self.block + 1, "attention", pooled_only=pooled)

    @property
    def address(self) -> str:
        """``"blocks.9.mlp"``."""
        return f"blocks.{self.block}.mlp"

    def tokens(self, images: Float[Tensor, "batch 3 height width"]) -> Tokens:
        """Tokens before the network, without gradient."""
        return self.split.prefix(images)

    def inputs(self, tokens: Tokens) -> Tokens:
        """What fc1 sees: the tokens after the block's second norm."""
        return self.model.blocks[self.block].norm2(tokens)

    def hidden(self, tokens: Tokens) -> Float[Tensor, "batch tokens units"]:
        """What fc2 sees: the hidden units' activations."""
        return self.mlp.norm(self.mlp.act(self.mlp.fc1(self.inputs(tokens))))

    def logits(self, tokens: Tokens, output: Tokens) -> Logits:
        """Logits of the model if the network's output were `output`."""
        after = tokens + self.model.blocks[self.block].ls2(output)
        if self._rest is not None:
            return self._rest.tail(after)
        return self.model.forward_head(self.model.norm(after))

    @property
    def scale(self) -> Float[Tensor, " dim"]:
        """What the block multiplies the network's output with: its layer scale, or ones."""
        ls2, weight = self.model.blocks[self.block].ls2, self.mlp.fc2.weight
        return ls2.gamma.detach() if hasattr(ls2, "gamma") else weight.new_ones(len(weight))


def read_tokens(model: nn.Module) -> slice:
    """Positions of the tokens that the head reads: the class token's, or those of the tokens it pools.

    Example:
        >>> read_tokens(load_model("emoji_vit_s14"))
        slice(0, 1, None)
    """
    vit: Any = model
    if reads_prefix_tokens_only(vit):
        return slice(0, 1)
    return slice(0 if getattr(vit, "pool_include_prefix", False) else vit.num_prefix_tokens, None)
