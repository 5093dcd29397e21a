"""A vision transformer as a frozen prefix and an editable tail.

Editing the feed-forward networks of blocks 7 to 9 never changes what enters block 7's feed-forward network. So the
prefix is run once per image, its tokens are kept, and edits, meta-training and evaluation run on the tail alone.
The tail calls the model's own modules in the model's own order: resuming is bit-identical to the full forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.images import check_images
from workbench.errors import InvalidInputError
from workbench.models.attention import own_attention, plain_attention, pooled_attention
from workbench.models.loading import check_vit
from workbench.models.partial_weight import PartialWeight
from workbench.models.preprocessing import normalize

Tokens = Float[Tensor, "batch tokens dim"]
Logits = Float[Tensor, "batch classes"]
#: Replacement weights by address: (out, in) for all images. Feed-forward weights may be (batch, out, in), one an
#: image, and have another number of hidden units, with biases as ``"<address>.bias"``.
Weights = Mapping[str, Tensor]
#: The same, where a feed-forward weight may also be one that is trained in part.
TailWeights = Mapping[str, Tensor | PartialWeight]

Entry = Literal["attention", "mlp"]

_REPLACEABLE = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_PREFIX_DTYPES = (None, torch.bfloat16, torch.float16)


class SplitViT:
    """Run a timm ViT in two parts: a prefix that is never edited, and a tail that may be.

    Args:
        model: A timm `VisionTransformer`, in evaluation mode; it is never changed.
        first_block: Index of the first block that may be edited, 0-based.
        entry: Where the tail begins in that block: at its attention, or after it, at its feed-forward network.
        pooled_only: Compute only the pooled tokens in the last block's query and feed-forward network. Same
            result up to rounding (about 1e-6), a fifth less work for the default tail; refused where the head
            reads patch tokens (see `reads_prefix_tokens_only`).
        prefix_dtype: `torch.bfloat16` or `torch.float16` runs the prefix under autocast, for accelerators; tokens
            come out as float32 all the same, and the tail stays in the model's own precision.
        plain_attention: Compute attention step by step, as the published editing code does, instead of by the model's
            own fused operation (about 1e-6 apart; `pooled_only` keeps to its own in the last block).

    Example:
        >>> split = SplitViT(load_model("emoji_vit_s14"), first_block=7)
        >>> tokens = split.prefix(images)          # once per image
        >>> logits = split.tail(tokens)            # as often as needed
        >>> edited = split.tail(tokens, {"blocks.8.mlp.fc1": new_weight})
    """

    def __init__(
        self,
        model: nn.Module,
        first_block: int,
        entry: Entry = "mlp",
        pooled_only: bool = False,
        prefix_dtype: torch.dtype | None = None,
        plain_attention: bool = False,
    ) -> None:
        # timm's modules are untyped: attributes of a VisionTransformer are its own business.
        self.model: Any = check_vit(model)
        depth = len(self.model.blocks)
        if not 0 <= first_block < depth:
            raise InvalidInputError(
                f"first_block {first_block} is outside 0..{depth - 1} (the model has {depth} blocks)"
            )
        if pooled_only and not reads_prefix_tokens_only(model):
            raise InvalidInputError(
                f"pooled_only needs a head that reads the class token; this model pools {model.global_pool!r}: "
                "leave pooled_only=False"
            )
        if prefix_dtype not in _PREFIX_DTYPES:
            raise InvalidInputError(
                f"prefix_dtype is {prefix_dtype}; it must be torch.bfloat16, torch.float16, or None for the model's own"
            )
        self.first_block = first_block
        self.entry: Entry = entry
        self.pooled_only = pooled_only
        self.prefix_dtype = prefix_dtype
        self.plain_attention = plain_attention

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def prefix(self, images: Float[Tensor, "batch 3 height width"]) -> Tokens:
        """Tokens at the tail's entry, without gradient.

        Args:
            images: Values in [0, 1], on any device; normalised here with the model's own mean and standard
                deviation.

        Raises:
            InvalidInputError: wrong rank, dtype, range, or a side that is no multiple of the patch size.
        """
        check_images(images)
        images = images.to(self.device)
        if self.prefix_dtype is None:
            with torch.no_grad():
                return self._enter(self._embed(images))
        with torch.no_grad(), torch.autocast(self.device.type, self.prefix_dtype):
            return self._enter(self._embed(images)).float()

    def tail(self, tokens: Tokens, weights: TailWeights | None = None) -> Logits:
        """Logits from the tail, with some of the blocks' weights replaced.

        Args:
            tokens: What `prefix` returned.
            weights: Replacements by address (``attn.qkv``, ``attn.proj``, ``mlp.fc1``, ``mlp.fc2`` of the tail's
                blocks); (out, in), or for feed-forward weights (batch, out, in), one an image, or a
                `PartialWeight`.

        Raises:
            InvalidInputError: a replacement at an address that this tail does not compute with.
        """
        self._check_replaceable(weights or {})
        return self.model.forward_head(self.tail_tokens(tokens, weights))

    def tail_tokens(
        self, tokens: Tokens, weights: TailWeights | None = None
    ) -> Float[Tensor, "batch kept dim"]:
        """Tokens after the final norm: class token first, then patches (only the former with `pooled_only`)."""
        weights = weights or {}
        last = len(self.model.blocks) - 1
        for i in range(self.first_block, last + 1):
            block = self.model.blocks[i]
            if i != self.first_block or self.entry == "attention":
                attention = cast(dict[str, Tensor], _below(f"blocks.{i}.attn.", weights))
                tokens = self._attend(block, tokens, attention, pooled=self.pooled_only and i == last)
            if self.pooled_only and i == last:
                tokens = tokens[:, : self.model.num_prefix_tokens]
            tokens = _feed_forward(block, tokens, _below(f"blocks.{i}.mlp.", weights))
        return self.model.norm(tokens)

    def _check_replaceable(self, weights: TailWeights) -> None:
        for address in weights:
            block, _, rest = address.removeprefix("blocks.").partition(".")
            known = block.isdecimal() and self.first_block <= int(block) < len(self.model.blocks)
            if known and int(block) == self.first_block and self.entry == "mlp" and rest.startswith("attn."):
                known = False
            if not known or rest.removesuffix(".bias") not in _REPLACEABLE:
                raise InvalidInputError(
                    f"a weight at {address!r} cannot be replaced in a tail that starts at the "
                    f"{'attention' if self.entry == 'attention' else 'feed-forward network'} of block "
                    f"{self.first_block}; replaceable are blocks.N.{{{', '.join(_REPLACEABLE)}}} from there on"
                )

    def class_token(self, tokens: Tokens) -> Float[Tensor, "batch dim"]:
        """The class token after the final norm, from the unedited tail and without gradient.

        For a model without a class token: what its head reads in its place, the pooled patches.
        """
        with torch.no_grad():
            found = self.tail_tokens(tokens)
            if self.model.cls_token is None:
                return self.model.forward_head(found, pre_logits=True)
            return found[:, 0]

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], weights: Weights | None = None
    ) -> Logits:
        """Logits of images: `tail(prefix(images), weights)`."""
        return self.tail(self.prefix(images), weights)

    def prefix_batches(self, images: Tensor, batch_size: int = 64) -> Iterator[Tokens]:
        """`prefix` over many images, `batch_size` at a time."""
        for chunk in images.split(batch_size):
            yield self.prefix(chunk)

    def _embed(self, images: Tensor) -> Tokens:
        model = self.model
        patch = model.patch_embed.patch_size
        height, width = images.shape[-2:]
        if height % patch[0] or width % patch[1]:
            raise InvalidInputError(
                f"images are {height}x{width} px, which {patch[0]}x{patch[1]} patches do not tile; resize them, "
                f"for example to {_nearest(height, patch[0])}x{_nearest(width, patch[1])}"
            )
        size = model.patch_embed.img_size
        if model.patch_embed.strict_img_size and (height, width) != tuple(size):
            raise InvalidInputError(
                f"images are {height}x{width} px, but this model takes {size[0]}x{size[1]} only; resize them, or "
                "create the model with dynamic_img_size=True"
            )
        tokens = model.patch_embed(normalize(model, images))
        tokens = model._pos_embed(tokens)
        tokens = model.patch_drop(tokens)
        return model.norm_pre(tokens)

    def _enter(self, tokens: Tokens) -> Tokens:
        for block in self.model.blocks[: self.first_block]:
            tokens = _feed_forward(block, self._attend(block, tokens, {}), {})
        if self.entry == "mlp":
            tokens = self._attend(self.model.blocks[self.first_block], tokens, {})
        return tokens

    def _attend(self, block: Any, tokens: Tokens, weights: Weights, pooled: bool = False) -> Tensor:
        normed = block.norm1(tokens)
        if pooled and not weights:
            keep = self.model.num_prefix_tokens
            tokens, mixed = tokens[:, :keep], pooled_attention(block.attn, normed, keep)
        else:
            attend = plain_attention if self.plain_attention else own_attention
            mixed = attend(block.attn, normed, weights)
        return tokens + block.drop_path1(block.ls1(mixed))


def _nearest(side: int, patch: int) -> int:
    return max(1, round(side / patch)) * patch


def reads_prefix_tokens_only(model: Any) -> bool:
    """Whether the head of a ViT looks at the class token alone, so that `SplitViT` may be `pooled_only`."""
    return model.global_pool == "token" and getattr(model, "attn_pool", None) is None


def _below(prefix: str, weights: TailWeights) -> dict[str, Tensor | PartialWeight]:
    return {a.removeprefix(prefix): w for a, w in weights.items() if a.startswith(prefix)}


def _feed_forward(block: Any, tokens: Tensor, weights: TailWeights) -> Tensor:
    if not weights:
        return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
    mlp = block.mlp
    hidden = mlp.drop1(mlp.act(_linear(mlp.fc1, "fc1", block.norm2(tokens), weights)))
    out = mlp.drop2(_linear(mlp.fc2, "fc2", mlp.norm(hidden), weights))
    return tokens + block.drop_path2(block.ls2(out))


def _linear(layer: nn.Linear, name: str, x: Tensor, weights: TailWeights) -> Tensor:
    """A Linear layer, with its own weight, another one, one an image, or one that is trained in part."""
    weight, bias = weights.get(name), cast("Tensor | None", weights.get(f"{name}.bias", layer.bias))
    if isinstance(weight, PartialWeight):
        return weight.linear(x, bias)
    if weight is None or weight.ndim == 2:
        return F.linear(x, layer.weight if weight is None else weight, bias)
    if bias is None:
        return torch.bmm(x, weight.transpose(1, 2))
    return torch.baddbmm(bias, x, weight.transpose(1, 2))
