"""DINOv2 weights out of the published graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.data import locate
from workbench.errors import IntegrityError
from workbench.models.onnx_weights import dinov2_state_dict

ENTRY = "vit-s14-focus"


@pytest.fixture(scope="module")
def graph_file(require_data: Callable[..., None]) -> Path:
    require_data(ENTRY)
    return locate(ENTRY) / "vit_s_focus.onnx"


@pytest.fixture(scope="module")
def converted(graph_file: Path) -> dict[str, Tensor]:
    return dinov2_state_dict(graph_file)


def test_the_keys_and_shapes_are_exactly_timms(converted: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_small_patch14_dinov2.lvd142m", img_size=518, num_classes=0)
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    assert len(converted) == 174
    assert {name: value.shape for name, value in converted.items()} == wanted
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in converted.values())


def test_the_first_block_computes_what_the_graph_says(graph_file: Path, converted: dict[str, Tensor]) -> None:
    """By hand, with the graph's own matrices on the right of each product, heads split one by one."""
    graph = onnx.load(graph_file).graph
    values = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer}
    inputs = {node.name: list(node.input) for node in graph.node}
    layer = "backbone.encoder.layer.0."

    def matrix(path: str) -> Tensor:
        return values[inputs[f"/backbone/encoder/layer.0/{path}/MatMul"][1]]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            x, (384,), values[f"{layer}{name}.weight"], values[f"{layer}{name}.bias"], eps=1e-6
        )

    tokens = torch.randn(5, 384, generator=torch.Generator().manual_seed(0))
    x = norm(tokens, "norm1")
    query, key, value = (
        x @ matrix(f"attention/attention/{p}") + values[f"{layer}attention.attention.{p}.bias"]
        for p in ("query", "key", "value")
    )
    heads = [slice(64 * h, 64 * h + 64) for h in range(6)]
    mixed = torch.cat([(query[:, h] @ key[:, h].T / 8).softmax(1) @ value[:, h] for h in heads], dim=1)
    out = mixed @ matrix("attention/output/dense") + values[layer + "attention.output.dense.bias"]
    after = tokens + values[layer + "layer_scale1.lambda1"] * out
    hidden = F.gelu(norm(after, "norm2") @ matrix("mlp/fc1") + values[layer + "mlp.fc1.bias"])
    out = hidden @ matrix("mlp/fc2") + values[layer + "mlp.fc2.bias"]
    wanted = after + values[layer + "layer_scale2.lambda1"] * out

    block = timm.create_model("vit_small_patch14_dinov2.lvd142m", img_size=28, num_classes=0).eval().blocks[0]
    block.load_state_dict(
        {k.removeprefix("blocks.0."): v for k, v in converted.items() if k.startswith("blocks.0.")}
    )
    with torch.no_grad():
        found = block(tokens[None])[0]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_truncated_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    whole = onnx.helper.make_model(onnx.helper.make_graph([], "toy", [], [], [tensor("w", (64, 64))]))
    path.write_bytes(whole.SerializeToString()[:-100])
    with pytest.raises(IntegrityError, match=r"model\.onnx is not a complete ONNX file"):
        dinov2_state_dict(path)


def test_another_graph(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(onnx.helper.make_model(onnx.helper.make_graph([], "toy", [], [])).SerializeToString())
    with pytest.raises(
        IntegrityError, match=r"other\.onnx is not the expected DINOv2 graph: '.*' is missing in it"
    ):
        dinov2_state_dict(path)


def tensor(name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.ones(shape, dtype=np.float32), name)
