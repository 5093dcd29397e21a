"""Eight phantoms, and a cascade trained on them for two steps a stage: enough for everything but accuracy."""

from __future__ import annotations

import pytest
from tiny_cascade import lively, settings

from workbench.data.phantom import Phantom, phantom
from workbench.spine.cascade import SpineCascade
from workbench.spine.network import CascadeNetwork
from workbench.spine.samples import Samples
from workbench.spine.training import train_cascade


@pytest.fixture(scope="session")
def phantoms() -> list[Phantom]:
    """Eight clean phantoms of different widths."""
    return [phantom(index, set_name="tests") for index in range(8)]


@pytest.fixture(scope="session")
def samples(phantoms: list[Phantom]) -> Samples:
    """The eight phantoms in the frame."""
    return Samples.of([(drawn.image, drawn.corners) for drawn in phantoms])


@pytest.fixture(scope="session")
def trained(samples: Samples) -> CascadeNetwork:
    """A cascade of 4 + 3 stages after two steps each; do not change it."""
    return train_cascade(samples, settings(), progress=False)


@pytest.fixture(scope="session")
def network(trained: CascadeNetwork) -> CascadeNetwork:
    """The same with stages that move points much; do not change it."""
    return lively(trained)


@pytest.fixture(scope="session")
def cascade(network: CascadeNetwork) -> SpineCascade:
    """A detector whose answers are of no use but differ between images."""
    return SpineCascade(network, name="tiny")
