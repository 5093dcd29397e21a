"""What the editing benchmark edits: failure groups, measured and held out, and images whose predictions should stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.data import emoji
from workbench.data.emoji_population import classified
from workbench.data.failures import MIN_GROUP, FailureGroup, failure_groups
from workbench.data.views import augmented_views
from workbench.files import atomic_path
from workbench.models import fingerprint, logits_of

#: The style in which the model gets hardly anything wrong: its groups are made of new views of the drawings.
VIEWED_STYLE = "fluent-emoji"

#: New views of each of its drawings. A view is a drawing turned, scaled, moved and put on another background.
VIEW_ROUNDS = 12

#: Groups of views that are kept, the largest.
VIEW_GROUPS = 4

#: Seeds of these views, far from those of training, of the sensitive set and of other tests.
_FIRST_VIEW = 3_000_000_000

#: Groups are cut to this many images, the most confident failures.
LARGEST_GROUP = 26

#: Held-out groups: too small to be measured, large enough to have neighbours.
SMALLEST_HELD_OUT = 3


@dataclass(frozen=True)
class EditedGroup:
    """Failures of one style with one right and one wrong class, the most confident first.

    Args:
        name: ``"clock taken for sport (openmoji)"``.
        style: The emoji set; followed by ``" (views)"`` where the images are views of its drawings.
        images: In [0, 1], (n, 3, size, size).
        targets: Their right class, (n,).
    """

    name: str
    style: str
    images: Float[Tensor, "n 3 size size"]
    targets: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.images)

    def without_first(self, count: int) -> EditedGroup:
        """The same group without its first images."""
        return EditedGroup(self.name, self.style, self.images[count:], self.targets[count:])


class Population:
    """The groups of one model.

    Args:
        model: A classifier of the emoji kinds.
        folder: Keeps the views that were looked for, which takes minutes.
    """

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self.model, self.folder = model, folder

    @cached_property
    def measured(self) -> list[EditedGroup]:
        """Groups of at least six drawings, the largest first; then groups of views."""
        groups = [_group(g) for g in failure_groups(self.model)]
        return groups + self._view_groups()

    @cached_property
    def held_out(self) -> list[EditedGroup]:
        """Groups of three to five drawings, the largest first: none of them is measured."""
        groups = failure_groups(self.model, min_size=SMALLEST_HELD_OUT)
        return [_group(g) for g in groups if len(g) < MIN_GROUP]

    def near_misses(self, count: int) -> Float[Tensor, "count 3 size size"]:
        """Drawings of the held-out style that the model gets right most narrowly: none is in the sensitive set."""
        (style,) = emoji.styles("validation")
        images = emoji.on_white(emoji.drawings(style)[classified()])
        logits = logits_of(self.model, images)
        right = logits.argmax(1) == torch.from_numpy(emoji.labels()[classified()])
        top = logits.softmax(1).topk(2).values
        gaps = (top[:, 0] - top[:, 1]).masked_fill(~right, 2.0)
        return images[gaps.argsort()[:count]]

    def _view_groups(self) -> list[EditedGroup]:
        from safetensors.torch import load_file, save_file

        path = self.folder / f"views-{fingerprint(self.model)[:16]}-{VIEW_ROUNDS}.safetensors"
        if not path.exists():
            with atomic_path(path) as temporary:
                save_file(_failing_views(self.model), temporary)
        found = load_file(path)
        by_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i in found["confidence"].argsort(descending=True, stable=True).tolist():
            by_pair[int(found["true"][i]), int(found["wrong"][i])].append(i)
        style, names = f"{VIEWED_STYLE} (views)", emoji.kinds()
        groups = [
            EditedGroup(
                f"{names[true]} taken for {names[wrong]} ({style})",
                style,
                found["images"][chosen[:LARGEST_GROUP]],
                torch.full((len(chosen[:LARGEST_GROUP]),), true),
            )
            for (true, wrong), chosen in by_pair.items()
            if len(chosen) >= MIN_GROUP
        ]
        return sorted(groups, key=lambda g: (-len(g), g.name))[:VIEW_GROUPS]


def _group(group: FailureGroup) -> EditedGroup:
    return EditedGroup(group.name, group.style, group.images[:LARGEST_GROUP], group.targets[:LARGEST_GROUP])


def _failing_views(model: nn.Module) -> dict[str, Tensor]:
    """Views of the viewed style that the model gets wrong: images, classes, confidence."""
    pixels = emoji.drawings(VIEWED_STYLE)[classified()]
    labels = torch.from_numpy(emoji.labels()[classified()]).long()
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for view in tqdm(range(VIEW_ROUNDS), desc=f"views of {VIEWED_STYLE}", disable=None):
        images = augmented_views(pixels, _FIRST_VIEW + view)
        best = logits_of(model, images).softmax(1).max(1)
        failed = best.indices != labels
        for name, values in (
            ("images", images),
            ("true", labels),
            ("wrong", best.indices),
            ("confidence", best.values),
        ):
            parts[name].append(values[failed])
    return {name: torch.cat(values).contiguous() for name, values in parts.items()}


def by_name(groups: Sequence[EditedGroup]) -> dict[str, EditedGroup]:
    """Groups by their name."""
    return {group.name: group for group in groups}
