"""DINOv2 weights out of an ONNX graph, under timm's names.

The graph's Linear weights are anonymous inputs of MatMul nodes, stored transposed; they are found by the node's
name. Biases, norms, layer scales and the class token keep their names. Positions come in two parts, one for the
class token and one for the patches.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import IntegrityError

_LAYER = "backbone.encoder.layer.{i}."
_NODE = "/backbone/encoder/layer.{i}/{path}/MatMul"

#: timm's name of a Linear layer in a block -> path of its MatMul node and of its bias in the graph.
_LINEARS = {
    "attn.proj": ("attention/output/dense", "attention.output.dense"),
    "mlp.fc1": ("mlp/fc1", "mlp.fc1"),
    "mlp.fc2": ("mlp/fc2", "mlp.fc2"),
}
_RENAMED = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}


def dinov2_state_dict(path: Path, depth: int = 12) -> dict[str, Tensor]:
    """The backbone of a saliency network in ONNX form as a timm DINOv2 state dict (no head).

    Args:
        path: ONNX file whose encoder nodes are named ``/backbone/encoder/layer.<i>/...``.
        depth: Number of blocks.

    Raises:
        IntegrityError: the file is not such a graph.
    """
    weights, inputs = _read_graph(path)
    try:
        state = _embeddings(weights, inputs)
        for i in range(depth):
            state |= _block(i, weights, inputs)
    except KeyError as error:
        raise IntegrityError(
            f"{path.name} is not the expected DINOv2 graph: {error} is missing in it"
        ) from error
    return state


def _read_graph(path: Path) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise IntegrityError(f"{path} is not a complete ONNX file: {error}") from error
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    return weights, {node.name: list(node.input) for node in graph.node}


def _embeddings(weights: dict[str, Tensor], inputs: dict[str, list[str]]) -> dict[str, Tensor]:
    prefix = "backbone.embeddings."
    class_position = weights[inputs["/backbone/embeddings/Concat_6"][0]]
    patch_positions = next(
        t
        for name, t in weights.items()
        if name.startswith("onnx::Reshape") and t.ndim == 3 and t.shape[1] > 1
    )
    return {
        "cls_token": weights[prefix + "cls_token"],
        "pos_embed": torch.cat([class_position, patch_positions], dim=1),
        "patch_embed.proj.weight": weights[prefix + "patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": weights[prefix + "patch_embeddings.projection.bias"],
        "norm.weight": weights["backbone.layernorm.weight"],
        "norm.bias": weights["backbone.layernorm.bias"],
    }


def _block(i: int, weights: dict[str, Tensor], inputs: dict[str, list[str]]) -> dict[str, Tensor]:
    def matrix(path: str) -> Tensor:
        return weights[inputs[_NODE.format(i=i, path=path)][1]].T.contiguous()

    layer, block = _LAYER.format(i=i), f"blocks.{i}."
    parts = ("query", "key", "value")
    state = {
        block + "attn.qkv.weight": torch.cat([matrix(f"attention/attention/{p}") for p in parts]),
        block + "attn.qkv.bias": torch.cat([weights[f"{layer}attention.attention.{p}.bias"] for p in parts]),
    }
    for name, (node, bias) in _LINEARS.items():
        state[f"{block}{name}.weight"] = matrix(node)
        state[f"{block}{name}.bias"] = weights[f"{layer}{bias}.bias"]
    return state | {block + name: weights[layer + source] for name, source in _RENAMED.items()}
