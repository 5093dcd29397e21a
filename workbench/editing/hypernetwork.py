"""The hypernetwork that says where to edit: class token of the failing image in, one soft mask out.

One learnable token per editable matrix is put before the class token; a few pre-norm transformer blocks mix them;
one linear head per token gives the matrix's units. Source: specification, section 2 (read from the published code).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench._compat import ensure_torchvision_imports
from workbench.checkpoints import Card, load_checkpoint
from workbench.editing.masks import SoftMasks
from workbench.editing.published import HEADS, PublishedHypernetwork
from workbench.editing.space import DEFAULT_BLOCKS, EditSpace
from workbench.errors import CheckpointError, InvalidInputError
from workbench.models import SplitViT, fingerprint
from workbench.models.state_dicts import TORCH_SUFFIXES

ensure_torchvision_imports()

from timm.models.vision_transformer import Block  # noqa: E402

#: Keeps a soft mask away from 0 and 1: in training (so that the loss stays finite) and in use.
TRAINING_EPS, EDITING_EPS = 1e-5, 1e-7

#: Slope of the heads' sigmoid; the training labels are squashed with the same slope.
HEAD_SLOPE = 3.0


class MaskNetwork(nn.Module):
    """The network alone: class tokens (batch, width) to soft masks (batch, matrices, units).

    Args:
        space: Matrices and units to speak about.
        depth: Transformer blocks (3 in the published commands, 5 in the published defaults).
        heads: Attention heads; the token width must be a multiple.
    """

    def __init__(self, space: EditSpace, depth: int = 3, heads: int = 6) -> None:
        super().__init__()
        if space.width % heads:
            raise InvalidInputError(
                f"{heads} heads do not divide the token width {space.width}; choose another number"
            )
        matrices, units = space.shape
        self.depth, self.num_heads = depth, heads
        self.tokens = nn.Parameter(torch.zeros(1, matrices, space.width))
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(space.width, heads, mlp_ratio=1.0, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        self.heads = nn.ModuleList(nn.Linear(space.width, units) for _ in range(matrices))

    def forward(
        self, features: Float[Tensor, "batch width"], eps: float = EDITING_EPS
    ) -> Float[Tensor, "batch matrices units"]:
        """Soft masks in [eps, 1 − eps]; each depends on its own image's features alone."""
        tokens = self.tokens.expand(len(features), -1, -1)
        mixed = torch.cat([tokens, features[:, None]], dim=1)
        for block in self.blocks:
            mixed = block(mixed)
        logits = torch.stack([head(mixed[:, i]) for i, head in enumerate(self.heads)], dim=1)
        return torch.sigmoid(HEAD_SLOPE * logits).clamp(eps, 1 - eps)


class MaskHypernetwork:
    """A trained hypernetwork together with the space it speaks about and the model it was trained on.

    Args:
        network: The network.
        space: The editable matrices, in head order.
        base: Fingerprint of the model it was trained on; None lets it speak about any model of that shape.
        card: How it was trained, where known.
        learn_masks: What a file of the published code holds under that name, (matrices, units): nothing reads it, it
            is kept for `save_published`.

    Example:
        >>> model = load_model("emoji_vit_s14")
        >>> masks = MaskHypernetwork.load("emoji_vit_s14")(model, image)
        >>> masks.binarize(sparsity=0.9).count
        921
    """

    def __init__(
        self,
        network: MaskNetwork,
        space: EditSpace,
        base: str | None = None,
        card: Card | None = None,
        learn_masks: Float[Tensor, "matrices units"] | None = None,
    ) -> None:
        self.network = network.eval()
        self.space, self.base, self.card, self.learn_masks = space, base, card, learn_masks

    @classmethod
    def load(cls, name_or_path: str | Path) -> MaskHypernetwork:
        """A shipped hypernetwork by name, or one from a file.

        Args:
            name_or_path: Name; or file of `workbench train hypernetwork` (``.safetensors``, with its card), or of the
                published code (``7000.pth``; see `load_published` for one of other blocks than 7, 8, 9).

        Raises:
            UnknownNameError: no shipped one of that name.
            CheckpointError: the file is damaged or of another kind.
        """
        if Path(name_or_path).suffix.lower() in TORCH_SUFFIXES:
            return cls.load_published(name_or_path)
        tensors, card = load_checkpoint("hypernetwork", name_or_path)
        try:
            space = EditSpace(tuple(card.extra["blocks"]), card.extra["units"], card.extra["width"])
            network = MaskNetwork(space, depth=card.extra["depth"], heads=card.extra["heads"])
            base = card.extra["base"]
        except KeyError as error:
            raise CheckpointError(f"the card of hypernetwork {name_or_path} lacks {error}") from None
        try:
            network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"hypernetwork {name_or_path} does not fit its own card: {error}"
            ) from error
        return cls(network, space, base, card)

    @classmethod
    def load_published(
        cls, path: str | Path, blocks: Iterable[int] = DEFAULT_BLOCKS, base: str | None = None
    ) -> MaskHypernetwork:
        """A hypernetwork that the published code has saved, or `save_published`: a state dict of `torch.save`.

        Args:
            path: The file; depth, width and number of units are read off its tensors.
            blocks: Blocks that it was trained to edit, 0-based; the file does not say.
            base: Fingerprint of the model it was trained on, where known; the file does not say that either.

        Raises:
            CheckpointError: the file is damaged, or its tensors are not those of a hypernetwork.
            InvalidInputError: another number of blocks than it has masks for, or a width that its six heads do not
                divide.

        Example:
            >>> model = load_model("vit_base_patch16_224.augreg_in21k_ft_in1k")
            >>> MaskHypernetwork.load_published("7000.pth")(model, image).values.shape
            torch.Size([1, 6, 3072])
        """
        found, chosen = PublishedHypernetwork.read(path), tuple(sorted(set(blocks)))
        if 2 * len(chosen) != found.matrices:
            raise InvalidInputError(
                f"{path} has masks for {found.matrices} matrices, two a block, but blocks {chosen} are "
                f"{len(chosen)}; name as many as it was trained for: load_published(path, blocks=(…))"
            )
        space = EditSpace(chosen, found.units, found.width)
        network = MaskNetwork(space, found.depth, HEADS)
        network.load_state_dict(found.state, strict=True)
        return cls(network, space, base, learn_masks=found.learn_masks)

    def save_published(self, path: str | Path) -> Path:
        """Write a file that the published code loads, strictly and bit for bit, and return its path.

        ``learn_masks`` is what `load_published` found, or zeros. Blocks, base and card have no place in it.

        Raises:
            InvalidInputError: not six attention heads, which that code takes for granted, or another suffix than
                ``.pth``, ``.pt``, ``.bin``.
        """
        if self.network.num_heads != HEADS:
            raise InvalidInputError(
                f"this hypernetwork has {self.network.num_heads} attention heads; the published code takes every file "
                f"for one of {HEADS}, so it would compute something else"
            )
        (matrices, units), width = self.space.shape, self.space.width
        state = self.network.state_dict()
        content = PublishedHypernetwork(state, self.network.depth, width, units, matrices, self.learn_masks)
        return content.write(path)

    def __call__(
        self, model: nn.Module, images: Float[Tensor, "... 3 height width"], split: SplitViT | None = None
    ) -> SoftMasks:
        """Soft masks of one image (3, H, W) or several (B, 3, H, W), in [0, 1], seen by the unedited model.

        Args:
            model: The unedited model; it must be the one the hypernetwork was trained on.
            images: One image or several.
            split: A `SplitViT` of the same model, where there is one already.

        Raises:
            CheckpointError: trained for another model.
        """
        self.check_model(model)
        batch = images[None] if images.ndim == 3 else images
        split = split or SplitViT(model, self.space.blocks[0])
        return self.from_features(split.class_token(split.prefix(batch)))

    def from_features(self, features: Float[Tensor, "batch width"]) -> SoftMasks:
        """Soft masks from class tokens after the final norm, on the hypernetwork's own device."""
        device = next(self.network.parameters()).device
        with torch.no_grad():
            return SoftMasks(self.network(features.to(device)), self.space)

    def check_model(self, model: nn.Module) -> None:
        """Raise `CheckpointError` unless `model` is the one this hypernetwork was trained on.

        Where it is not known which one that was, the model must at least have blocks of the same size.
        """
        if self.base is not None:
            self.check_base(fingerprint(model))
        elif (found := EditSpace.of(model, self.space.blocks)) != self.space:
            raise CheckpointError(
                f"this hypernetwork is for a model of width {self.space.width} with {self.space.units} hidden units, "
                f"the model given has {found.width} and {found.units}; load the model it was trained on"
            )

    def check_base(self, found: str) -> None:
        """Raise `CheckpointError` unless `found` is the fingerprint of the model it was trained on."""
        if self.base is not None and found != self.base:
            raise CheckpointError(
                f"this hypernetwork was trained on a model with fingerprint {self.base[:12]}…, the model given has "
                f"{found[:12]}…; load the model it belongs to, or train one: workbench train hypernetwork --model NAME"
            )

    def digest(self) -> str:
        """What its masks depend on, weights and space, as 64 hexadecimal digits."""
        weights = fingerprint(self.network)
        return hashlib.sha256(f"{weights} {self.space} {self.network.num_heads}".encode()).hexdigest()

    def extra(self) -> dict[str, Any]:
        """What a card must say so that `load` can rebuild this hypernetwork."""
        return {
            "blocks": list(self.space.blocks),
            "units": self.space.units,
            "width": self.space.width,
            "depth": self.network.depth,
            "heads": self.network.num_heads,
            "base": self.base,
        }
