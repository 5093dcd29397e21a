"""LoRA as an editor: low-rank changes of the query and value projections, by peft. Needs the extra ``lora``.

timm computes queries, keys and values by one fused projection, and an adapter on it would change the keys as well.
Here a copy of the model that shares its weights gets the three projections apart, peft adapts two of them, and the
result is put together again as one change of the fused weight, in whose rows for the keys nothing changes.

Source: specification, section 6.1, where the adapter is published but no way to edit with it: optimiser, learning
rate and stop rule are ours. The scale is alpha / rank as a number, not the published integer division.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from workbench.editing.changes import LowRankChange, WeightChange
from workbench.editing.editor import EditRequest
from workbench.editing.editors._base import EditorEntry
from workbench.editing.editors._optimise import Course, check_classifier, check_count, check_positive
from workbench.editing.space import EditSpace
from workbench.editing.trajectory import EditResult
from workbench.errors import WorkbenchError
from workbench.models import SplitViT, fingerprint

_ADAPTED = ("q", "v")


class LoRAEditor:
    """Fine-tunes low-rank adapters of queries and values by Adam, until the request is met.

    Args:
        model: A timm vision transformer with a head, in evaluation mode; it is never changed.
        rank: Rank of the change of each projection (published: 4).
        alpha: The change is alpha / rank times the product of the two matrices (published: 4).
        learning_rate: Adam's.
        max_steps: Updates at most.
        stop_loss: Stop when every image is right and the mean cross-entropy is at or below this.
        blocks: Adapted blocks, 0-based; None for all.
        seed: Of the adapters' start: Kaiming-uniform on the input's side, zero on the output's.

    Raises:
        InvalidInputError: a setting out of range, or a model that cannot be edited.
        WorkbenchError: peft is not installed.

    Example:
        >>> editor = LoRAEditor(model, rank=2, learning_rate=1e-3)
        >>> editor.edit(EditRequest(image, target=3)).edit.changes["blocks.0.attn.qkv"].kind
        'low-rank'
    """

    def __init__(
        self,
        model: nn.Module,
        rank: int = 4,
        alpha: float = 4,
        learning_rate: float = 3e-4,
        max_steps: int = 100,
        stop_loss: float = 0.01,
        blocks: Iterable[int] | None = None,
        seed: int = 0,
    ) -> None:
        if find_spec("peft") is None:
            raise WorkbenchError(
                "the editor lora takes peft, which is not installed; get it with: "
                "pip install 'vision-workbench[lora]'"
            )
        check_count(rank=rank, max_steps=max_steps)
        check_positive(alpha=alpha, learning_rate=learning_rate, stop_loss=stop_loss)
        self.model = check_classifier(model)
        every = range(len(self.model.blocks))
        self.blocks = EditSpace.of(model, every if blocks is None else blocks).blocks
        self.rank, self.alpha, self.seed = rank, alpha, seed
        self.learning_rate, self.max_steps, self.stop_loss = learning_rate, max_steps, stop_loss
        self.base = fingerprint(model)

    def edit(self, request: EditRequest) -> EditResult:
        """Edit until the request is met or the steps are used up."""
        course = Course(self.model, request, self.stop_loss)
        adapted = self._adapted()
        split = SplitViT(adapted, self.blocks[0], entry="attention")
        tokens = split.prefix(course.images)
        optimiser = torch.optim.Adam(
            [p for p in adapted.parameters() if p.requires_grad], lr=self.learning_rate
        )

        def update(loss: Tensor, step: int) -> None:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        course.run(lambda: split.tail(tokens), update, self.max_steps)
        settings = {
            name: getattr(self, name)
            for name in ("rank", "alpha", "learning_rate", "max_steps", "stop_loss", "blocks", "seed")
        }
        return course.result(self.base, self._changes(adapted), "lora", settings)

    def _adapted(self) -> Any:
        """A copy of the model, sharing its weights, with adapters in it."""
        from peft import LoraConfig, inject_adapter_in_model

        model = _sharing_copy(self.model)
        for i in self.blocks:
            model.blocks[i].attn.qkv = _Projections(model.blocks[i].attn.qkv)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft divides it as a number
            target_modules=[f"blocks.{i}.attn.qkv.{part}" for i in self.blocks for part in _ADAPTED],
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return inject_adapter_in_model(config, model).eval()

    def _changes(self, adapted: Any) -> dict[str, WeightChange]:
        """The adapters as changes of the fused weights; those that never moved are left out."""
        found: dict[str, WeightChange] = {}
        for i in self.blocks:
            change = _fused(adapted.blocks[i].attn.qkv)
            if len(change.index):
                found[f"blocks.{i}.attn.qkv"] = change
        return found


class _Projections(nn.Module):
    """timm's fused projection as three, with the same weights, for adapters to choose from."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        biases = (None, None, None) if fused.bias is None else fused.bias.chunk(3)
        parts = zip(fused.weight.chunk(3), biases, strict=True)
        self.q, self.k, self.v = (_linear(weight, bias) for weight, bias in parts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer with the weights given, not copies of them."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _sharing_copy(model: nn.Module) -> Any:
    """Other modules around the same weights; nothing done to its modules reaches `model`.

    The parameters are new ones on the same memory, so that freezing them does not freeze those of `model`.
    """
    shared: dict[int, Any] = {id(b): b for b in model.buffers()}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, shared)


def _fused(projections: Any) -> LowRankChange:
    """The adapters side by side, as one product of rank 2 · `rank`: (q, k, v rows) by (both adapters)."""
    adapters = [getattr(projections, part) for part in _ADAPTED]
    down = [a.lora_A["default"].weight.detach() for a in adapters]
    up = [a.lora_B["default"].weight.detach() * a.scaling["default"] for a in adapters]
    width, rank = up[0].shape
    left = up[0].new_zeros(3 * width, 2 * rank)
    left[:width, :rank] = up[0]
    left[2 * width :, rank:] = up[1]
    return LowRankChange(left.cpu(), torch.cat(down).cpu())


ENTRIES = (
    EditorEntry(
        "lora",
        "LoRA",
        "low-rank",
        "fine-tunes low-rank adapters of the query and value projections of all blocks",
        "port",
        "Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models. ICLR 2022; adapter of the published code",
        tuple({"learning_rate": rate} for rate in (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)),
        LoRAEditor,
    ),
)
