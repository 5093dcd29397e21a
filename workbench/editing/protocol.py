"""The published evaluation: every failure of every group is the edit example once, each edit from the unedited model.

After an edit, reliability is asked of the example, generalization of the group's other failures, locality of the
protected images. Source: where-to-edit specification, sections 1.1, 1.2 and 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.data.disk_groups import DiskGroup
from workbench.data.imagenet import ImageList
from workbench.editing.editor import EditRequest
from workbench.editing.editors import EditMethod, editor_entry, make_editor
from workbench.editing.judging import Judge
from workbench.editing.metrics import generalization
from workbench.editing.row_log import RowLog, row_key
from workbench.errors import InvalidInputError, UnknownNameError

#: What is averaged: per edit, per group, over groups.
MEASURES = ("sr", "gr", "gr_published", "lr", "steps")

#: The published densities: shares of the hidden units that may change.
DENSITIES = (0.75, 0.5, 0.25, 0.1, 0.05)

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class ProtocolResult:
    """What was measured, edit by edit.

    Args:
        edits: One row an edit: ``group``, ``image``, ``settings``, ``succeeded``, ``parameters`` and `MEASURES`, of
            which undefined ones are None.
        groups: Those that were edited.
        variants: Settings that were compared, each on every group.
    """

    edits: tuple[dict[str, Any], ...]
    groups: tuple[DiskGroup, ...]
    variants: tuple[Settings, ...]

    def by_group(self) -> list[dict[str, Any]]:
        """One row a group and variant: ``group``, ``candidates``, ``failures``, ``edits``, ``settings``, means."""
        return [
            {
                "group": group.name,
                "candidates": group.candidates,
                "failures": len(group),
                "edits": len(edits := self._of(variant, group.name)),
                "settings": dict(variant),
                **_means(edits),
            }
            for group in self.groups
            for variant in self.variants
        ]

    def pooled(self) -> list[dict[str, Any]]:
        """One row a variant: ``macro``, the mean of the groups' means, and ``micro``, the mean over all edits.

        Which of the two the published figures show is not known. Undefined values (the generalization of a group of
        one) are left out of both.
        """
        rows = self.by_group()
        return [
            {
                "settings": dict(variant),
                "groups": len(self.groups),
                "edits": len(edits := self._of(variant)),
                "macro": _means([row for row in rows if row["settings"] == variant]),
                "micro": _means(edits),
            }
            for variant in self.variants
        ]

    def _of(self, variant: Settings, group: str | None = None) -> list[dict[str, Any]]:
        return [e for e in self.edits if e["settings"] == variant and group in (None, e["group"])]


@dataclass(frozen=True)
class PublishedProtocol:
    """How groups of failures are edited and judged.

    Args:
        model: The model; it is never changed.
        editor: Name of an editor of the registry.
        variants: Settings to compare, such as one sparsity each (`variants_of`).
        common: Settings that all variants share; the learned mask's hypernetwork is one.
        protected: Images whose predictions should stay.
        limit: Edits of a group at most; None for all.

    Raises:
        UnknownNameError: no such editor, or a setting that it does not have.
        InvalidInputError: no variants, no protected images, or a limit below 1.

    Example:
        >>> protocol = PublishedProtocol(model, "learned-mask", [{"sparsity": 0.9}], {"hypernetwork": h}, protected)
        >>> result = protocol.run(disk_groups(model, "natural", root), RowLog("edits.jsonl"))
        >>> result.pooled()[0]["macro"]["gr"]
    """

    model: nn.Module
    editor: str
    variants: Sequence[Settings]
    common: Settings
    protected: ImageList
    limit: int | None = None

    def __post_init__(self) -> None:
        known = editor_entry(self.editor).settings
        for name in (name for settings in (self.common, *self.variants) for name in settings):
            if name not in known:
                raise UnknownNameError(f"setting of the editor {self.editor}", name, known)
        if not self.variants or not len(self.protected):
            raise InvalidInputError(
                f"{len(self.variants)} variants and {len(self.protected)} protected images; give at least one of each"
            )
        if self.limit is not None and self.limit < 1:
            raise InvalidInputError(f"limit is {self.limit}; it must be at least 1, or None for all failures")

    def run(self, groups: Iterable[DiskGroup], log: RowLog, progress: bool = False) -> ProtocolResult:
        """Edit every failure of every group with every variant; what the log holds already is not done again.

        Args:
            groups: Failures; groups without any are left out.
            log: Keeps each row as soon as it is measured.
            progress: Show a bar.

        Raises:
            InvalidInputError: no failures at all, a setting out of range, or an image that cannot be read.
        """
        chosen = [group for group in groups if len(group)]
        if not chosen:
            raise InvalidInputError(
                "the model gets every image of these groups right: there is nothing to edit"
            )

        @cache  # some editors take long to prepare
        def method(number: int) -> EditMethod:
            return make_editor(self.editor, self.model, **{**self.common, **self.variants[number]})

        judge = Judge(self.model, self.protected.stacked())
        identity = self._identity(judge.base)
        variants = [_plain(variant) for variant in self.variants]
        edits: list[dict[str, Any]] = []
        total = sum(len(self._edited(group)) for group in chosen) * len(variants)
        with tqdm(total=total, desc="edits", disable=not progress) as bar:
            for group in chosen:
                bar.set_postfix_str(group.name)
                run = _GroupRun(group, judge, log, identity)
                for number, variant in enumerate(variants):
                    for position in self._edited(group):
                        edits.append(run.row(variant, position, partial(method, number)))
                        bar.update()
        return ProtocolResult(tuple(edits), tuple(chosen), tuple(variants))

    def _edited(self, group: DiskGroup) -> range:
        return range(len(group) if self.limit is None else min(self.limit, len(group)))

    def _identity(self, base: str) -> dict[str, Any]:
        """All that the scores depend on, but for the group, the variant and the image."""
        config = getattr(self.model, "pretrained_cfg", None) or {}
        return {
            "model": base,
            "device": next(self.model.parameters()).device.type,
            "scaling": [list(config.get(name) or ()) for name in ("mean", "std")],
            "editor": self.editor,
            "common": _plain(self.common),
            "protected": self.protected.digest(),
        }


class _GroupRun:
    """The edits of one group; its images are read when the first edit is not in the log."""

    def __init__(self, group: DiskGroup, judge: Judge, log: RowLog, identity: Settings) -> None:
        self.group, self.judge, self.log = group, judge, log
        accepted = [list(classes) for classes in group.accepted]
        self.identity = {**identity, "images": group.images.digest(), "accepted": accepted}
        self._images: Tensor | None = None

    def row(self, variant: Settings, position: int, method: Callable[[], EditMethod]) -> dict[str, Any]:
        """The row of one edit, from the log or measured."""
        key = row_key({**self.identity, "variant": variant, "position": position})
        if key in self.log:
            return self.log[key]
        if self._images is None:
            self._images = self.group.images.stacked()
        row = {
            "group": self.group.name,
            "image": self.group.images.paths[position].name,
            "settings": variant,
            **self._measured(method(), self._images, position),
        }
        return self.log.append(key, row)

    def _measured(self, method: EditMethod, images: Tensor, position: int) -> dict[str, Any]:
        accepted = self.group.accepted
        result = method.edit(EditRequest(images[position], accepted[position][0]))
        said = self.judge.predictions(result.edit, images).tolist()
        right = torch.tensor([c in classes for c, classes in zip(said, accepted, strict=True)])
        kept = ~self.judge.changed(result.edit)
        return {
            "sr": float(int(result.predictions[-1, 0]) in accepted[position]),
            "gr": generalization(right, position),
            "gr_published": generalization(right, position, "published"),
            "lr": float(kept.double().mean()),
            "steps": result.steps,
            "succeeded": result.succeeded,
            "parameters": result.edit.parameters,
        }


def variants_of(
    editor: str, densities: Sequence[float] | None = None, settings: Settings | None = None
) -> list[dict[str, Any]]:
    """The settings that trace an editor's trade-off between generalization and locality.

    Masks take one sparsity for each density, the published ones unless told otherwise; other editors the sweep of the
    registry, with `settings` in place of what they name.

    Raises:
        UnknownNameError: no such editor.
        InvalidInputError: densities for an editor that has no mask, outside (0, 1], or beside a sparsity.

    Example:
        >>> variants_of("learned-mask", [0.1])
        [{'sparsity': 0.9}]
    """
    entry, fixed = editor_entry(editor), dict(settings or {})
    if "sparsity" not in entry.settings:
        if densities:
            raise InvalidInputError(
                f"{editor} has no mask, so it has no density; leave it out for its own sweep ({entry.sweep}), or set "
                f"one of {', '.join(entry.settings)}"
            )
        swept = [{name: value for name, value in one.items() if name not in fixed} for one in entry.sweep]
        return [one for i, one in enumerate(swept) if one not in swept[:i]] or [{}]
    if "sparsity" in fixed:
        raise InvalidInputError(
            "give densities instead of a sparsity: density = 1 - sparsity, the share that may change"
        )
    chosen = tuple(dict.fromkeys(densities or DENSITIES))
    for density in chosen:
        if not 0 < density <= 1:
            raise InvalidInputError(
                f"density {density} is outside (0, 1]: it is the share of hidden units that may change"
            )
    return [{"sparsity": round(1 - density, 12)} for density in chosen]


def _plain(settings: Settings) -> dict[str, Any]:
    """Settings as JSON gives them back: lists for tuples, digests for networks and images."""
    return {name: _plain_value(name, value) for name, value in settings.items()}


def _plain_value(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        return hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
    if hasattr(value, "digest"):
        return value.digest()
    if isinstance(value, tuple | list):
        return [_plain_value(name, one) for one in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise InvalidInputError(
        f"the setting {name} is a {type(value).__name__}, by which a measured row cannot be found again; give numbers, "
        "text, a tensor, or something with a method digest()"
    )


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean of each measure over the rows where it is defined; None where it is nowhere."""
    found = {}
    for name in MEASURES:
        values = [row[name] for row in rows if row[name] is not None]
        found[name] = fmean(values) if values else None
    return found
