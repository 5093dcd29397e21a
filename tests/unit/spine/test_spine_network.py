"""The cascade as a whole: every stage's landmarks, independence of the batch, and tensors that are no cascade."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from tiny_cascade import Says, settings
from torch import Tensor

from workbench.errors import CheckpointError
from workbench.spine.augmentation import AugmentationSettings, RandomViews
from workbench.spine.local_frames import LocalFrames
from workbench.spine.network import CascadeNetwork
from workbench.spine.samples import Samples
from workbench.spine.stages import denormalise, normalise
from workbench.spine.views import Pyramid


def test_the_trace_has_a_start_and_every_stage(network: CascadeNetwork, samples: Samples) -> None:
    states = network.trace(Pyramid.of(samples.images[:3]))
    assert [state.step for state in states] == ["start"] + 4 * ["centres"] + 3 * ["corners"]
    for state in states:
        assert state.centres.shape == (3, 17, 2)
        assert state.corners.shape == (3, 17, 4, 2)
        assert torch.isfinite(state.corners).all()
        if state.step == "corners":
            torch.testing.assert_close(state.centres, state.corners.mean(2))


def test_the_start_is_the_mean_of_the_training_shapes(network: CascadeNetwork, samples: Samples) -> None:
    start = network.trace(Pyramid.of(samples.images[:3]))[0]
    mean = denormalise(network.shape.mean[None])[0]
    assert torch.equal(start.centres, mean.expand(3, -1, -1))
    mirrored = mean * torch.tensor([-1.0, 1.0]) + torch.tensor([383.0, 0.0])
    torch.testing.assert_close(mirrored, mean, atol=1e-3, rtol=0)


def test_centre_stages_stay_in_the_shape_model(network: CascadeNetwork, samples: Samples) -> None:
    states = network.trace(Pyramid.of(samples.images))
    moved = [(a.centres - b.centres).abs().max() for a, b in zip(states[1:5], states[:4], strict=True)]
    assert min(moved) > 0.5
    for state in states[:5]:
        shapes = normalise(state.centres)
        assert (network.shape.constrain(shapes) - shapes).abs().max() < 1e-6


def test_before_the_second_step_the_mean_vertebra_lies_on_each_centre(
    network: CascadeNetwork, samples: Samples
) -> None:
    state = network.trace(Pyramid.of(samples.images[:2]))[4]
    local = LocalFrames.of(state.centres).to_local(state.corners)
    torch.testing.assert_close(
        local, network.means.reshape(17, 4, 2).expand(2, -1, -1, -1), atol=1e-4, rtol=0
    )


def test_one_image_alone_is_told_the_same_as_among_eight(network: CascadeNetwork, samples: Samples) -> None:
    together = network.trace(Pyramid.of(samples.images))
    for i in (0, 5):
        alone = network.trace(Pyramid.of(samples.images[i : i + 1]))
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(
                normalise_corners(one.corners), normalise_corners(all_of_them.corners[i : i + 1])
            )


def normalise_corners(corners: Tensor) -> Tensor:
    return normalise(corners.flatten(1, 2))


def test_the_order_of_a_batch_does_not_matter(network: CascadeNetwork, samples: Samples) -> None:
    order = torch.tensor([3, 7, 0, 5, 1, 6, 2, 4])
    there = network.trace(Pyramid.of(samples.images[order]))[-1].corners
    here = network.trace(Pyramid.of(samples.images))[-1].corners
    torch.testing.assert_close(normalise_corners(there), normalise_corners(here[order]), atol=1e-5, rtol=0)


def test_images_are_told_apart(network: CascadeNetwork, samples: Samples) -> None:
    corners = network.trace(Pyramid.of(samples.images))[-1].corners
    assert (corners[0] - corners[1]).abs().max() > 1


def test_networks_that_say_nothing_leave_the_start(trained: CascadeNetwork, samples: Samples) -> None:
    still = deepcopy(trained)
    for stage in still.centre_stages:
        stage.network = Says(lambda *inputs: torch.zeros(len(inputs[0]), still.shape.basis.shape[1]))
    for stage in still.corner_stages:
        modes = stage.limits.basis.shape[1]
        stage.network = Says(lambda *inputs, modes=modes: torch.zeros(*inputs[0].shape[:2], modes))
    states = still.trace(Pyramid.of(samples.images[:2]))
    for state in states[1:]:
        torch.testing.assert_close(state.corners, states[0].corners, atol=2e-3, rtol=0)


@pytest.mark.parametrize("fraction", [0.3, 0.6])
def test_knowing_networks_contract_the_error_by_the_same_factor_each_stage(
    trained: CascadeNetwork, samples: Samples, fraction: float
) -> None:
    """From the mean shape, through the true pipeline: NMSE falls by (1 − ρ)² a stage, down to the model's floor."""
    network, shape = deepcopy(trained), trained.shape
    wanted = shape.project(normalise(samples.corners.mean(2)))
    truth = shape.reconstruct(torch.maximum(torch.minimum(wanted, shape.limits), -shape.limits))
    for stage in network.centre_stages:

        def knows(seen: Tensor, where: Tensor | None = None, scale: Tensor = stage.scale) -> Tensor:
            shapes = shape.mean.expand(8, -1) if where is None else (where / 4 + 0.5).flatten(1)
            return fraction * ((truth - shapes) @ shape.basis) / scale

        stage.network = Says(knows)
    states = network.trace(Pyramid.of(samples.images))[:5]
    errors = torch.stack([(normalise(state.centres) - truth).square().sum(1).mean() for state in states])
    expected = errors[0] * (1 - fraction) ** (2 * torch.arange(5))
    torch.testing.assert_close(errors, expected, rtol=2e-3, atol=1e-10)


def test_the_second_step_alone_is_the_second_step(network: CascadeNetwork, samples: Samples) -> None:
    pyramid = Pyramid.of(samples.images[:3])
    states = network.trace(pyramid)
    assert torch.equal(network.corners_of(pyramid, states[4].centres), states[-1].corners)


def test_views_that_change_nothing_change_nothing(network: CascadeNetwork, samples: Samples) -> None:
    still = AugmentationSettings(
        0, 0, 0, 0, 0, 0, gamma=1, contrast=0, brightness=0, field=0, noise=0, blur=0, invert=0, bars=0
    )
    views = RandomViews.draw(3, torch.Generator().manual_seed(0), still)
    pyramid = Pyramid.of(samples.images[:3])
    seen, plain = network.trace(pyramid, views)[-1].corners, network.trace(pyramid)[-1].corners
    torch.testing.assert_close(seen, plain, atol=0.5, rtol=0)


def test_tensors_give_the_network_back(network: CascadeNetwork, samples: Samples) -> None:
    again = CascadeNetwork.of_tensors(network.settings, network.state_dict())
    pyramid = Pyramid.of(samples.images[:2])
    assert torch.equal(again.trace(pyramid)[-1].corners, network.trace(pyramid)[-1].corners)
    assert not any(module.training for module in again.modules())


@pytest.mark.parametrize(
    "name", ["means", "shape.mean", "corner_stages.1.scale", "centre_stages.2.network.head.0.weight"]
)
def test_missing_tensors_are_named(network: CascadeNetwork, name: str) -> None:
    tensors = dict(network.state_dict())
    del tensors[name]
    with pytest.raises(CheckpointError, match=rf"(?s)not a cascade with such settings.*{name}"):
        CascadeNetwork.of_tensors(network.settings, tensors)


def test_tensors_that_are_left_over_are_named(network: CascadeNetwork) -> None:
    tensors = {**network.state_dict(), "more": torch.ones(2)}
    with pytest.raises(CheckpointError, match=r"(?s)not a cascade with such settings.*more"):
        CascadeNetwork.of_tensors(network.settings, tensors)


@pytest.mark.parametrize(
    "changes",
    [
        {"centre_stages": 5},
        {"centre_stages": 3},
        {"corner_stages": 4},
        {"points": "corners"},
        {"neighbours": False},
        {"corner_pca": "joint"},
    ],
)
def test_tensors_of_other_settings_are_refused(network: CascadeNetwork, changes: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="not a cascade with such settings"):
        CascadeNetwork.of_tensors(settings(**changes), network.state_dict())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape.mean", torch.zeros(20)),
        ("shape.basis", torch.zeros(34)),
        ("means", torch.zeros(17, 6)),
        ("shape.ellipsoid", torch.zeros(3)),
        ("centre_stages.0.scale", torch.tensor(1.0)),
        ("corner_stages.0.network.level.weight", torch.zeros(17, 9)),
    ],
)
def test_tensors_of_other_shapes_are_refused(network: CascadeNetwork, name: str, value: Tensor) -> None:
    tensors = {**network.state_dict(), name: value}
    with pytest.raises(CheckpointError, match="not a cascade with such settings"):
        CascadeNetwork.of_tensors(network.settings, tensors)
