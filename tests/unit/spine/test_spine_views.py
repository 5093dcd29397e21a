"""Looking at images at points: pyramids whose levels agree, exact sampling, and lattices of patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.spine.frames import FRAME
from workbench.spine.views import LEVELS, Pyramid, lattice, sample, whole_frame


def noise(count: int = 2) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, *FRAME), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def ramps() -> torch.Tensor:
    """One image that grows to the right, one that grows downwards, by steps that every level of a pyramid can hold."""
    y, x = torch.meshgrid(torch.arange(FRAME[0]), torch.arange(FRAME[1]), indexing="ij")
    return torch.stack([x // 4 * 2, y // 4]).to(torch.uint8)


def test_each_level_averages_the_one_before() -> None:
    images = noise()
    pyramid = Pyramid.of(images)
    assert [tuple(level.shape) for level in pyramid.levels] == [(2, 704, 384), (2, 352, 192), (2, 176, 96)]
    assert len(pyramid.levels) == LEVELS
    assert all(level.dtype == torch.uint8 for level in pyramid.levels)
    mean = images[1, 10:12, 20:22].float().mean()
    assert pyramid.levels[1][1, 5, 10] == mean.round()


def test_many_images_are_averaged_as_one_is() -> None:
    images = torch.cat([noise(), torch.zeros(62, *FRAME, dtype=torch.uint8), noise(1)])
    pyramid = Pyramid.of(images)
    alone = Pyramid.of(images[-1:])
    assert len(pyramid) == 65
    assert all(torch.equal(a[-1], b[0]) for a, b in zip(pyramid.levels, alone.levels, strict=True))


def test_a_pyramid_of_some_images() -> None:
    pyramid = Pyramid.of(noise(3))
    some = pyramid[torch.tensor([2, 0])]
    assert torch.equal(some.levels[2][0], pyramid.levels[2][2])
    assert len(some) == 2


def test_pixel_centres_give_the_pixels() -> None:
    images = noise()
    points = torch.tensor([[[0.0, 0.0], [383, 703], [17, 500]], [[383, 0], [0, 703], [200, 3]]])
    found = Pyramid.of(images).sample(points, 1.0) * 255
    for i in range(2):
        expected = [images[i, int(y), int(x)].item() for x, y in points[i]]
        np.testing.assert_allclose(found[i], expected, atol=0.02)


def test_beyond_the_border_it_is_as_on_it() -> None:
    images = noise(1)
    points = torch.tensor([[[-50.0, -9.0], [500, 1000], [-3, 40]]])
    expected = [images[0, 0, 0], images[0, 703, 383], images[0, 40, 0]]
    np.testing.assert_allclose(Pyramid.of(images).sample(points, 1.0)[0] * 255, expected, atol=0.02)


@pytest.mark.parametrize("spacing", [0.3, 1.0, 2.0, 4.0, 30.0])
def test_a_point_is_the_same_place_at_every_level(spacing: float) -> None:
    points = (
        torch.rand(2, 300, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([370.0, 690.0]) + 6
    )
    found = Pyramid.of(ramps()).sample(points, spacing) * 255
    errors = (found[0] - (points[0, :, 0] - 1.5) / 2, found[1] - (points[1, :, 1] - 1.5) / 4)
    assert errors[0].abs().max() < 1.01
    assert errors[1].abs().max() < 0.51
    assert abs(errors[0].mean()) < 0.1
    assert abs(errors[1].mean()) < 0.1


@pytest.mark.parametrize(("spacing", "level"), [(0.5, 0), (1.3, 0), (1.5, 1), (2.6, 1), (3.0, 2), (99.0, 2)])
def test_the_spacing_chooses_the_level(spacing: float, level: int) -> None:
    pyramid = Pyramid.of(noise(1))
    points = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(1)) * 300 + 10
    expected = sample(pyramid.levels[level][:, None].float() / 255, points)
    assert torch.equal(pyramid.sample(points, spacing), expected)


def test_points_keep_their_arrangement() -> None:
    points = torch.rand(2, 17, 4, 5, 6, 2) * 300
    found = Pyramid.of(noise()).sample(points, 1.0)
    assert found.shape == (2, 17, 4, 5, 6)
    one = Pyramid.of(noise()).sample(points[:, 3, 2, 1, 4:5], 1.0)
    assert torch.equal(found[:, 3, 2, 1, 4:5], one)


def test_lattices_lie_at_the_centres_of_pixels() -> None:
    points = lattice(2, 4)
    assert points.shape == (2, 4, 2)
    assert points[0, 0].tolist() == [-0.375, -0.25]
    assert points[1, 3].tolist() == [0.375, 0.25]
    assert torch.allclose(points.mean((0, 1)), torch.zeros(2))


def test_the_whole_frame_at_its_own_size_is_its_pixels() -> None:
    points = whole_frame(*FRAME)
    y, x = torch.meshgrid(torch.arange(FRAME[0]), torch.arange(FRAME[1]), indexing="ij")
    torch.testing.assert_close(points, torch.stack([x, y], -1).float(), atol=1e-3, rtol=0)
