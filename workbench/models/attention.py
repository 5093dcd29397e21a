"""A block's attention, computed in one of three ways from the same timm module.

`own_attention` is the module's own, usually one fused operation. `plain_attention` goes step by step, as the published
editing code does. `pooled_attention` is for the few tokens that a head reads. They agree up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

Normed = Float[Tensor, "batch tokens dim"]


def own_attention(attn: Any, x: Normed, weights: Mapping[str, Tensor]) -> Normed:
    """What the module itself computes.

    Args:
        attn: A timm `Attention`; never changed.
        x: Tokens after the block's first norm.
        weights: Replacements by name: ``qkv``, ``proj``, ``qkv.bias``, ``proj.bias``.
    """
    if not weights:
        return attn(x)
    named = {a if a.endswith(".bias") else f"{a}.weight": w for a, w in weights.items()}
    return functional_call(attn, named, (x,))


def plain_attention(attn: Any, x: Normed, weights: Mapping[str, Tensor]) -> Normed:
    """Query, key and value by products of their own, then scores, softmax and mixture; arguments as above.

    Source: specification, section 1.3 (the published code's vision transformer).
    """
    weight, bias = weights.get("qkv", attn.qkv.weight), weights.get("qkv.bias", attn.qkv.bias)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    query, key, value = (
        _heads(attn, F.linear(x, w, b)) for w, b in zip(weight.chunk(3), biases, strict=True)
    )
    scores = attn.q_norm(query) @ attn.k_norm(key).transpose(-1, -2) / math.sqrt(attn.head_dim)
    return _leave(attn, scores.softmax(dim=-1) @ value, x, weights)


def pooled_attention(attn: Any, x: Normed, keep: int) -> Float[Tensor, "batch keep dim"]:
    """Attention of the first `keep` tokens only; they still look at all tokens."""
    weight, bias, dim = attn.qkv.weight, attn.qkv.bias, attn.attn_dim
    query = F.linear(x[:, :keep], weight[:dim], None if bias is None else bias[:dim])
    key, value = F.linear(x, weight[dim:], None if bias is None else bias[dim:]).chunk(2, dim=-1)
    query, key, value = (_heads(attn, part) for part in (query, key, value))
    mixed = F.scaled_dot_product_attention(attn.q_norm(query), attn.k_norm(key), value, scale=attn.scale)
    return _leave(attn, mixed, x[:, :keep], {})


def _heads(attn: Any, x: Tensor) -> Float[Tensor, "batch heads tokens head_dim"]:
    return x.unflatten(-1, (attn.num_heads, attn.head_dim)).transpose(1, 2)


def _leave(attn: Any, mixed: Tensor, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """From mixed values of each head to the block's width; `x` are the tokens that attention was asked for."""
    mixed = attn.norm(mixed.transpose(1, 2).flatten(2))
    if attn.gate is not None:
        mixed = mixed * attn.gate(x).sigmoid()
    weight, bias = weights.get("proj", attn.proj.weight), weights.get("proj.bias", attn.proj.bias)
    return attn.proj_drop(F.linear(mixed, weight, bias))
