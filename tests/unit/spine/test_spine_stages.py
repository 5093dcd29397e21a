"""The stages: shapes never leave their model, a network that says nothing moves nothing, a knowing one is obeyed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import Says, drawn_spines, settings
from torch import Tensor

from workbench.data.vertebrae import flip_corners
from workbench.spine.augmentation import PlainViews
from workbench.spine.local_frames import LocalFrames
from workbench.spine.samples import Samples
from workbench.spine.shape_model import ShapeModel
from workbench.spine.stages import (
    GLOBAL_SIZE,
    CentreStage,
    CornerStage,
    Limits,
    denormalise,
    normalise,
    of_stage,
)
from workbench.spine.training import limits_of
from workbench.spine.views import Pyramid

SPINES = torch.from_numpy(drawn_spines(60)).float()
CENTRES = SPINES.mean(2)


def shape_model(clamp: str = "box", components: int = 8) -> Limits:
    both = np.concatenate([SPINES.numpy(), flip_corners(SPINES.numpy(), 384)]).astype(np.float64)
    shapes = normalise(torch.from_numpy(both).mean(2)).numpy()
    return limits_of(ShapeModel.fit(shapes, components=components), clamp)


def centre_stage(answer: Any, index: int = 1, limits: Limits | None = None, **changes: Any) -> CentreStage:
    limits = limits or shape_model(changes.get("clamp", "box"))
    outputs = 34 if changes.get("constrain") == "none" else limits.basis.shape[1]
    stage = CentreStage(index, settings(**changes), 17, limits, torch.full((outputs,), 0.02))
    stage.network = Says(answer)
    return stage.eval()


def wild(*inputs: Tensor) -> Tensor:
    return 5 * torch.randn(len(inputs[0]), 8, generator=torch.Generator().manual_seed(0))


def beside(limits: Limits, points: Tensor) -> Tensor:
    """How far shapes lie from mean + span of the basis, in normalised units."""
    shapes = normalise(points)
    return (limits.reconstruct(limits.project(shapes)) - shapes).abs().max()


def test_shape_vectors_go_point_by_point() -> None:
    shapes = normalise(CENTRES)
    assert shapes.shape == (60, 34)
    torch.testing.assert_close(shapes[3, 10:12], CENTRES[3, 5] / torch.tensor([384.0, 704.0]))
    torch.testing.assert_close(denormalise(shapes), CENTRES, atol=1e-3, rtol=0)


@pytest.mark.parametrize("clamp", ["box", "ellipsoid"])
def test_limits_are_those_of_the_shape_model(clamp: Any) -> None:
    shapes = normalise(CENTRES.double()).numpy()
    model = ShapeModel.fit(shapes, components=6)
    limits = limits_of(model, clamp)
    drawn = np.random.default_rng(0).standard_normal((50, 6)) * np.sqrt(model.variances) * 4
    clamped = limits.clamp(torch.from_numpy(drawn).float())
    np.testing.assert_allclose(clamped, model.clamp(drawn, clamp), atol=1e-6)
    np.testing.assert_allclose(
        limits.project(torch.from_numpy(shapes).float()), model.project(shapes), atol=1e-6
    )
    np.testing.assert_allclose(limits.reconstruct(clamped), model.reconstruct(clamped.numpy()), atol=1e-6)
    once = limits.constrain(torch.from_numpy(shapes).float())
    torch.testing.assert_close(limits.constrain(once), once, atol=1e-6, rtol=0)


@pytest.mark.parametrize("clamp", ["box", "ellipsoid"])
@pytest.mark.parametrize("index", [0, 1, 3])
def test_every_shape_lies_in_the_model_whatever_the_network_says(clamp: str, index: int) -> None:
    stage = centre_stage(wild, index, clamp=clamp)
    scattered = CENTRES + 30 * torch.randn(CENTRES.shape, generator=torch.Generator().manual_seed(1))
    moved = stage(torch.zeros(60, 1), scattered).points
    assert (moved - scattered).abs().max() > 10
    assert beside(stage.limits, scattered) > 0.01
    assert beside(stage.limits, moved) < 1e-6
    coefficients = stage.limits.project(normalise(moved))
    torch.testing.assert_close(stage.limits.clamp(coefficients), coefficients, atol=1e-5, rtol=0)


def test_moves_within_a_model_of_moves() -> None:
    stage = centre_stage(wild, constrain="offset")
    moved = stage(torch.zeros(60, 1), CENTRES).points
    offset = normalise(moved) - normalise(CENTRES) - stage.limits.mean
    assert (offset @ stage.limits.basis @ stage.limits.basis.T - offset).abs().max() < 1e-6


def test_without_a_constraint_every_coordinate_moves_alone() -> None:
    said = torch.randn(60, 34, generator=torch.Generator().manual_seed(0))
    stage = centre_stage(lambda *inputs: said, constrain="none")
    moved = stage(torch.zeros(60, 1), CENTRES)
    torch.testing.assert_close(normalise(moved.points), normalise(CENTRES) + 0.02 * said, atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.coefficients, 0.02 * said)


@pytest.mark.parametrize("constrain", ["shape", "none"])
def test_a_network_that_says_nothing_moves_nothing(constrain: str) -> None:
    outputs = 34 if constrain == "none" else 8
    stage = centre_stage(lambda *inputs: torch.zeros(len(inputs[0]), outputs), constrain=constrain)
    points = denormalise(shape_model().constrain(normalise(CENTRES)))
    moved = stage(torch.zeros(60, 1), points).points
    torch.testing.assert_close(moved, points, atol=1e-3, rtol=0)
    mean = denormalise(stage.limits.mean[None])
    torch.testing.assert_close(stage(torch.zeros(1, 1), mean).points, mean, atol=1e-3, rtol=0)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_a_knowing_network_contracts_the_error_exactly(fraction: float) -> None:
    """With the true coefficients, a share ρ of the way: the squared error falls by (1 − ρ)² a stage, to the floor."""
    limits = shape_model()
    truth = limits.reconstruct(0.5 * limits.clamp(limits.project(normalise(CENTRES))))

    def knows(seen: Tensor, where: Tensor) -> Tensor:
        shapes = (where / 4 + 0.5).flatten(1)
        return fraction * limits.project(truth - shapes + limits.mean) / 0.02

    stage = centre_stage(knows, limits=limits)
    points = denormalise(limits.mean[None]).expand(60, -1, -1)
    error = (normalise(points) - truth).square().sum(1)
    for _ in range(3):
        points = stage(torch.zeros(60, 1), points).points
        after = (normalise(points) - truth).square().sum(1)
        torch.testing.assert_close(after, error * (1 - fraction) ** 2, rtol=1e-3, atol=1e-10)
        error = after
    reached = stage(torch.zeros(60, 1), denormalise(truth)).points
    torch.testing.assert_close(reached, denormalise(truth), atol=1e-3, rtol=0)


def test_standardised_places_are_what_the_network_is_told() -> None:
    told: list[Tensor] = []

    def listens(seen: Tensor, where: Tensor) -> Tensor:
        told.append(where)
        return torch.zeros(len(where), 8)

    centre_stage(listens)(torch.zeros(60, 1), CENTRES)
    torch.testing.assert_close(told[0].flatten(1), 4 * (normalise(CENTRES) - 0.5))


def corner_stage(answer: Any, index: int = 1, **changes: Any) -> CornerStage:
    local = LocalFrames.of(CENTRES).to_local(SPINES).flatten(2)
    means = local.mean(0)
    model = ShapeModel.fit((local - means).flatten(0, 1).double().numpy(), components=4, centre=False)
    stage = CornerStage(index, settings(**changes), means, limits_of(model, "box"), torch.ones(4) * 0.05)
    stage.network = Says(answer)
    return stage.eval()


def test_vertebrae_lie_in_their_model_whatever_the_network_says() -> None:
    said = 9 * torch.randn(60, 17, 4, generator=torch.Generator().manual_seed(0))
    stage = corner_stage(lambda *inputs: said)
    local = LocalFrames.of(CENTRES).to_local(SPINES).flatten(2)
    moved = stage(torch.zeros(60, 1), local).points
    deviation = moved - stage.means
    torch.testing.assert_close(stage.limits.constrain(deviation), deviation, atol=1e-5, rtol=0)
    assert (moved - local).abs().max() > 0.05


def test_corners_stay_where_they_are_when_nothing_is_said() -> None:
    stage = corner_stage(lambda *inputs: torch.zeros(60, 17, 4))
    means = stage.means.expand(60, -1, -1)
    torch.testing.assert_close(stage(torch.zeros(60, 1), means).points, means, atol=1e-6, rtol=0)


@pytest.mark.parametrize("index", [1, 2])
def test_only_the_last_stage_may_be_free(index: int) -> None:
    outputs = 8 if index == 2 else 4
    said = torch.randn(60, 17, outputs, generator=torch.Generator().manual_seed(0))
    stage = corner_stage(lambda *inputs: said, index, free_last=True)
    stage.scale = torch.full((outputs,), 0.05)
    assert stage.free == (index == 2)
    local = stage.means.expand(60, -1, -1)
    moved = stage(torch.zeros(60, 1), local).points
    if index == 2:
        torch.testing.assert_close(moved, local + 0.05 * said)
    else:
        torch.testing.assert_close(stage.limits.constrain(moved - local), moved - local, atol=1e-5, rtol=0)


@pytest.mark.parametrize("index", [0, 1, 2, 3, 6])
def test_centre_stages_look_at_the_frame_and_then_at_patches(samples: Samples, index: int) -> None:
    pyramid, points = Pyramid.of(samples.images), samples.corners.mean(2)
    stage = CentreStage(index, settings(), 17, shape_model(), torch.ones(8)).eval()
    seen = stage.look(PlainViews(), pyramid, points)
    assert seen.shape[:2] == ((8, 1) if index == 0 else (8, 17))
    assert index > 0 or seen.shape[2:] == GLOBAL_SIZE
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert stage(seen, points).points.shape == (8, 17, 2)
    alone = stage.look(PlainViews(), pyramid[torch.tensor([5])], points[5:6])
    assert torch.equal(alone[0], seen[5])


@pytest.mark.parametrize("index", [0, 1, 2, 5])
def test_corner_stages_look_at_vertebrae_and_then_at_corners(samples: Samples, index: int) -> None:
    pyramid, frames = Pyramid.of(samples.images), LocalFrames.of(samples.corners.mean(2))
    local = frames.to_local(samples.corners).flatten(2)
    stage = CornerStage(index, settings(), local.mean(0), shape_model_of(local), torch.ones(4)).eval()
    seen = stage.look(PlainViews(), pyramid, frames, local)
    assert seen.shape[:3] == (8, 17, 1 if index == 0 else 4)
    assert stage(seen, local).points.shape == (8, 17, 8)


def shape_model_of(local: Tensor) -> Limits:
    deviations = (local - local.mean(0)).flatten(0, 1).double().numpy()
    return limits_of(ShapeModel.fit(deviations, components=4, centre=False), "box")


def test_patches_around_corners_lie_around_corners() -> None:
    """On an image whose greys are x / 384, the mean of a patch is the place of its corner."""
    ramp = torch.arange(384).expand(1, 704, 384).mul(255 / 383).round().to(torch.uint8)
    pyramid, corners = Pyramid.of(ramp), SPINES[:1]
    frames = LocalFrames.of(corners.mean(2))
    local = frames.to_local(corners).flatten(2)
    every = LocalFrames.of(CENTRES).to_local(SPINES).flatten(2)
    stage = CornerStage(1, settings(), local[0], shape_model_of(every), torch.ones(4))
    seen = stage.look(PlainViews(), pyramid, frames, local)
    torch.testing.assert_close(seen.mean((3, 4))[0] * 383, corners[0, :, :, 0], atol=0.7, rtol=0)
    centre = CentreStage(2, settings(), 17, shape_model(), torch.ones(8))
    patches = centre.look(PlainViews(), pyramid, corners.mean(2))
    torch.testing.assert_close(patches.mean((2, 3))[0] * 383, corners.mean(2)[0, :, 0], atol=0.7, rtol=0)


def test_the_last_value_is_kept_for_further_stages() -> None:
    assert [of_stage((3.0, 2.0, 1.0), index) for index in (1, 2, 3, 4, 9)] == [3, 2, 1, 1, 1]
