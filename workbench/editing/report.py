"""What an edit did, for the person who asked for it: to its image, to neighbours, to everything else, to the weights.

Everything here is computed once and kept as values; `EditReport.to_markdown` writes it as text, and
`workbench.runs.write_edit_page` as a page with figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from torch import Tensor, nn

from workbench.data.own_images import OwnCase, OwnImages
from workbench.editing.changes import AppendedUnits, ChangeSequence, LowRankChange, WeightChange
from workbench.editing.edit import Edit
from workbench.editing.judging import Judge
from workbench.editing.metrics import locality
from workbench.editing.trajectory import EditResult


@dataclass(frozen=True)
class Neighbours:
    """Other images of the edited image's right class, before and after the edit.

    Only those that the unedited model gets wrong count towards GR; the edited image itself does not.

    Args:
        own: The images.
        target: Their right class.
        before: Predictions of the unedited model, (n,).
        after: Predictions with the edit, (n,).
    """

    own: OwnImages
    target: int
    before: Int[Tensor, " n"]
    after: Int[Tensor, " n"]

    @property
    def wrong(self) -> np.ndarray:
        """Positions of those that were wrong before: those that count."""
        return np.flatnonzero((self.before != self.target).numpy())

    @property
    def fixed(self) -> np.ndarray:
        """Positions of those that were wrong and are right."""
        return np.flatnonzero(((self.before != self.target) & (self.after == self.target)).numpy())

    @property
    def still_wrong(self) -> np.ndarray:
        """Positions of those that were wrong and are not right."""
        return np.setdiff1d(self.wrong, self.fixed)

    @property
    def lost(self) -> np.ndarray:
        """Positions of those that were right and are wrong."""
        return np.flatnonzero(((self.before == self.target) & (self.after != self.target)).numpy())

    @property
    def gr(self) -> float | None:
        """Share of the wrong ones that are right now; None where none was wrong."""
        return len(self.fixed) / len(self.wrong) if len(self.wrong) else None

    def sentence(self) -> str:
        """GR in words, with how many were left out."""
        left_out = len(self.own) - len(self.wrong)
        lost = f", {len(self.lost)} of them lost" if left_out else ""
        if self.gr is None:
            return f"GR undefined: all {len(self.own)} neighbours were right before the edit{lost}"
        rest = f"; {left_out} were right before and are left out{lost}" if left_out else ""
        return (
            f"GR {self.gr:.3f}: {len(self.fixed)} of {len(self.wrong)} wrong neighbours are right now{rest}"
        )


@dataclass(frozen=True)
class Protected:
    """Images whose predictions should stay, before and after the edit.

    Args:
        own: The images.
        before: Predictions of the unedited model, (n,).
        after: Predictions with the edit, (n,).
    """

    own: OwnImages
    before: Int[Tensor, " n"]
    after: Int[Tensor, " n"]

    @property
    def changed(self) -> np.ndarray:
        """Positions of those whose prediction is another one now."""
        return np.flatnonzero((self.before != self.after).numpy())

    @property
    def lr(self) -> float | None:
        """Share of those that kept their prediction."""
        return locality(self.before, self.after)

    def sentence(self) -> str:
        """LR in words."""
        kept = len(self.own) - len(self.changed)
        score = "undefined" if self.lr is None else f"{self.lr:.3f}"
        return f"LR {score}: {kept} of {len(self.own)} protected images kept their prediction"


@dataclass(frozen=True)
class EditReport:
    """One edit and what came of it.

    Args:
        model: What the model is called: a name or a file.
        image: What the edited image is called.
        editor: Name of the editor.
        result: The edit and its course.
        neighbours: Other images of the right class, where some were given.
        protected: Images that should stay as they are, where some were given.

    Example:
        >>> report = EditReport.of(model, result, case, model_name="emoji_vit_s14", editor="learned-mask")
        >>> print(*report.sentences(), sep="\\n")
        SR 1.000: the image is right
        GR 0.833: 5 of 6 wrong neighbours are right now
    """

    model: str
    image: str
    editor: str
    result: EditResult
    neighbours: Neighbours | None = None
    protected: Protected | None = None

    @classmethod
    def of(
        cls, model: nn.Module, result: EditResult, case: OwnCase, *, model_name: str, editor: str
    ) -> EditReport:
        """Judge the edit of a user's image on the images around it.

        Args:
            model: The unedited model.
            result: The edit.
            case: What was edited; the edited image is left out of its neighbours if it is among them.
            model_name: What the model is called.
            editor: Name of the editor.
        """
        judge = Judge(model, case.image[None])

        def predicted(own: OwnImages) -> tuple[Tensor, Tensor]:
            return judge.predictions([], own.images), judge.predictions(result.edit, own.images)

        near = None if case.neighbours is None else case.neighbours.without(case.image)
        far = case.protected
        return cls(
            model_name,
            case.name,
            editor,
            result,
            None if near is None else Neighbours(near, case.target, *predicted(near)),
            None if far is None else Protected(far, *predicted(far)),
        )

    def sentences(self) -> list[str]:
        """SR and, where there were images to judge it on, GR and LR, in words."""
        result = self.result
        state = "right" if result.reliability == 1 else "still wrong"
        probability = float(result.probabilities[-1, result.targets[0]])
        sure = f"{result.target_name!r} has probability {probability:.3f}"
        found = [f"SR {result.reliability:.3f}: the image is {state}, {sure}"]
        if self.neighbours is not None:
            found.append(self.neighbours.sentence())
        if self.protected is not None:
            found.append(self.protected.sentence())
        return found

    def likeliest(self, count: int = 5) -> pd.DataFrame:
        """The likeliest classes before and after: ``before``, ``p before``, ``after``, ``p after``, by rank."""
        columns: dict[str, Any] = {}
        for when, state in (("before", 0), ("after", -1)):
            probabilities, classes = self.result.probabilities[state].topk(
                min(count, self.result.probabilities.shape[1])
            )
            columns[when] = [self.result.class_names[c] for c in classes.tolist()]
            columns[f"p {when}"] = probabilities.tolist()
        return pd.DataFrame(columns)

    def facts(self) -> dict[str, str]:
        """Model, fingerprint, image, editor, outcome and every setting, as text by name."""
        edit = self.result.edit
        made = {name: edit.info[name] for name in ("mask", "sparsity") if name in edit.info}
        return {
            "model": self.model,
            "fingerprint": edit.base,
            "image": self.image,
            "editor": self.editor,
            "outcome": self.result.outcome(),
            "scalars changed": f"{edit.parameters:,}",
            **{
                name: plain(value)
                for name, value in {**made, **self.result.settings}.items()
                if name != "editor"
            },
        }

    def to_markdown(self) -> str:
        """The report as Markdown: what changed, the predictions, the images, the settings."""
        parts = [f"# {self.image}: {self.result.outcome()}", "", *(f"- {s}" for s in self.sentences())]
        parts += ["", "## What the model sees in it", "", _markdown_table(self.likeliest())]
        parts += ["", "## What changed in the model", "", _markdown_table(change_table(self.result.edit))]
        if self.neighbours is not None:
            table = self.image_table(self.neighbours, self.neighbours.wrong)
            parts += ["", "## Neighbours that were wrong", "", _markdown_table(table)]
        if self.protected is not None:
            table = self.image_table(self.protected, self.protected.changed)
            parts += ["", "## Protected images that changed", "", _markdown_table(table)]
        facts = pd.DataFrame(self.facts().items(), columns=["setting", "value"])
        parts += ["", "## Settings", "", _markdown_table(facts)]
        return "\n".join(parts) + "\n"

    def image_table(self, judged: Neighbours | Protected, positions: Iterable[int]) -> pd.DataFrame:
        """``image``, ``before`` and ``after`` of some of the judged images."""
        names, chosen = self.result.class_names, list(positions)
        return pd.DataFrame(
            {
                "image": [judged.own.names[i] for i in chosen],
                "before": [names[judged.before[i]] for i in chosen],
                "after": [names[judged.after[i]] for i in chosen],
            }
        )


def change_table(edit: Edit) -> pd.DataFrame:
    """One row an address: ``address``, ``change`` (its kind), ``units`` touched, ``scalars`` held, ``length``.

    The length is the Euclidean one of the whole change; where several changes of one weight follow each other, it is
    an upper bound.

    Example:
        >>> change_table(edit).loc[0, ["address", "change", "units"]].tolist()
        ['blocks.7.mlp.fc1', 'rows', 107]
    """
    rows = [
        {
            "address": address,
            "change": _kind(change),
            "units": len(change.index),
            "scalars": change.parameters,
            "length": float(change.norms().double().norm()),
        }
        for address, change in edit.changes.items()
    ]
    return pd.DataFrame(rows, columns=["address", "change", "units", "scalars", "length"])


def _kind(change: WeightChange) -> str:
    if isinstance(change, LowRankChange):
        return f"rank {change.left.shape[1]}"
    if isinstance(change, ChangeSequence):
        return ", then ".join(_kind(part) for part in change.parts)
    units = "rows" if change.axis == 0 else "columns"
    return f"new {units}" if isinstance(change, AppendedUnits) else units


def _markdown_table(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "none"
    right = ["---:" if pd.api.types.is_numeric_dtype(kind) else "---" for kind in frame.dtypes]
    lines: list[Sequence[str]] = [list(map(str, frame.columns)), right]
    lines += [[cell(value).replace("|", "\\|") for value in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """A table's cell as text: floats with four decimals, whole numbers with commas."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def plain(value: object) -> str:
    """A setting as short text: numbers without trailing zeros, lists and mappings with commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
