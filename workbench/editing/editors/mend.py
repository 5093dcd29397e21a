"""MEND for vision transformers: a trained network turns one gradient into one good update.

The failing image's gradient in the edited matrices comes as pairs of vectors, one a token; the network edits the pairs,
and their products are the update. Method, network and training: `mend_network`, `mend_training`.
"""

from __future__ import annotations

import torch
from torch import nn

from workbench.checkpoints import list_checkpoints, read_card, shipped_path
from workbench.editing.changes import Change, LowRankChange, WeightChange
from workbench.editing.editor import EditRequest
from workbench.editing.editors._base import EditorEntry
from workbench.editing.editors._optimise import Course, check_classifier, check_positive
from workbench.editing.editors.mend_network import Factors, MendNetwork, gradient_factors
from workbench.editing.space import EditSpace
from workbench.editing.trajectory import EditResult
from workbench.errors import CheckpointError, MissingDataError
from workbench.models import SplitViT, fingerprint

_NAME = "mend"


class Mend:
    """Edits with one gradient and a trained network.

    Several images give the sum of their updates over their number, as the gradient of the mean loss would.

    Args:
        model: A timm vision transformer with a head.
        network: Trained for it; None takes the one that is shipped for it.
        factor: Factor on the update; 1 is what the network was trained with.

    Raises:
        MissingDataError: no network is shipped for this model.
        CheckpointError: the network belongs to another model.

    Example:
        >>> Mend(load_model("emoji_vit_s14"), factor=0.5).edit(EditRequest(image, target=3)).steps
        1
    """

    def __init__(self, model: nn.Module, network: MendNetwork | None = None, factor: float = 1.0) -> None:
        check_positive(factor=factor)
        self.model = check_classifier(model)
        self.base = fingerprint(model)
        self.network = shipped_network(self.base) if network is None else network
        self.network.check_base(self.base)
        self.factor = factor
        found = EditSpace.of(model, self.network.space.blocks)
        if found != self.network.space:
            raise CheckpointError(
                f"this MEND network edits {self.network.space.units} units of width {self.network.space.width}, the "
                f"model has {found.units} of width {found.width}; train one: workbench train mend --model NAME"
            )
        self.split = SplitViT(model, found.blocks[0])

    def edit(self, request: EditRequest) -> EditResult:
        """Edit at once: two states. `succeeded` says whether all images are right afterwards."""
        course = Course(self.model, request)
        tokens = self.split.prefix(course.images)
        logits, gradients = gradient_factors(self.split, self.network.space, tokens, course.targets)
        course.note(logits)
        place = self.network.log_rates.device
        with torch.no_grad():
            updates = self.network({a: Factors(*(t.to(place) for t in p)) for a, p in gradients.items()})
        scale = self.factor / len(course.images)
        changes = {a: change for a, pair in updates.items() if (change := _change(pair, scale)) is not None}
        weights = {a: c.added_to(self.model.get_parameter(f"{a}.weight")) for a, c in changes.items()}
        with torch.no_grad():
            course.note(self.split.tail(tokens, weights))
        settings = {"factor": self.factor, "blocks": self.network.space.blocks}
        return course.result(self.base, changes, _NAME, settings)


def shipped_network(base: str) -> MendNetwork:
    """The MEND network that is shipped for the model of a fingerprint; raises `MissingDataError` if there is none."""
    for name in list_checkpoints("mend"):
        if read_card(shipped_path("mend", name).with_suffix(".json")).extra["base"] == base:
            return MendNetwork.load(name)
    raise MissingDataError(
        f"no MEND network is shipped for a model with fingerprint {base[:12]}…; train one with "
        "`workbench train mend --model NAME` and pass network=MendNetwork.load(PATH)"
    )


def _change(pair: Factors, scale: float) -> WeightChange | None:
    """The update of one weight in the form that takes less room; None for a weight without gradient."""
    errors, inputs = pair.errors.flatten(0, 1).cpu(), pair.inputs.flatten(0, 1).cpu()
    felt = (errors != 0).any(dim=1)
    if not felt.any():
        return None
    left, right = scale * errors[felt].T, inputs[felt].contiguous()
    if left.numel() + right.numel() < len(left) * right.shape[1]:
        return LowRankChange(left.contiguous(), right)
    return Change(0, torch.arange(len(left)), left @ right)


ENTRIES = (
    EditorEntry(
        _NAME,
        "MEND",
        "meta",
        "turns the failing image's gradient into an update with a network trained on CutMix pseudo-failures",
        "port",
        "Mitchell, Lin, Bosselut, Finn, Manning: Fast Model Editing at Scale. ICLR 2022",
        tuple({"factor": factor} for factor in (0.25, 0.5, 1.0, 2.0, 4.0)),
        Mend,
    ),
)
