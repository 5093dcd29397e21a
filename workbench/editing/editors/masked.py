"""Masked fine-tuning by the ways to choose a mask: learned, random, largest gradient, none."""

from __future__ import annotations

from typing import Any

from torch import nn

from workbench.editing.editor import Editor, EditSettings
from workbench.editing.editors._base import EditorEntry
from workbench.editing.hypernetwork import MaskHypernetwork
from workbench.editing.where import FullMask, GradientMask, LearnedMask, RandomMask, Where

_PAPER = "Yang, Huang, Chen, Ma, Wei: Learning Where to Edit Vision Transformers. NeurIPS 2024"

#: The published densities, as sparsities, from gentle to strong.
SPARSITIES = (0.95, 0.9, 0.75, 0.5, 0.25)


def _editor(model: nn.Module, where: Where, settings: dict[str, Any]) -> Editor:
    preset = settings.pop("preset", "corrected")
    return Editor(model, where, EditSettings.from_preset(preset, **settings), pooled_only=True)


def learned(
    model: nn.Module, hypernetwork: MaskHypernetwork, sparsity: float = 0.9, **settings: Any
) -> Editor:
    """The hypernetwork's mask; settings are those of `EditSettings`, or ``preset``."""
    topk = EditSettings.from_preset(settings.get("preset", "corrected")).topk
    settings.setdefault("blocks", hypernetwork.space.blocks)
    return _editor(model, LearnedMask(hypernetwork, sparsity, topk), settings)


def random(model: nn.Module, sparsity: float = 0.9, seed: int = 0, **settings: Any) -> Editor:
    """A mask drawn uniformly, of the same size."""
    return _editor(model, RandomMask(sparsity, seed), settings)


def gradient(model: nn.Module, sparsity: float = 0.9, **settings: Any) -> Editor:
    """The units with the largest gradient; it sees the label."""
    return _editor(model, GradientMask(sparsity), settings)


def full(model: nn.Module, **settings: Any) -> Editor:
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
        _PAPER,
        _SWEEP,
        learned,
    ),
    EditorEntry(
        "random-mask",
        "Random mask",
        "mask",
        "fine-tunes as many hidden units, drawn uniformly",
        "published",
        _PAPER,
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
        _PAPER,
        ({"learning_rate": 1e-6}, {"learning_rate": 5e-6}, {"learning_rate": 2e-5}),
        full,
    ),
)
