"""What a model gets wrong, in groups, and what it gets right only just.

A *failure* is a drawing of a shift style that the model takes for another class; a *failure group* is all failures
with the same (true class, wrong class, style). The *sensitive set* is the counterpart of the published locality
benchmark: images that the model gets right with a gap of less than 0.05 between the two likeliest classes.
Source: where-to-edit specification, sections 1 and 5.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.checkpoints import list_checkpoints, read_card, shipped_path
from workbench.data import emoji
from workbench.data.cache import cache_dir
from workbench.data.emoji_population import classified
from workbench.data.views import augmented_views
from workbench.errors import InvalidInputError
from workbench.files import atomic_path
from workbench.models.inference import logits_of
from workbench.models.loading import fingerprint
from workbench.models.preprocessing import class_count, class_names

#: A group holds at least this many drawings.
MIN_GROUP = 6

#: Largest gap between the two likeliest classes of a sensitive image.
SENSITIVE_GAP = 0.05


@dataclass(frozen=True)
class Failure:
    """A drawing that the model gets wrong.

    Args:
        style: The emoji set.
        concept: What is drawn.
        true: Its class index.
        wrong: The class index predicted.
        confidence: Probability of the wrong class.
        class_names: Names of all classes.
    """

    style: str
    concept: str
    true: int
    wrong: int
    confidence: float
    class_names: tuple[str, ...]

    @property
    def image(self) -> Float[Tensor, "3 size size"]:
        """The drawing on white, in [0, 1]."""
        return emoji.image(self.style, self.concept)

    @property
    def true_name(self) -> str:
        """Name of the right class."""
        return self.class_names[self.true]

    @property
    def wrong_name(self) -> str:
        """Name of the predicted class."""
        return self.class_names[self.wrong]

    def __str__(self) -> str:
        return f"{self.concept} ({self.style}): {self.true_name} taken for {self.wrong_name} ({self.confidence:.0%})"


@dataclass(frozen=True)
class FailureGroup:
    """All failures of one style with one right and one wrong class, the most confident first."""

    failures: tuple[Failure, ...]

    def __len__(self) -> int:
        return len(self.failures)

    @property
    def name(self) -> str:
        """``"mammal taken for bug-or-reptile (emojione-monotone)"``."""
        first = self.failures[0]
        return f"{first.true_name} taken for {first.wrong_name} ({first.style})"

    @property
    def style(self) -> str:
        """The emoji set."""
        return self.failures[0].style

    @property
    def images(self) -> Float[Tensor, "n 3 size size"]:
        """The drawings on white, in [0, 1]."""
        return torch.stack([failure.image for failure in self.failures])

    @property
    def targets(self) -> Int[Tensor, " n"]:
        """Their right class, (n,)."""
        return torch.tensor([failure.true for failure in self.failures])


@dataclass(frozen=True)
class SensitiveSet:
    """Images that the model gets right, with a small gap between the two likeliest classes.

    Args:
        images: In [0, 1], (n, 3, size, size).
        table: One row an image: ``style``, ``concept``, ``kind``, ``gap``, ``view`` (seed of the view).
        gap: The largest gap admitted.
    """

    images: Float[Tensor, "n 3 size size"]
    table: pd.DataFrame
    gap: float

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, count: int, seed: int = 0) -> SensitiveSet:
        """`count` of the images, drawn at random without replacement, in order (all where there are fewer)."""
        random = np.random.default_rng(seed)
        chosen = np.sort(random.permutation(len(self))[:count])
        return SensitiveSet(self.images[chosen], self.table.iloc[chosen].reset_index(drop=True), self.gap)


def failures(model: nn.Module, style: str) -> list[Failure]:
    """All drawings of a style that the model gets wrong, ordered by concept.

    Raises:
        UnknownNameError: no such style.
        InvalidInputError: the model is no classifier of the emoji kinds.

    Example:
        >>> failures(load_model("emoji_vit_s14"), "openmoji")[0].concept
        'admission-tickets'
    """
    emoji.check_style(style)
    probabilities = _logits(model, style).softmax(dim=1)
    names, labels = class_names(model), emoji.labels()
    concepts = emoji.concepts()["concept"]
    found = []
    for row, concept in enumerate(classified()):
        wrong = int(probabilities[row].argmax())
        if wrong != labels[concept]:
            confidence = float(probabilities[row, wrong])
            found.append(Failure(style, concepts[concept], int(labels[concept]), wrong, confidence, names))
    return found


def pick(model: nn.Module, style: str, index: int) -> Failure:
    """One failure of a style by number, so that neighbouring numbers are different failures.

    First comes the most confident failure of every group, the largest group first; then the second of every group,
    and so on.

    Raises:
        UnknownNameError: no such style.
        InvalidInputError: the model has fewer failures in that style.

    Example:
        >>> str(pick(load_model("emoji_vit_s14"), "openmoji", 0))
        'ten-oclock (openmoji): clock taken for sport (97%)'
    """
    groups = failure_groups(model, (style,), min_size=1)
    found = [f for rank in zip_longest(*(group.failures for group in groups)) for f in rank if f is not None]
    if not 0 <= index < len(found):
        among = f"give an index in 0..{len(found) - 1}" if found else "choose another style"
        raise InvalidInputError(
            f"failure {index} of style {style!r} is not there: the model has {len(found)} failures in it; {among}"
        )
    return found[index]


def group_of(model: nn.Module, failure: Failure) -> FailureGroup:
    """All failures of the same style, right class and wrong class, of whatever number; `failure` is among them."""
    groups = failure_groups(model, (failure.style,), min_size=1)
    return next(
        g for g in groups if (g.failures[0].true, g.failures[0].wrong) == (failure.true, failure.wrong)
    )


def failure_groups(
    model: nn.Module, styles: tuple[str, ...] | None = None, min_size: int = MIN_GROUP
) -> list[FailureGroup]:
    """Failures by (style, right class, wrong class), the largest group first.

    Args:
        model: A classifier of the emoji kinds.
        styles: Styles to look at; None for the four shift styles.
        min_size: Smaller groups are left out.
    """
    groups = []
    for style in emoji.styles("shift") if styles is None else styles:
        by_pair: dict[tuple[int, int], list[Failure]] = defaultdict(list)
        for failure in failures(model, style):
            by_pair[failure.true, failure.wrong].append(failure)
        groups += [g for g in by_pair.values() if len(g) >= min_size]
    ordered = [FailureGroup(tuple(sorted(g, key=lambda f: -f.confidence))) for g in groups]
    return sorted(ordered, key=lambda g: (-len(g), g.name))


def accuracy_table(model: nn.Module) -> pd.DataFrame:
    """Right or wrong for every drawing: ``style``, ``role``, ``concept``, ``kind``, ``right``."""
    parts = []
    concepts = emoji.concepts().iloc[classified()]
    for role in ("source", "validation", "shift"):
        for style in emoji.styles(role):
            right = _logits(model, style).argmax(1).numpy() == emoji.labels()[classified()]
            part = concepts[["concept", "kind"]].assign(style=style, role=role, right=right)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def sensitive_set(
    model: nn.Module, at_least: int = 300, gap: float = SENSITIVE_GAP, rounds: int = 12
) -> SensitiveSet:
    """Images that the model gets right only just, from new views of the held-out and the known styles.

    A round is one view of every drawing of the held-out style; every eighth also takes one of every known drawing
    (a good model is rarely unsure about those). Where `rounds` of them hold fewer than `at_least` images, the gap is
    widened in steps of 0.01 until they do; the set says which gap it has.

    The result is kept in the cache, by model and arguments. The card of a shipped classifier lists its sensitive
    views, so only those are drawn; for other models the first call scans all views, which takes minutes.
    """
    key = fingerprint(model)
    path = cache_dir() / "sensitive" / f"{key[:16]}-{at_least}-{gap:g}-{rounds}.pt"
    if not path.exists():
        listed = _listed(key) if (at_least, gap, rounds) == (300, SENSITIVE_GAP, 12) else None
        found = _scan(model, at_least, gap, rounds) if listed is None else _draw(listed)
        with atomic_path(path) as temporary:
            columns = {name: column.tolist() for name, column in found.table.items()}
            torch.save({"images": found.images, "table": columns, "gap": found.gap}, temporary)
    saved = torch.load(path, weights_only=True)
    return SensitiveSet(saved["images"], pd.DataFrame(saved["table"]), saved["gap"])


#: Views of the sensitive set are seeded from here on, far from those of training.
_FIRST_VIEW = 1_000_000_000


def _scan(model: nn.Module, at_least: int, gap: float, rounds: int) -> SensitiveSet:
    _check_classes(model)
    labels = torch.from_numpy(emoji.labels()[classified()])
    concepts = emoji.concepts().iloc[classified()].reset_index(drop=True)
    images, tables = [], []
    widest = gap + 0.15  # keeps the candidates few; wider than this is no longer "sensitive"
    for view in tqdm(range(rounds), desc="looking for sensitive images"):
        known = emoji.styles("source") if view % 8 == 0 else ()
        for position, style in enumerate((*emoji.styles("validation"), *known)):
            seed = _FIRST_VIEW + 100 * view + position
            views = augmented_views(emoji.drawings(style)[classified()], seed)
            top = logits_of(model, views).softmax(dim=1).topk(2)
            gaps = top.values[:, 0] - top.values[:, 1]
            kept = ((top.indices[:, 0] == labels) & (gaps < widest)).nonzero().flatten().numpy()
            images.append(views[kept])
            rows = concepts.loc[kept, ["concept", "kind"]]
            tables.append(rows.assign(style=style, view=seed, gap=gaps[kept].double().numpy().round(6)))
    pool, table = torch.cat(images), pd.concat(tables, ignore_index=True)
    while (table["gap"] < gap).sum() < at_least and gap < widest:
        gap = round(gap + 0.01, 4)
    chosen = np.flatnonzero(table["gap"] < gap)
    return SensitiveSet(pool[chosen], table.iloc[chosen].reset_index(drop=True), gap)


def _listed(key: str) -> dict[str, Any] | None:
    """The sensitive views that the card of a shipped classifier lists, if this is that classifier."""
    for name in list_checkpoints("classifier"):
        listed: dict[str, Any] | None = read_card(
            shipped_path("classifier", name).with_suffix(".json")
        ).extra.get("sensitive")
        if listed is not None and listed["fingerprint"] == key:
            return listed
    return None


def _draw(listed: dict[str, Any]) -> SensitiveSet:
    """Draw listed views; a view is drawn with all others of its seed, as it was when it was found."""
    table = pd.DataFrame(listed["table"])
    concepts = emoji.concepts().iloc[classified()].reset_index(drop=True)["concept"]
    position = {concept: i for i, concept in enumerate(concepts)}
    images = torch.empty(len(table), 3, emoji.DEFAULT_SIZE, emoji.DEFAULT_SIZE)
    for (style, seed), rows in table.groupby(["style", "view"], sort=False):
        views = augmented_views(emoji.drawings(str(style))[classified()], cast(int, seed))
        images[rows.index.tolist()] = views[[position[c] for c in rows["concept"]]]
    return SensitiveSet(images, table, listed["gap"])


def sensitive_listing(model: nn.Module) -> dict[str, Any]:
    """The sensitive set as plain values, for the card of a classifier."""
    found = sensitive_set(model)
    columns = {name: column.tolist() for name, column in found.table.items()}
    return {"fingerprint": fingerprint(model), "gap": found.gap, "table": columns}


def _check_classes(model: nn.Module) -> None:
    if class_names(model) != emoji.kinds():
        raise InvalidInputError(
            f"this model has {class_count(model)} classes that are not the {len(emoji.kinds())} emoji kinds; "
            "use load_model('emoji_vit_s14') or a classifier tuned on them"
        )


def _logits(model: nn.Module, style: str) -> Float[Tensor, "concepts classes"]:
    """Logits of every classified drawing of a style, kept in the cache by model."""
    _check_classes(model)
    return _cached_logits(_Keyed(model, fingerprint(model)), style)


@dataclass(frozen=True)
class _Keyed:
    """A model that is equal to another of the same weights."""

    model: nn.Module
    key: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=32)
def _cached_logits(keyed: _Keyed, style: str) -> Tensor:
    path = cache_dir() / "logits" / f"{keyed.key[:16]}-{style}-{len(classified())}.npy"
    if not path.exists():
        logits = logits_of(keyed.model, emoji.on_white(emoji.drawings(style)[classified()]))
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, logits.numpy(), allow_pickle=False)
    return torch.from_numpy(np.load(path, allow_pickle=False))
