"""A Linear layer's weight of which only some rows or columns are trained.

Editing changes a tenth of a weight's rows or columns. Its dense gradient would cost as much as the layer's forward
and then be thrown away but for that tenth; here only the tenth is computed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


class PartialWeight:
    """A copy of a weight, (out, in), with a trained part: k of its rows or of its columns.

    `linear` multiplies by the whole weight, bit for bit as `F.linear` does; the backward pass gives the gradient of
    the trained part alone, and one of the input only where the input asks for it.

    Args:
        weight: (out, in); copied, never changed.
        axis: 0 to train rows, 1 to train columns.
        index: Which of them, increasing, (k,); on any device.

    Attributes:
        trained: The rows, or the columns as rows, (k, width): a leaf tensor with gradient. Change it in place
            under `torch.no_grad` and call `refresh`.
        whole: The weight with the trained part in it, (out, in), without gradient.

    Example:
        >>> weight = PartialWeight(layer.weight, axis=0, index=torch.tensor([3, 17]))
        >>> (gradient,) = torch.autograd.grad(weight.linear(x, layer.bias).sum(), weight.trained)
        >>> with torch.no_grad():
        ...     weight.trained -= 0.1 * gradient
        >>> weight.refresh()
    """

    def __init__(self, weight: Float[Tensor, "out in"], axis: int, index: Int[Tensor, " k"]) -> None:
        self.axis, self.index = axis, index.to(weight.device)
        self.whole = weight.detach().clone(memory_format=torch.contiguous_format)
        part = self.whole.index_select(axis, self.index)
        self.trained = (part if axis == 0 else part.T.contiguous()).requires_grad_(len(index) > 0)

    @property
    def slices(self) -> Tensor:
        """The trained part laid out as in the weight: (k, in) for rows, (out, k) for columns; without gradient."""
        part = self.trained.detach()
        return part if self.axis == 0 else part.T

    def refresh(self) -> None:
        """Put the trained part, as it is now, into the whole."""
        self.whole.index_copy_(self.axis, self.index, self.slices)

    def linear(self, x: Float[Tensor, "*batch in"], bias: Float[Tensor, " out"] | None) -> Tensor:
        """`F.linear(x, self.whole, bias)`, with gradients of `x` and `trained`; the bias has none."""
        return _PartialLinear.apply(x, self.trained, self.whole, bias, self.index, self.axis)


class _PartialLinear(torch.autograd.Function):
    """`trained` takes no part in the forward pass: it is there to be given a gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, trained: Tensor, whole: Tensor, bias: Tensor | None, index: Tensor, axis: int
    ) -> Tensor:
        ctx.axis = axis
        # Of the input, columns need only their own units; rows need all of it.
        kept = x if axis == 0 else x.index_select(-1, index)
        ctx.save_for_backward(kept, whole, index)
        return F.linear(x, whole, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, whole, index = ctx.saved_tensors
        of_x = grad @ whole if ctx.needs_input_grad[0] else None
        of_trained = None
        if ctx.needs_input_grad[1]:
            rows, inner = (grad.index_select(-1, index), kept) if ctx.axis == 0 else (kept, grad)
            of_trained = rows.reshape(-1, rows.shape[-1]).T @ inner.reshape(-1, inner.shape[-1])
        return of_x, of_trained, None, None, None, None
