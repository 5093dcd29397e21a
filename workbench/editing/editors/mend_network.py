"""The network of MEND: it turns the factors of a weight's gradient into those of a better update.

The gradient of a linear layer's weight is a sum over tokens of (error at its output) x (input), so it can be edited
through vectors instead of matrices.

Method: Mitchell, Lin, Bosselut, Finn, Manning, *Fast Model Editing at Scale*, ICLR 2022, for language models; from
there come the residual network of low rank that starts as the identity and is shared by layers of one shape, a scale
and an offset for each of them, normalised inputs, and a learned step size for each matrix. The port to vision
transformers is a design of ours (specification, section 6.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.checkpoints import Card, load_checkpoint
from workbench.editing.space import EditSpace
from workbench.errors import CheckpointError
from workbench.models import SplitViT
from workbench.models.split import Logits, Tokens

#: Smallest standard deviation that a number is divided by, in units of the mean of its half of the pair.
_LEAST = 0.01


class Factors(NamedTuple):
    """The gradient of one weight, a pair of vectors a token: the sum over tokens of errors x inputs.

    Args:
        inputs: What the layer sees, (batch, tokens, in).
        errors: Gradient of the loss at the layer's output, (batch, tokens, out).
    """

    inputs: Float[Tensor, "batch tokens in"]
    errors: Float[Tensor, "batch tokens out"]


class PairNetwork(nn.Module):
    """Edits (input, error) pairs of all layers of one shape; as it starts, it returns them as they are.

    A pair is normalised, passed through two residual layers of low rank, and what they added is put onto the pair in
    units of its standard deviation. (The published network returns the normalised pair; so the untrained network here
    gives the plain gradient. Its first activation is a GELU here: a ReLU has no gradient where it starts.)

    Args:
        inputs: Width of the layers' input.
        outputs: Width of their output.
        layers: How many share this network.
        rank: Rank of the residual layers.
        seed: Of the start.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: int, outputs: int, layers: int, rank: int, seed: int = 0) -> None:
        super().__init__()
        width = inputs + outputs
        self.inputs = inputs
        start = torch.randn(2, width, rank, generator=torch.Generator().manual_seed(seed))
        self.down = nn.Parameter(start / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(2, rank, width))
        self.bias = nn.Parameter(torch.zeros(2, width))
        self.scale = nn.Parameter(torch.ones(layers, 2, width))
        self.offset = nn.Parameter(torch.zeros(layers, 2, width))
        self.register_buffer("mean", torch.zeros(layers, width))
        self.register_buffer("std", torch.ones(layers, width))

    def forward(self, pair: Factors, layer: int) -> Factors:
        """The edited pairs of the `layer`-th of the layers that share this network."""
        raw = torch.cat(pair, dim=-1)
        start = (raw - self.mean[layer]) / self.std[layer]
        hidden = start + F.gelu(self._residual(start, layer, 0))
        hidden = hidden + self._residual(hidden, layer, 1)
        # A token without error takes no part in the gradient, and stays so.
        felt = (pair.errors != 0).any(dim=-1, keepdim=True)
        edited = raw + torch.where(felt, (hidden - start) * self.std[layer], 0)
        return Factors(edited[..., : self.inputs], edited[..., self.inputs :])

    def normalise(self, pairs: Float[Tensor, "pairs width"], layer: int) -> None:
        """Normalise the pairs of a layer with the mean and standard deviation of these from now on."""
        self.mean[layer] = pairs.mean(0)
        inputs, errors = pairs.std(0).tensor_split([self.inputs])
        # A unit that was still in these pairs need not be in others.
        floors = [part.clamp(min=_LEAST * float(part.mean())) for part in (inputs, errors)]
        self.std[layer] = torch.cat(floors).clamp(min=torch.finfo(pairs.dtype).tiny)

    def _residual(self, x: Tensor, layer: int, depth: int) -> Tensor:
        added = x @ self.down[depth] @ self.up[depth] + self.bias[depth]
        return self.scale[layer, depth] * added + self.offset[layer, depth]


class MendNetwork(nn.Module):
    """One `PairNetwork` for fc1 of all edited blocks, one for fc2, and a step size for each matrix.

    Args:
        space: The editable matrices.
        rank: Rank of the residual layers.
        edit_rate: Step size that each matrix starts with.
        seed: Of the start.
        base: Fingerprint of the model it was trained on; None lets it edit any model of that shape.
        card: How it was trained, where known.

    Example:
        >>> network = MendNetwork.load("emoji_vit_s14")
        >>> make_editor("mend", load_model("emoji_vit_s14"), network=network)
    """

    def __init__(
        self,
        space: EditSpace,
        rank: int = 128,
        edit_rate: float = 1e-3,
        seed: int = 0,
        base: str | None = None,
        card: Card | None = None,
    ) -> None:
        super().__init__()
        self.space, self.rank, self.base, self.card = space, rank, base, card
        layers = len(space.blocks)
        self.fc1 = PairNetwork(space.width, space.units, layers, rank, seed)
        self.fc2 = PairNetwork(space.units, space.width, layers, rank, seed + 1)
        self.log_rates = nn.Parameter(torch.full((2 * layers,), math.log(edit_rate)))

    def forward(self, gradients: Mapping[str, Factors]) -> dict[str, Factors]:
        """Factors of the update by address: its sum over tokens of errors x inputs is added to the weight."""
        updates = {}
        for address, pair in gradients.items():
            position = self.space.index(address)
            edited = self._shared(address)(pair, position // 2)
            updates[address] = Factors(edited.inputs, -self.log_rates[position].exp() * edited.errors)
        return updates

    def normalise(self, address: str, pairs: Float[Tensor, "pairs width"]) -> None:
        """Normalise a matrix' pairs with the mean and standard deviation of these from now on."""
        self._shared(address).normalise(pairs, self.space.index(address) // 2)

    def _shared(self, address: str) -> PairNetwork:
        shared: PairNetwork = self.fc1 if self.space.axis(address) == 0 else self.fc2
        return shared

    def check_base(self, found: str) -> None:
        """Raise `CheckpointError` unless `found` is the fingerprint of the model it was trained on."""
        if self.base is not None and found != self.base:
            raise CheckpointError(
                f"this MEND network was trained on a model with fingerprint {self.base[:12]}…, the model given has "
                f"{found[:12]}…; load the model it belongs to, or train one: workbench train mend --model NAME"
            )

    def extra(self) -> dict[str, Any]:
        """What a card must say so that `load` can rebuild this network."""
        space = self.space
        return {
            "blocks": list(space.blocks),
            "units": space.units,
            "width": space.width,
            "rank": self.rank,
            "base": self.base,
        }

    def compact(self) -> dict[str, Tensor]:
        """The state for a file: matrices in half precision, vectors and statistics (which may be tiny) as they are."""
        large = ("down", "up")
        return {k: v.half() if k.endswith(large) else v for k, v in self.state_dict().items()}

    @classmethod
    def load(cls, name_or_path: str | Path) -> MendNetwork:
        """A shipped network by name, or one trained by `workbench train mend` by path.

        Raises:
            UnknownNameError: no shipped one of that name.
            CheckpointError: the file is damaged or of another kind.
        """
        tensors, card = load_checkpoint("mend", name_or_path)
        try:
            space = EditSpace(tuple(card.extra["blocks"]), card.extra["units"], card.extra["width"])
            network = cls(space, card.extra["rank"], base=card.extra["base"], card=card)
        except KeyError as error:
            raise CheckpointError(f"the card of MEND network {name_or_path} lacks {error}") from None
        try:
            network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"MEND network {name_or_path} does not fit its own card: {error}"
            ) from error
        return network.eval().requires_grad_(False)


def gradient_factors(
    split: SplitViT, space: EditSpace, tokens: Tokens, targets: Int[Tensor, " batch"]
) -> tuple[Logits, dict[str, Factors]]:
    """Logits of the unedited model, and each image's gradient of its cross-entropy, as factors by address.

    Args:
        split: The unedited model; its tail begins at or before the first edited block.
        space: The editable matrices.
        tokens: At the tail's entry.
        targets: The classes wanted.
    """
    with torch.enable_grad(), _recorded(split.model, space.addresses) as seen:
        logits = split.tail(tokens.detach().requires_grad_(True))
        loss = F.cross_entropy(logits, targets.to(logits.device), reduction="sum")
        errors = torch.autograd.grad(loss, [output for _, output in seen.values()])
    found = zip(seen.items(), errors, strict=True)
    return logits.detach(), {a: Factors(inputs.detach(), error) for (a, (inputs, _)), error in found}


@contextmanager
def _recorded(model: nn.Module, addresses: tuple[str, ...]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Inputs and outputs of linear layers in the forward pass made inside the block, by address."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(address: str) -> Any:
        return lambda _, inputs, output: seen.update({address: (inputs[0], output)})

    handles = [model.get_submodule(a).register_forward_hook(note(a)) for a in addresses]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
