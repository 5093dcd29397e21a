"""T-Patcher for vision transformers: one more hidden unit in the last block, that fires for the failing image.

The unit's incoming weights and bias say when it fires, and are set at once; its outgoing weights say what it then
writes, and are optimised. No other weight changes.

Method: Huang, Shen, Zhang, Zhou, Rong, Xiong, *Transformer-Patcher: One Mistake Worth One Neuron*, ICLR 2023, for
language models; there the incoming weights are trained, with a loss on remembered inputs. The port to vision
transformers is a design of ours (specification, section 6.3), and so is the closed form of the incoming weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from workbench.data.images import check_images
from workbench.editing.changes import AppendedUnits, WeightChange
from workbench.editing.editor import EditRequest
from workbench.editing.editors._base import EditorEntry
from workbench.editing.editors._feed_forward import FeedForward, read_tokens
from workbench.editing.editors._optimise import Course, check_classifier, check_count, check_positive
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError
from workbench.models import fingerprint

#: A unit's input is at least this at the image it is for, and at most minus this at images it must be silent on. From
#: there on a GELU is a ReLU: it is zero there, and its dip, through which it would write the opposite, is small.
_CLEAR = 6.0

#: Positions along a key that differ by less than this cannot be told apart in single precision.
_APART = 1e-3


class _Units(NamedTuple):
    """New hidden units, one an image: incoming weights, biases, and what they give at their own image."""

    keys: Float[Tensor, "batch dim"]
    bias: Float[Tensor, " batch"]
    peaks: Float[Tensor, " batch"]
    firing: int


class TPatcher:
    """Appends one hidden unit an image to the last block's feed-forward network.

    A unit looks at what fc1 sees where the head reads: at the class token, or at each of the pooled tokens. Its key is
    what it sees of the failing image (the mean over the tokens); with a memory, the direction that tells that from the
    memory's mean when lengths are measured by the memory's covariance, to whose diagonal its own mean is added.
    Along the key the failing image lies at 1, and the unit fires from `margin` of the way to 0 on, or of the way to the
    memory image that lies farthest along. It is silent at every memory image, but for those that lie at 1 too:
    `settings["memory_firing"]` of the result counts them.

    The edited model has another shape than its architecture says: it runs through `SplitViT.tail`, with the edit's
    weights.

    Args:
        model: A timm vision transformer with a head, in evaluation mode; it is never changed.
        margin: How far a unit reaches, in (0, 1).
        memory: Images on which the units must stay silent, (n, 3, H, W), in [0, 1].
        learning_rate: Adam's on what a unit writes at its image, in standard deviations of the network's output there.
        max_steps: Updates at most.
        stop_loss: Stop when every image is right and the mean cross-entropy is at or below this.

    Raises:
        InvalidInputError: a setting out of range, or a model that cannot be edited: also one whose hidden units are
            normalised or have no biases, where none can be appended.

    Example:
        >>> result = TPatcher(model, margin=0.5, memory=protected).edit(EditRequest(image, target=3))
        >>> logits = SplitViT(model, result.edit.first_block)(images, result.edit.weights(model))
    """

    def __init__(
        self,
        model: nn.Module,
        margin: float = 0.7,
        memory: Float[Tensor, "n 3 height width"] | None = None,
        learning_rate: float = 0.1,
        max_steps: int = 100,
        stop_loss: float = 0.01,
    ) -> None:
        check_positive(learning_rate=learning_rate, stop_loss=stop_loss)
        if not 0 < margin < 1:
            raise InvalidInputError(f"margin is {margin}; it must be above 0 and below 1")
        check_count(max_steps=max_steps)
        self.model = check_classifier(model)
        self.network = FeedForward(model, -1)
        if not isinstance(self.network.mlp.norm, nn.Identity):
            raise InvalidInputError(
                "this model normalises the hidden units of its feed-forward networks, so none can be appended; "
                "take another editor"
            )
        if self.network.mlp.fc1.bias is None:
            raise InvalidInputError(
                "the feed-forward networks of this model have no biases, so a new unit cannot be kept silent; take "
                "another editor"
            )
        self.margin, self.learning_rate = margin, learning_rate
        self.max_steps, self.stop_loss = max_steps, stop_loss
        self.base = fingerprint(model)
        self.memory = None if memory is None else self._read(memory)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit until every image is right and sure enough, or the steps are used up."""
        course = Course(self.model, request, self.stop_loss)
        network = self.network
        tokens = network.tokens(course.images)
        with torch.no_grad():
            inputs = network.inputs(tokens)
            output = network.mlp.fc2(network.hidden(tokens))
        read = read_tokens(self.model)
        units = self._units(inputs[:, read])
        with torch.no_grad():
            fired = network.mlp.act(F.linear(inputs, units.keys, units.bias)) / units.peaks
        written = torch.zeros_like(output[:, 0]).requires_grad_(True)
        optimiser = torch.optim.Adam([written], lr=self.learning_rate * float(output[:, read].std()))

        def update(loss: Tensor, step: int) -> None:
            (written.grad,) = torch.autograd.grad(loss, [written])
            optimiser.step()

        course.run(lambda: network.logits(tokens, output + fired @ written), update, self.max_steps)
        settings = {n: getattr(self, n) for n in ("margin", "learning_rate", "max_steps", "stop_loss")}
        settings |= {"memory": 0 if self.memory is None else len(self.memory), "memory_firing": units.firing}
        return course.result(self.base, self._changes(units, written.detach()), "t-patcher", settings)

    def _changes(self, units: _Units, written: Tensor) -> dict[str, WeightChange]:
        if not written.any():
            return {}
        values, before = written / units.peaks[:, None], self.network.mlp.fc1.out_features
        return {
            f"{self.network.address}.fc1": AppendedUnits(0, units.keys.cpu(), before, units.bias.cpu()),
            f"{self.network.address}.fc2": AppendedUnits(1, values.cpu(), before),
        }

    def _units(self, inputs: Float[Tensor, "batch read dim"]) -> _Units:
        means = inputs.mean(1)
        if self.memory is None:
            centre, keys = torch.zeros_like(means[0]), means
        else:
            centre = self.memory.mean((0, 1))
            keys = torch.linalg.solve(self._spread(centre), (means - centre).T).T
        own = torch.einsum("brd,bd->br", inputs - centre, keys).amax(1)
        nearest, firing = torch.zeros_like(own), 0
        if self.memory is not None:
            places = torch.einsum("nrd,bd->bnr", self.memory - centre, keys).amax(2) / own[:, None]
            apart = places < 1 - _APART
            nearest = torch.where(apart, places, 0).amax(1).clamp(min=0)
            firing = int((~apart).any(0).sum())
        reach = self.margin if self.memory is None else min(self.margin, 1 - self.margin)
        slope = _CLEAR / (reach * (1 - nearest))
        starts = 1 - self.margin * (1 - nearest)
        scaled = (slope / own)[:, None] * keys
        return _Units(scaled, -slope * starts - scaled @ centre, slope * (1 - starts), firing)

    def _spread(self, centre: Float[Tensor, " dim"]) -> Float[Tensor, "dim dim"]:
        """The memory's covariance with its ridge."""
        assert self.memory is not None  # for the type checker: it is asked for with a memory only
        apart = (self.memory - centre).flatten(0, 1)
        found = apart.T @ apart / len(apart)
        return found + found.diagonal().mean() * torch.eye(len(found)).to(found)

    def _read(self, images: Tensor) -> Float[Tensor, "n read dim"]:
        """What fc1 sees of images where the head reads."""
        check_images(images)
        read = read_tokens(self.model)
        with torch.no_grad():
            parts = [self.network.inputs(self.network.tokens(c))[:, read] for c in images.split(64)]
        return torch.cat(parts)


ENTRIES = (
    EditorEntry(
        "t-patcher",
        "T-Patcher",
        "append",
        "appends one hidden unit to the last block that fires for the failing image and writes the right class",
        "port",
        "Huang, Shen, Zhang, Zhou, Rong, Xiong: Transformer-Patcher: One Mistake Worth One Neuron. ICLR 2023",
        tuple({"margin": margin} for margin in (0.4, 0.6, 0.8, 0.9, 0.97)),
        TPatcher,
    ),
)
