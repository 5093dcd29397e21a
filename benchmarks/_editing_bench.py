"""The setting of the editing benchmark: what it is run with, and the model, editors and judges of one process."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from torch import Tensor

from benchmarks._editing_groups import EditedGroup, Population, by_name
from benchmarks._editing_rows import Found, Task
from workbench.data import emoji
from workbench.data.emoji_population import classified
from workbench.data.failures import sensitive_set
from workbench.editing import Editor, Judge, MaskHypernetwork
from workbench.editing.editors import EDITORS, EditMethod, make_editor
from workbench.models import fingerprint, load_model

#: Images that T-Patcher's unit must be silent on: drawings of a style the model was trained on.
MEMORY_STYLE, MEMORY_IMAGES = "noto", 128


@dataclass(frozen=True)
class Options:
    """What the benchmark is run with.

    Args:
        model: By name.
        hypernetwork: By name or file.
        depths: Further hypernetworks, label and file.
        editors: Names of the registry.
        edits: Groups edited, of each style; None for all.
        settings: Settings of each sweep, at most, evenly spread; None for all.
        protected: Sensitive images that each edit is judged by, drawn anew for each group.
        seed: Of everything drawn at random.
        folder: For rows and for what is worth keeping.
    """

    model: str = "emoji_vit_s14"
    hypernetwork: str = "emoji_vit_s14"
    depths: tuple[tuple[str, str], ...] = ()
    editors: tuple[str, ...] = tuple(EDITORS)
    edits: int | None = None
    settings: int | None = None
    protected: int = 50
    seed: int = 0
    folder: Path = Path("runs/editing_benchmark")


@dataclass
class Plan:
    """What there is to measure, and the learning rates chosen so far.

    Args:
        options: What the benchmark is run with.
        measured: Groups that are measured, each with a number that does not depend on the options.
        held_out: Groups for choices.
        blocks: Of the model.
        rates: Learning rates by editor.
    """

    options: Options
    measured: dict[int, EditedGroup]
    held_out: list[EditedGroup]
    blocks: int
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def drawn(self) -> dict[int, EditedGroup]:
        """Measured groups of drawings, the population of everything but the front by style."""
        return {n: g for n, g in self.measured.items() if not g.style.endswith("(views)")}

    def settings(self, editor: str, settings: Mapping[str, Any], number: int) -> dict[str, Any]:
        """Settings of an edit: those of the sweep, the rate chosen, and a seed of its own for a random mask."""
        rate = {"learning_rate": self.rates[editor]} if editor in self.rates else {}
        seed = {"seed": self.options.seed + number} if editor == "random-mask" else {}
        return {**rate, **dict(settings), **seed}


class Part(ABC):
    """One question of the benchmark. A part has no state: tasks say everything, and are measured in any process."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def tasks(self, plan: Plan) -> list[Task]:
        """What to measure; none where the part cannot be run."""

    @abstractmethod
    def measure(self, bench: Bench, task: Task) -> Found:
        """Measure one task."""

    @abstractmethod
    def summarise(self, rows: pd.DataFrame, plan: Plan) -> dict[str, Any]:
        """What stands in the results file."""


class Bench:
    """The model, its editors and judges in one process."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.model = load_model(options.model)
        self.hypernetwork = MaskHypernetwork.load(options.hypernetwork)
        self.population = Population(self.model, options.folder)
        self.method = lru_cache(maxsize=128)(self._method)  # every setting of every sweep
        self.judge = lru_cache(maxsize=2)(self._judge)

    @property
    def base(self) -> str:
        """What stands for the weights in the rows' keys."""
        return f"{fingerprint(self.model)} {fingerprint(self.hypernetwork.network)}"

    def plan(self) -> Plan:
        """What there is to measure."""
        most, seen = self.options.edits, Counter[str]()
        measured = {}
        for number, group in enumerate(self.population.measured):
            seen[group.style] += 1
            if most is None or seen[group.style] <= most:
                measured[number] = group
        return Plan(self.options, measured, self.population.held_out[:most], len(self.model.blocks))

    @cached_property
    def groups(self) -> dict[str, EditedGroup]:
        """Every group by name."""
        return by_name([*self.population.measured, *self.population.held_out])

    def editor(self, name: str, settings: Mapping[str, Any]) -> EditMethod:
        """An editor of the registry; it is kept, because some take seconds to make."""
        return self.method(name, json.dumps(dict(settings), sort_keys=True))

    def _method(self, name: str, settings: str) -> EditMethod:
        return make_editor(name, self.model, **self.shared(name), **json.loads(settings))

    def shared(self, name: str) -> dict[str, Any]:
        """What an editor needs beside its settings."""
        if name == "learned-mask":
            return {"hypernetwork": self.hypernetwork}
        return {"memory": self.memory} if name == "t-patcher" else {}

    def masked(self, name: str, settings: Mapping[str, Any]) -> Editor:
        """An editor that fine-tunes under a mask."""
        editor = self.editor(name, settings)
        assert isinstance(editor, Editor)
        return editor

    @cached_property
    def memory(self) -> Tensor:
        """Images of a style the model was trained on."""
        images = emoji.on_white(emoji.drawings(MEMORY_STYLE)[classified()])
        return images[np.linspace(0, len(images) - 1, MEMORY_IMAGES).astype(int)]

    def sensitive(self, count: int, number: int) -> Tensor:
        """Sensitive images for one edit, drawn by its group's number, in random order."""
        everything = sensitive_set(self.model).images
        order = np.random.default_rng((self.options.seed, number)).permutation(len(everything))
        return everything[order[:count]]

    def _judge(self, count: int, number: int) -> Judge:
        return Judge(self.model, self.sensitive(count, number))

    def held_out_judge(self, count: int) -> Judge:
        """A judge that shares no image with the measured one."""
        if self._held_out_judge is None:
            self._held_out_judge = Judge(self.model, self.population.near_misses(count))
        return self._held_out_judge

    _held_out_judge: Judge | None = None


def records(table: pd.DataFrame, digits: int = 4) -> list[dict[str, Any]]:
    """Rows of a table as plain values; what is not defined is None."""
    rounded = table.round(digits).astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in rounded.to_dict("records")]
