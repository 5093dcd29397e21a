"""Knowledge neurons for vision transformers: find the hidden units that speak for the wrong class, and turn them.

Integrated gradients say how much each hidden unit adds to the probability of the wrong class; the outgoing weights of
those that add most are moved from the wrong class' direction to the right one's.

Method: Dai, Dong, Hao, Sui, Chang, Wei, *Knowledge Neurons in Pretrained Transformers*, ACL 2022, for language models;
from there come 20 integration steps and the threshold of 0.2 of the largest attribution. The port to vision
transformers is a design of ours (specification, section 6.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workbench.editing.changes import Change, WeightChange
from workbench.editing.editor import EditRequest
from workbench.editing.editors._base import EditorEntry
from workbench.editing.editors._feed_forward import FeedForward, read_tokens
from workbench.editing.editors._optimise import Course, check_classifier, check_count, check_positive
from workbench.editing.space import EditSpace
from workbench.editing.trajectory import EditResult
from workbench.errors import InvalidInputError
from workbench.models import SplitViT, fingerprint


class KnowledgeNeurons:
    """Finds the units of all blocks that speak for the wrong class, and turns their outgoing weights.

    The wrong class is the likeliest one that is not wanted. Attributions are taken where the head reads: at the class
    token, or, summed, at the tokens that are pooled; they are averaged over the images of a request. A chosen unit's
    column of fc2 changes so that what the unit writes to the residual stream (after the layer scale) moves by
    `strength` times its own length towards the right class' direction, and as far away from the wrong one's. A class'
    direction is its row of the head, pulled back through pooling and final norm: the gradient of its logit in the last
    block's output at the failing images, at length 1.

    Args:
        model: A timm vision transformer with a head, in evaluation mode; it is never changed.
        strength: How far a unit is turned, in lengths of what it writes.
        threshold: Units with at least this share of the largest attribution are turned, in (0, 1].
        count: Turn this many units instead, those with the largest attributions.
        steps: Points of the integral.
        blocks: Blocks to look at, 0-based; None for all.

    Raises:
        InvalidInputError: a setting out of range, or a model that cannot be edited.

    Example:
        >>> editor = KnowledgeNeurons(model, strength=0.2)
        >>> editor.edit(EditRequest(image, target=3)).edit.changes["blocks.8.mlp.fc2"].index
    """

    def __init__(
        self,
        model: nn.Module,
        strength: float = 0.3,
        threshold: float = 0.2,
        count: int | None = None,
        steps: int = 20,
        blocks: Iterable[int] | None = None,
    ) -> None:
        check_positive(strength=strength)
        check_count(steps=steps, **({} if count is None else {"count": count}))
        if not 0 < threshold <= 1:
            raise InvalidInputError(f"threshold is {threshold}; it must be above 0 and at most 1")
        self.model = check_classifier(model)
        every = range(len(self.model.blocks))
        self.blocks = EditSpace.of(model, every if blocks is None else blocks).blocks
        self.strength, self.threshold, self.count, self.steps = strength, threshold, count, steps
        self.networks = [FeedForward(model, block) for block in self.blocks]
        self.split = SplitViT(model, self.blocks[0])
        self.base = fingerprint(model)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit at once: two states. `succeeded` says whether all images are right afterwards."""
        course = Course(self.model, request)
        tokens = self.split.prefix(course.images)
        with torch.no_grad():
            logits = self.split.tail(tokens)
        course.note(logits)
        targets = course.targets.to(logits.device)
        wrong = _likeliest_other(logits, targets)
        scores = torch.stack([attributions(n, course.images, wrong, self.steps) for n in self.networks])
        direction = self._direction(course.images, targets, wrong)
        changes = self._changes(self.chosen(scores.mean(1)), direction)
        weights = {a: c.added_to(self.model.get_parameter(f"{a}.weight")) for a, c in changes.items()}
        with torch.no_grad():
            course.note(self.split.tail(tokens, weights))
        settings = {n: getattr(self, n) for n in ("strength", "threshold", "count", "steps", "blocks")}
        return course.result(self.base, changes, "knowledge-neurons", settings)

    def chosen(self, scores: Float[Tensor, "blocks units"]) -> Bool[Tensor, "blocks units"]:
        """The units to turn, by their attributions: never one that speaks against the wrong class."""
        if self.count is None:
            return (scores >= self.threshold * scores.max()) & (scores > 0)
        kept = torch.zeros_like(scores, dtype=torch.bool).flatten()
        kept[scores.flatten().topk(min(self.count, scores.numel())).indices] = True
        return kept.view_as(scores) & (scores > 0)

    def _direction(self, images: Tensor, targets: Tensor, wrong: Tensor) -> Float[Tensor, " dim"]:
        """From the wrong class to the right one in the residual stream, averaged over the images."""
        last = FeedForward(self.model, -1)
        tokens = last.tokens(images)
        with torch.no_grad():
            output = last.mlp.fc2(last.hidden(tokens))
        tokens.requires_grad_(True)  # the output is a constant, so this is the gradient in their sum
        logits = last.logits(tokens, output)
        units = []
        for classes in (targets, wrong):
            found = logits.gather(1, classes[:, None]).sum()
            (gradient,) = torch.autograd.grad(found, tokens, retain_graph=True)
            units.append(nn.functional.normalize(gradient.sum(1), dim=1))
        return (units[0] - units[1]).mean(0)

    def _changes(self, chosen: Tensor, direction: Tensor) -> Mapping[str, WeightChange]:
        changes: dict[str, WeightChange] = {}
        for network, mask in zip(self.networks, chosen, strict=True):
            index = mask.nonzero().flatten()
            if len(index):
                changes[f"{network.address}.fc2"] = self._turned(network, index, direction)
        return changes

    def _turned(self, network: FeedForward, index: Tensor, direction: Tensor) -> Change:
        scale = network.scale
        columns = network.mlp.fc2.weight.detach()[:, index].T
        lengths = (columns * scale).norm(dim=1, keepdim=True)
        # A channel that the layer scale shuts cannot be written to.
        inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
        delta = self.strength * lengths * (direction * inverse)
        return Change(1, index.cpu(), delta.cpu())


def attributions(
    network: FeedForward,
    images: Float[Tensor, "batch 3 height width"],
    classes: Int[Tensor, " batch"],
    steps: int = 20,
) -> Float[Tensor, "batch units"]:
    """How much each hidden unit of a block adds to the probability of a class: integrated gradients.

    The baseline is zero activation where the head reads; other tokens keep theirs. The integral is the midpoint rule.
    Over all units they add up to the probability minus the one at the baseline.

    Args:
        network: The block's feed-forward network.
        images: In [0, 1].
        classes: One an image.
        steps: Points of the integral; one backward pass runs them together.
    """
    tokens, read = network.tokens(images), read_tokens(network.model)
    with torch.no_grad():
        hidden = network.hidden(tokens)
        output = network.mlp.fc2(hidden)
    shares = ((torch.arange(steps, device=hidden.device) + 0.5) / steps).view(-1, 1, 1)
    found = []
    for i, wanted in enumerate(classes.tolist()):
        own = hidden[i, read]
        part = (shares * own).requires_grad_(True)
        along = output[i].repeat(steps, 1, 1)
        along[:, read] = network.mlp.fc2(part)
        logits = network.logits(tokens[i].expand(steps, -1, -1), along)
        (gradient,) = torch.autograd.grad(logits.softmax(1)[:, wanted].sum(), part)
        found.append((own * gradient.mean(0)).sum(0))
    return torch.stack(found)


def _likeliest_other(logits: Tensor, targets: Tensor) -> Tensor:
    """The likeliest class of each image that is not the one wanted."""
    return logits.scatter(1, targets[:, None], float("-inf")).argmax(1)


ENTRIES = (
    EditorEntry(
        "knowledge-neurons",
        "Knowledge neurons",
        "locate",
        "turns the hidden units that add most to the wrong class' probability from its direction to the right one's",
        "port",
        "Dai, Dong, Hao, Sui, Chang, Wei: Knowledge Neurons in Pretrained Transformers. ACL 2022",
        tuple({"strength": strength} for strength in (0.05, 0.1, 0.2, 0.3, 0.5)),
        KnowledgeNeurons,
    ),
)
