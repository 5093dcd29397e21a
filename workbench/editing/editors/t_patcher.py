"""T-Patcher for vision transformers: one more hidden unit in the last block, that fires for the failing image.

The unit's incoming weights and bias say when it fires, and are set at once; its outgoing weights say what it then
writes, and are optimised. No other weight changes.

Method: Huang, Shen, Zhang, Zhou, Rong, Xiong, *Transformer-Patcher: One Mistake Worth One Neuron*, ICLR 2023, for
language models; there the incoming weights are trained, with a loss on remembered inputs. The port to vision
transformers is a design of ours (specification, section 6.3), and so is the closed form of the incoming weights.
"""

from __future__ import annotations

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

#: A unit's input at the image it is for, and at most at images it must be silent on. From these on a GELU is a ReLU:
#: its dip below zero, through which the unit would write the opposite for other images, is small beside the peak.
_FIRES, _SILENT = 6.0, -6.0


class TPatcher:
    """Appends one hidden unit an image to the last block's feed-forward network.

    A unit's key is the direction from the mean of the memory (from zero without one) to what fc1 sees of the failing
    image where the head reads: at the class token, or, averaged, at the tokens that are pooled. Its input falls from 6
    at the image (at the read token that lies farthest along the key) to 0 at the margin, or faster, so that it is at
    most -6 at every read token of every memory image, where a GELU is zero. A memory image that lies as far along
    the key as the failing one cannot be kept silent; `settings["memory_firing"]` of the result counts them.

    The edited model has another shape than its architecture says: it runs through `SplitViT.tail`, with the edit's
    weights.

    Args:
        model: A timm vision transformer with a head, in evaluation mode; it is never changed.
        margin: How far a unit reaches: it fires down to a projection on its key that falls short of the failing
            image's by this share of it.
        memory: Images on which the units must stay silent, (n, 3, H, W), in [0, 1]; None: only the margin bounds them.
        learning_rate: Adam's on what a unit writes at its image, in units of the root mean square of the network's own
            output there.
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
        check_positive(margin=margin, learning_rate=learning_rate, stop_loss=stop_loss)
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
        own = inputs[:, read_tokens(self.model)]
        keys, bias, firing = self._keys(own)
        with torch.no_grad():
            fired = network.mlp.act(F.linear(inputs, keys, bias))
        values = torch.zeros(len(keys), output.shape[-1], requires_grad=True)
        size = float(output[:, read_tokens(self.model)].square().mean().sqrt())
        optimiser = torch.optim.Adam([values], lr=self.learning_rate * size / _FIRES)

        def update(loss: Tensor, step: int) -> None:
            (values.grad,) = torch.autograd.grad(loss, [values])
            optimiser.step()

        course.run(lambda: network.logits(tokens, output + fired @ values), update, self.max_steps)
        settings = {n: getattr(self, n) for n in ("margin", "learning_rate", "max_steps", "stop_loss")}
        settings |= {"memory": 0 if self.memory is None else len(self.memory), "memory_firing": firing}
        return course.result(self.base, self._changes(keys, bias, values.detach()), "t-patcher", settings)

    def _changes(self, keys: Tensor, bias: Tensor, values: Tensor) -> dict[str, WeightChange]:
        units = self.network.mlp.fc1.out_features
        if not values.any():
            return {}
        return {
            f"{self.network.address}.fc1": AppendedUnits(0, keys, units, bias),
            f"{self.network.address}.fc2": AppendedUnits(1, values, units),
        }

    def _keys(
        self, inputs: Float[Tensor, "batch read dim"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, " batch"], int]:
        """Incoming weights and biases of one unit an image, and how many memory images fire one all the same."""
        centre = torch.zeros(inputs.shape[-1]) if self.memory is None else self.memory.mean((0, 1))
        directions = F.normalize(inputs.mean(1) - centre, dim=1)
        own = torch.einsum("brd,bd->br", inputs - centre, directions).amax(1)
        slope = (_FIRES / self.margin) / own
        firing = 0
        if self.memory is not None:
            others = torch.einsum("nrd,bd->bnr", self.memory - centre, directions).amax(2)
            gap = own - others.amax(1)
            slope = torch.where(gap > 0, torch.maximum(slope, (_FIRES - _SILENT) / gap), slope)
            firing = int((_FIRES - slope[:, None] * (own[:, None] - others) > 0).any(0).sum())
        keys = slope[:, None] * directions
        return keys, _FIRES - slope * own - keys @ centre, firing

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
        tuple({"margin": margin} for margin in (0.4, 0.6, 0.7, 0.8, 1.0)),
        TPatcher,
    ),
)
