"""ROME for vision transformers: one feed-forward network is told what to answer to one hidden activation.

fc2 of a block is read as a memory, from keys (hidden activations) to values (outputs). The value that makes the model
right is found by optimisation, and the change of fc2 that puts it in is the one that moves usual keys' values least.

Method: Meng, Bau, Andonian, Belinkov, *Locating and Editing Factual Associations in GPT*, NeurIPS 2022, for language
models; from there come 20 steps of Adam at 0.5, the weights of decay and KL, and the clamp at 4 norms. The port to
vision transformers is a design of ours (specification, section 6.3). Several images are put in together by least
squares, in the way of MEMIT (Meng, Sen Sharma, Andonian, Belinkov, Bau, ICLR 2023), in one block.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from workbench.editing.changes import LowRankChange
from workbench.editing.editor import EditRequest
from workbench.editing.editors._base import EditorEntry
from workbench.editing.editors._feed_forward import FeedForward, read_tokens
from workbench.editing.editors._optimise import Course, check_classifier, check_count, check_positive
from workbench.editing.editors.rome_keys import image_covariance, source_covariance
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError
from workbench.models import fingerprint
from workbench.models.split import Tokens


class Rome:
    """Writes one value an image into fc2 of one block.

    The key is the hidden activation where the head reads: at the class token, or the mean over the pooled tokens. The
    value is the output there, changed so that the model is right. Its loss is the cross-entropy, plus a price on the
    change's length, plus one on changing the odds among the classes that the edit is not about (all but the wanted one
    and the one predicted: the published method asks other prompts here, and one image has no others). While it is
    sought only the read tokens' outputs move; the change of fc2 then acts on all tokens.

    Args:
        model: A timm vision transformer with a head, in evaluation mode; it is never changed.
        keys: Images that the model gets right, (n, 3, H, W), in [0, 1]: their keys are the ones to change little. By
            default, for a classifier of the emoji kinds, the drawings of the source styles that it gets right. What is
            computed from them is kept in the cache.
        covariance: The uncentred covariance of usual keys itself, (units, units), or ``"identity"`` for the plain
            smallest change; in place of `keys`.
        block: The block that changes, 0-based, negative ones from the end. The last one had the best trade-off among
            5 to 11 in a small trial with the default model.
        strength: How much of the change is made; at 1, without `ridge`, the key gives exactly the value.
        ridge: Added to the covariance's diagonal, in units of its mean: a large one makes it the identity.
        steps: Updates of the value at most; it is good enough at a loss below 0.05, prices included.
        learning_rate: Adam's on the value, in units of the root mean square of the old one.
        decay: Price of the value's squared change, in units of the old one's squared length.
        kl_weight: Price of changed odds among the other classes.
        clamp: Largest change of the value, in lengths of the old one.

    Raises:
        InvalidInputError: a setting out of range, a model that cannot be edited, or one that has no default keys.

    Example:
        >>> editor = Rome(model, block=-1)
        >>> editor.edit(EditRequest(image, target=3)).edit.changes["blocks.11.mlp.fc2"].left.shape
        torch.Size([384, 1])
    """

    def __init__(
        self,
        model: nn.Module,
        keys: Float[Tensor, "n 3 height width"] | None = None,
        covariance: Float[Tensor, "units units"] | Literal["identity"] | None = None,
        block: int = -1,
        strength: float = 1.0,
        ridge: float = 1.0,
        steps: int = 20,
        learning_rate: float = 0.5,
        decay: float = 0.5,
        kl_weight: float = 0.0625,
        clamp: float = 4.0,
    ) -> None:
        check_positive(strength=strength, learning_rate=learning_rate, clamp=clamp)
        check_count(steps=steps)
        for name, value in (("ridge", ridge), ("decay", decay), ("kl_weight", kl_weight)):
            if not value >= 0:
                raise InvalidInputError(f"{name} is {value}; it must be at least 0")
        if keys is not None and covariance is not None:
            raise InvalidInputError("keys and covariance say the same thing; give one of them")
        self.model = check_classifier(model)
        self.network = FeedForward(model, block)
        self.base = fingerprint(model)
        self.strength, self.ridge, self.clamp = strength, ridge, clamp
        self.steps, self.learning_rate = steps, learning_rate
        self.decay, self.kl_weight = decay, kl_weight
        self.covariance, self._origin = self._usual(keys, covariance)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit at once: two states. `succeeded` says whether all images are right afterwards."""
        course = Course(self.model, request)
        network, read = self.network, read_tokens(self.model)
        tokens = network.tokens(course.images)
        with torch.no_grad():
            hidden = network.hidden(tokens)
            output = network.mlp.fc2(hidden)
            course.note(network.logits(tokens, output))
        steps = self._value_changes(tokens, output, course.targets.to(output.device))
        keys = hidden[:, read].mean(1)
        change = smallest_change(keys.cpu(), self.strength * steps.cpu(), self.covariance)
        with torch.no_grad():
            weight = change.added_to(network.mlp.fc2.weight)
            course.note(network.logits(tokens, F.linear(hidden, weight, network.mlp.fc2.bias)))
        names = ("strength", "ridge", "steps", "learning_rate", "decay", "kl_weight", "clamp")
        settings = {n: getattr(self, n) for n in names} | {"block": network.block, "keys": self._origin}
        return course.result(self.base, {f"{network.address}.fc2": change}, "rome", settings)

    def _usual(
        self, keys: Tensor | None, covariance: Tensor | str | None
    ) -> tuple[Float[Tensor, "units units"], str]:
        """The covariance with its ridge, in double precision, and where it is from."""
        units = self.network.mlp.fc2.in_features
        if covariance is None:
            origin = "source drawings" if keys is None else f"{len(keys)} images"
            found = source_covariance(self.network) if keys is None else image_covariance(self.network, keys)
        elif isinstance(covariance, str):
            if covariance != "identity":
                raise InvalidInputError(f"covariance is {covariance!r}; give a matrix, or 'identity'")
            found, origin = torch.eye(units), "identity"
        else:
            found, origin = covariance, "given covariance"
        if found.shape != (units, units) or not torch.isfinite(found).all():
            raise InvalidInputError(
                f"the covariance is {tuple(found.shape)}; it must be ({units}, {units}), for the units of block "
                f"{self.network.block}, and finite"
            )
        found = found.cpu().double()
        return found + self.ridge * found.diagonal().mean() * torch.eye(units, dtype=found.dtype), origin

    def _value_changes(
        self, tokens: Tokens, output: Tokens, targets: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """What is to be added to the value of each image, found image by image (they do not meet in the loss)."""
        read = read_tokens(self.model)
        old = output[:, read].mean(1)
        size = old.square().mean(1, keepdim=True).sqrt()
        longest = self.clamp * old.shape[1] ** 0.5
        steps = torch.zeros_like(old).requires_grad_(True)  # in units of `size`
        optimiser = torch.optim.Adam([steps], lr=self.learning_rate)
        with torch.no_grad():
            before = self.network.logits(tokens, output)
        for made in range(self.steps + 1):
            moved = output.clone()
            moved[:, read] = moved[:, read] + (size * steps)[:, None]
            logits = self.network.logits(tokens, moved)
            prices = self.kl_weight * odds_changed(
                before, logits, targets
            ) + self.decay * steps.square().mean(1)
            losses = F.cross_entropy(logits, targets, reduction="none") + prices
            if made == self.steps or bool((losses < _GOOD_ENOUGH).all()):
                break
            (steps.grad,) = torch.autograd.grad(losses.sum(), [steps])
            optimiser.step()
            with torch.no_grad():
                steps.mul_((longest / steps.norm(dim=1, keepdim=True)).clamp(max=1))
        return (size * steps).detach()


#: A value whose loss is below this is not sought any further (published: 0.05).
_GOOD_ENOUGH = 0.05


def odds_changed(
    before: Float[Tensor, "batch classes"],
    after: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """KL divergence from `before` to `after`, both among the classes that an edit is not about.

    Those are all but the wanted class and the likeliest other one; 0 where there are none.
    """
    about = torch.zeros_like(before, dtype=torch.bool).scatter(1, targets[:, None], True)
    likeliest = before.masked_fill(about, float("-inf")).argmax(1, keepdim=True)
    about = about.scatter(1, likeliest, True)
    lowest = torch.finfo(before.dtype).min
    old, new = (logits.masked_fill(about, lowest).log_softmax(1) for logits in (before, after))
    return (old.exp() * (old - new)).masked_fill(about, 0).sum(1)


def smallest_change(
    keys: Float[Tensor, "n units"], steps: Float[Tensor, "n dim"], covariance: Float[Tensor, "units units"]
) -> LowRankChange:
    """The change D of a weight with D k = step for every key, for which trace(D C Dᵀ) is smallest.

    For one key that is step (C⁻¹ k)ᵀ / (kᵀ C⁻¹ k). Where keys repeat or depend on each other and the steps
    do not agree, D is the least-squares solution. It is computed in double precision.

    Args:
        keys: What the weight sees.
        steps: What is to be added to its outputs.
        covariance: C, positive definite.
    """
    wide = keys.double()
    whitened = torch.linalg.solve(covariance.double(), wide.T).T
    left = steps.double().T @ torch.linalg.pinv(wide @ whitened.T, hermitian=True)
    return LowRankChange(left.to(keys.dtype).contiguous(), whitened.to(keys.dtype).contiguous())


ENTRIES = (
    EditorEntry(
        "rome",
        "ROME",
        "locate",
        "changes fc2 of one block by rank one, so that the failing image's hidden activation gives the right class",
        "port",
        "Meng, Bau, Andonian, Belinkov: Locating and Editing Factual Associations in GPT. NeurIPS 2022",
        tuple({"strength": strength} for strength in (0.5, 1.0, 2.0, 4.0, 8.0)),
        Rome,
    ),
)
