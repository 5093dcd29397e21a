"""Masked fine-tuning by the ways to choose a mask: learned, random, largest gradient, none."""

from __future__ import annotations

from typing import TypedDict, Unpack

from torch import nn

from workbench.editing.editor import Editor, EditSettings
from workbench.editing.editors._base import EditorEntry
from workbench.editing.hypernetwork import MaskHypernetwork
from workbench.editing.where import FullMask, GradientMask, LearnedMask, RandomMask, Where

#: Where masked fine-tuning and its controls come from.
PAPER = "Yang, Huang, Chen, Ma, Wei: Learning Where to Edit Vision Transformers. NeurIPS 2024"

#: The published densities, as sparsities, from gentle to strong.
SPARSITIES = (0.95, 0.9, 0.75, 0.5, 0.25)


class Optimisation(TypedDict, total=False):
    """What may be said about the optimisation of every masked editor: see `EditSettings`."""

    learning_rate: float
    max_steps: int
    stop_loss: float
    alpha: float
    eps: float
    blocks: tuple[int, ...]
    preset: str


def _editor(model: nn.Module, where: Where, settings: Optimisation) -> Editor:
    return Editor(model, where, EditSettings.from_preset(settings.pop("preset", "corrected"), **settings))


def learned(
    model: nn.Module, hypernetwork: MaskHypernetwork, sparsity: float = 0.9, **settings: Unpack[Optimisation]
) -> Editor:
    """The hypernetwork's mask; settings are those of `EditSettings`."""
    topk = EditSettings.from_preset(settings.get("preset", "corrected")).topk
    settings.setdefault("blocks", hypernetwork.space.blocks)
    return _editor(model, LearnedMask(hypernetwork, sparsity, topk), settings)


def random(
    model: nn.Module, sparsity: float = 0.9, seed: int = 0, **settings: Unpack[Optimisation]
) -> Editor:
    """A mask drawn uniformly, of the same size."""
    return _editor(model, RandomMask(sparsity, seed), settings)


def gradient(model: nn.Module, sparsity: float = 0.9, **settings: Unpack[Optimisation]) -> Editor:
    """The units with the largest gradient; it sees the label."""
    return _editor(model, GradientMask(sparsity), settings)


def full(model: nn.Module, **settings: Unpack[Optimisation]) -> Editor:
    """No mask: fine-tuning of the editable matrices."""
    return _editor(model, FullMask(), settings)


_SWEEP = tuple({"sparsity": sparsity} for sparsity in SPARSITIES)

ENTRIES = (
    EditorEntry(
        "learned-mask",
        "Learned mask",
        "mask",
        "fine-tunes the hidden units that the hypernetwork ranks highest for the failing image",
        "published",
        PAPER,
        _SWEEP,
        learned,
    ),
    EditorEntry(
        "random-mask",
        "Random mask",
        "mask",
        "fine-tunes as many hidden units, drawn uniformly",
        "port",  # a control that the paper is said to have; its code does not define it
        "control of the learned mask",
        _SWEEP,
        random,
    ),
    EditorEntry(
        "gradient-mask",
        "Gradient mask",
        "mask",
        "fine-tunes the hidden units whose weights have the largest loss gradient; it sees the label",
        "port",
        "the usual saliency criterion of sparse fine-tuning",
        _SWEEP,
        gradient,
    ),
    EditorEntry(
        "ft",
        "Fine-tuning",
        "fine-tuning",
        "fine-tunes the six matrices without a mask",
        "published",
        PAPER,
        ({"learning_rate": 1e-6}, {"learning_rate": 5e-6}, {"learning_rate": 2e-5}),
        full,
    ),
)
