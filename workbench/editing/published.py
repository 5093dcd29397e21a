"""The published code's file of a hypernetwork: its names of the tensors, and ours.

The file is `torch.save` of a state dict: tokens as ``cls_token``, blocks as ``layer.N``, heads as ``out_layer.N.out``,
and ``learn_masks``, which is saved there and read by nothing. Source: specification, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import CheckpointError, InvalidInputError
from workbench.files import atomic_path
from workbench.models.state_dicts import TORCH_SUFFIXES, difference, read_state_dict, shapes_of

#: Attention heads of the published network, whatever its width; a state dict does not show them.
HEADS = 6

_LINEAR = ("weight", "bias")
_QKV = ("query", "key", "value")

# A module of a block there -> here, attention's query, key and value aside.
_IN_BLOCK = {
    "attention_norm": "norm1",
    "attn.out": "attn.proj",
    "ffn_norm": "norm2",
    "ffn.fc1": "mlp.fc1",
    "ffn.fc2": "mlp.fc2",
}


@dataclass(frozen=True)
class PublishedHypernetwork:
    """The content of a file.

    Args:
        state: State dict of a `MaskNetwork` with `HEADS` heads.
        depth: Transformer blocks.
        width: Token width of the model it speaks about.
        units: Hidden units of a feed-forward network of that model.
        matrices: Editable matrices, two a block.
        learn_masks: The unused entry, where the file has it.
    """

    state: Mapping[str, Tensor]
    depth: int
    width: int
    units: int
    matrices: int
    learn_masks: Float[Tensor, "matrices units"] | None

    @classmethod
    def read(cls, path: str | Path) -> PublishedHypernetwork:
        """Read a file of any depth and width, with or without ``learn_masks``.

        Raises:
            CheckpointError: no such file, damaged, not finite, or its tensors are not those of a hypernetwork; the
                message names them.
        """
        tensors = {name: value.float() for name, value in read_state_dict(path).items()}
        shapes = shapes_of(tensors)
        tokens, head = shapes.get("cls_token", ()), shapes.get("out_layer.0.out.weight", ())
        if len(tokens) != 3 or len(head) != 2:
            raise CheckpointError(
                f"{path} is not a hypernetwork of the published code: cls_token (1, matrices, width) or "
                "out_layer.0.out.weight (units, width) is missing or misshapen; it holds "
                f"{', '.join(list(shapes)[:4])}, …"
            )
        numbers = {name.split(".")[1] for name in shapes if name.startswith("layer.")}
        depth = max(1, sum(number.isdecimal() for number in numbers))
        (_, matrices, width), units = tokens, head[0]
        wrong = difference(
            {name: shape for name, shape in shapes.items() if name != "learn_masks"},
            _published_shapes(depth, width, units, matrices),
        )
        unused = tensors.get("learn_masks")
        if unused is not None and unused.shape != (matrices, units):
            wrong = f"{wrong}; learn_masks {tuple(unused.shape)} instead of {(matrices, units)}".removeprefix(
                "; "
            )
        if wrong:
            raise CheckpointError(f"{path} is not a hypernetwork of the published code: {wrong}")
        return cls(_ours(tensors, depth, matrices), depth, width, units, matrices, unused)

    def write(self, path: str | Path) -> Path:
        """Write the file, atomically, so that the published code loads it strictly.

        Raises:
            InvalidInputError: the file's name does not end as such files do.
        """
        path = Path(path)
        if path.suffix.lower() not in TORCH_SUFFIXES:
            raise InvalidInputError(
                f"the published code reads files of torch.save; {path} must end in {', '.join(TORCH_SUFFIXES)}"
            )
        state = _published(self.state, self.depth, self.matrices)
        unused = self.learn_masks
        state["learn_masks"] = torch.zeros(self.matrices, self.units) if unused is None else unused
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save({name: value.detach().cpu().contiguous() for name, value in state.items()}, file)
        return path


def _names(depth: int, matrices: int) -> dict[str, str]:
    """Name there -> name here, of all tensors but those of query, key and value."""
    names = {"cls_token": "tokens"}
    for part in _LINEAR:
        for i in range(depth):
            names |= {f"layer.{i}.{a}.{part}": f"blocks.{i}.{b}.{part}" for a, b in _IN_BLOCK.items()}
        names |= {f"out_layer.{j}.out.{part}": f"heads.{j}.{part}" for j in range(matrices)}
    return names


def _ours(state: Mapping[str, Tensor], depth: int, matrices: int) -> dict[str, Tensor]:
    found = {here: state[there] for there, here in _names(depth, matrices).items()}
    for i in range(depth):
        for part in _LINEAR:
            rows = [state[f"layer.{i}.attn.{name}.{part}"] for name in _QKV]
            found[f"blocks.{i}.attn.qkv.{part}"] = torch.cat(rows)
    return found


def _published(state: Mapping[str, Tensor], depth: int, matrices: int) -> dict[str, Tensor]:
    found = {there: state[here] for there, here in _names(depth, matrices).items()}
    for i in range(depth):
        for part in _LINEAR:
            rows = state[f"blocks.{i}.attn.qkv.{part}"].chunk(3)
            found |= {f"layer.{i}.attn.{name}.{part}": own for name, own in zip(_QKV, rows, strict=True)}
    return found


def _published_shapes(depth: int, width: int, units: int, matrices: int) -> dict[str, tuple[int, ...]]:
    """What a file holds, ``learn_masks`` aside."""
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, matrices, width)}
    for i in range(depth):
        for norm in ("attention_norm", "ffn_norm"):
            shapes |= {f"layer.{i}.{norm}.{part}": (width,) for part in _LINEAR}
        for layer in (*(f"attn.{name}" for name in (*_QKV, "out")), "ffn.fc1", "ffn.fc2"):
            shapes |= {f"layer.{i}.{layer}.weight": (width, width), f"layer.{i}.{layer}.bias": (width,)}
    for j in range(matrices):
        shapes |= {f"out_layer.{j}.out.weight": (units, width), f"out_layer.{j}.out.bias": (units,)}
    return shapes
