"""A small model, its edit space, a hypernetwork with distinct masks, and images it takes for something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from workbench.editing import EditRequest, EditSpace, MaskHypernetwork, MaskNetwork
from workbench.models import fingerprint, logits_of

#: The edited blocks of the five-block model.
BLOCKS = (1, 2, 3)


@pytest.fixture
def space(vit: nn.Module) -> EditSpace:
    return EditSpace.of(vit, BLOCKS)


@pytest.fixture
def make_network() -> Callable[..., MaskNetwork]:
    """A mask network with seeded weights: masks spread over (0, 1) and differ between images."""

    def build(space: EditSpace, depth: int = 2, seed: int = 0) -> MaskNetwork:
        network = MaskNetwork(space, depth=depth)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return network.eval()

    return build


@pytest.fixture
def hypernetwork(
    vit: nn.Module, space: EditSpace, make_network: Callable[..., MaskNetwork]
) -> MaskHypernetwork:
    return MaskHypernetwork(make_network(space), space, base=fingerprint(vit))


@pytest.fixture
def requests(vit: nn.Module, images: Tensor) -> list[EditRequest]:
    """One request an image: make it the class that the model holds to be second most likely."""
    second = logits_of(vit, images).topk(2).indices[:, 1]
    return [EditRequest(image, int(target)) for image, target in zip(images, second, strict=True)]


@pytest.fixture
def request_(requests: list[EditRequest]) -> EditRequest:
    """One of `requests`."""
    return requests[0]
