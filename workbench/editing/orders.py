"""Several edits of one model together: what they both touch, and whether their order matters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.editing.conflicts import compose_all
from workbench.editing.edit import Edit
from workbench.errors import InvalidInputError
from workbench.models import SplitViT
from workbench.models.preprocessing import class_names


def overlap_table(edits: Sequence[Edit], names: Sequence[str]) -> pd.DataFrame:
    """One row for each pair of edits and address that both change: ``first``, ``second``, ``address``, ``units``."""
    rows = [
        {"first": names[i], "second": names[j], "address": address, "units": len(units)}
        for i, j in combinations(range(len(edits)), 2)
        for address, units in edits[i].overlap(edits[j]).items()
    ]
    return pd.DataFrame(rows, columns=["first", "second", "address", "units"])


def order_effect(
    model: nn.Module, edits: Sequence[Edit], images: Float[Tensor, "edits 3 height width"]
) -> pd.DataFrame:
    """What becomes of each edit's image with its own edit alone, and with all of them, in both orders.

    Changes are added to the weights, so the two orders differ by rounding at most; the table shows whether the edits
    still do what each was made for.

    Args:
        model: The model that the edits were made on.
        edits: In the order in which they are put in; the other order is the reverse.
        images: The image that each edit was made for, in [0, 1].

    Returns:
        One row an edit: ``wanted``, then ``alone``, ``in order``, ``reversed``, each with its probability of the
        wanted class (``p alone`` …).

    Raises:
        InvalidInputError: not one image an edit, or an edit that does not say what it was made for.
        CheckpointError: an edit was made on another model.

    Example:
        >>> order_effect(model, [first, second], torch.stack([image, other]))[["wanted", "alone", "in order"]]
    """
    if len(images) != len(edits):
        raise InvalidInputError(
            f"{len(images)} images for {len(edits)} edits; give the image of each, in order"
        )
    targets, names = [target_of(edit) for edit in edits], class_names(model)
    for edit in edits:
        edit.check_model(model)
    alone = torch.cat([_softmax(model, edit, image[None]) for edit, image in zip(edits, images, strict=True)])
    found = {
        "alone": alone,
        "in order": _softmax(model, compose_all(edits), images),
        "reversed": _softmax(model, compose_all(edits[::-1]), images),
    }
    columns: dict[str, list[object]] = {"wanted": [names[t] for t in targets]}
    for when, probabilities in found.items():
        columns[when] = [names[c] for c in probabilities.argmax(1).tolist()]
        columns[f"p {when}"] = [float(p[t]) for p, t in zip(probabilities, targets, strict=True)]
    return pd.DataFrame(columns)


def target_of(edit: Edit) -> int:
    """The class that an edit was made for; raises `InvalidInputError` where it does not say."""
    targets = edit.info.get("targets")
    if not targets:
        raise InvalidInputError("an edit does not say which class it was made for (no targets in its info)")
    return int(targets[0])


def _softmax(model: nn.Module, edit: Edit, images: Tensor) -> Tensor:
    split = SplitViT(model, edit.first_block or 0, edit.entry)
    with torch.no_grad():
        return split(images, edit.weights(model)).softmax(1)
