"""What the contract of editors needs: quick settings for every editor, and what some of them must be given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.editing import EditSpace, MaskHypernetwork, MaskNetwork
from workbench.editing.editors import EDITORS, EditMethod
from workbench.editing.editors.mend_network import MendNetwork
from workbench.models import fingerprint

#: The edited blocks of the small models.
BLOCKS = (1, 2, 3)

#: For the editors that have such a setting: few steps, in a model of five blocks.
QUICK = {"blocks": BLOCKS, "max_steps": 4}

#: An editor of a model by name, quick unless other settings are given.
MakeQuick = Callable[..., EditMethod]


@pytest.fixture
def needs(make_network: Callable[..., MaskNetwork]) -> dict[str, Callable[[nn.Module], Any]]:
    """Settings that cannot do without: how to make them for a model, by name of the setting."""

    def hypernetwork(model: nn.Module) -> MaskHypernetwork:
        space = EditSpace.of(model, BLOCKS)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return MaskHypernetwork(make_network(space), space, base=fingerprint(model))

    def network(model: nn.Module) -> MendNetwork:
        return MendNetwork(EditSpace.of(model, BLOCKS), rank=4)

    return {"hypernetwork": hypernetwork, "network": network, "covariance": lambda _: "identity"}


@pytest.fixture
def quick(needs: dict[str, Callable[[nn.Module], Any]]) -> MakeQuick:
    """`quick(name, model, **settings)`."""

    def make(name: str, model: nn.Module, **settings: Any) -> EditMethod:
        known = EDITORS[name].settings
        given = {key: value for key, value in QUICK.items() if key in known}
        given |= {key: build(model) for key, build in needs.items() if key in known}
        return EDITORS[name](model, **{**given, **settings})

    return make


@pytest.fixture
def tensors_of() -> Callable[..., dict[str, Tensor]]:
    """`tensors_of(edit)`: all tensors that an edit holds, by address and short name."""

    def collect(edit: Any) -> dict[str, Tensor]:
        return {f"{a}|{n}": t for a, change in edit.changes.items() for n, t in change.tensors().items()}

    return collect
