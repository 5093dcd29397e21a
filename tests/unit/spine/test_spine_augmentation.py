"""Random views: corners move as the pixels do, greys change within their ranges, and nothing happens unasked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_cascade import drawn_spines

from workbench.spine.augmentation import (
    AugmentationSettings,
    PlainViews,
    RandomViews,
    augment,
    show,
    transform,
)
from workbench.spine.frames import FRAME
from workbench.spine.samples import Samples
from workbench.spine.views import Pyramid

STILL = AugmentationSettings(
    0, 0, 0, 0, 0, 0, gamma=1, contrast=0, brightness=0, field=0, noise=0, blur=0, invert=0, bars=0
)
MOVING = replace(
    AugmentationSettings(),
    gamma=1,
    contrast=0,
    brightness=0,
    field=0,
    noise=0,
    blur=0,
    invert=0,
    bars=0,
    cut=0.5,
    turn=8,
    scale=0.1,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dots(points: np.ndarray) -> torch.Tensor:
    """One image a point, dark but for a soft bright spot."""
    y, x = np.mgrid[: FRAME[0], : FRAME[1]]
    spots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 3.0**2)) for px, py in points]
    return torch.from_numpy((np.stack(spots) * 255).round()).to(torch.uint8)


def corners_at(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.broadcast_to(points[:, None, None], (len(points), 17, 4, 2)).copy()).float()


def test_corners_move_as_the_pixels_do() -> None:
    points = np.random.default_rng(0).uniform([140, 250], [240, 450], (12, 2))
    views = RandomViews.draw(12, generator(), MOVING)
    assert 0 < views.flipped.sum() < 12
    pyramid = Pyramid.of(dots(points))
    there = views.corners(corners_at(points))
    assert views.sample(pyramid, there, 1.0).min() > 0.95
    assert views.sample(pyramid, there + torch.tensor([20.0, 0.0]), 1.0).max() < 0.05


def test_small_views_of_the_whole_frame_show_the_same_place() -> None:
    points = np.array([[150.0, 300.0], [250.0, 420.0]])
    views = RandomViews.draw(2, generator(3), MOVING)
    seen = (show(views, Pyramid.of(dots(points)), (176, 96))[:, 0] - 0.01).clamp_min(0)
    row, column = torch.meshgrid(torch.arange(176).float(), torch.arange(96).float(), indexing="ij")
    found = (
        torch.stack([(seen * column).sum((1, 2)), (seen * row).sum((1, 2))], -1) / seen.sum((1, 2))[:, None]
    )
    torch.testing.assert_close(
        (found + 0.5) * 4 - 0.5, views.corners(corners_at(points))[:, 0, 0], atol=0.3, rtol=0
    )


def test_backward_undoes_forward() -> None:
    views = RandomViews.draw(50, generator(), MOVING)
    points = torch.rand(50, 30, 2, generator=generator(1)) * 700
    torch.testing.assert_close(
        transform(views.backward, transform(views.forward, points)), points, atol=0.01, rtol=0
    )


def test_flipped_views_name_corners_as_they_lie() -> None:
    corners = torch.from_numpy(drawn_spines(40)).float()
    views = RandomViews.draw(40, generator(), MOVING)
    seen = views.corners(corners)
    assert 5 < views.flipped.sum() < 35
    assert (seen[:, :, [0, 2], 0].mean(2) < seen[:, :, [1, 3], 0].mean(2)).all()
    assert (seen[:, :, :2, 1].mean(2) < seen[:, :, 2:, 1].mean(2)).all()


def test_a_pure_flip_is_the_flip_of_landmarks(samples: Samples) -> None:
    from workbench.data.vertebrae import flip_corners

    views = RandomViews.draw(8, generator(), replace(STILL, flip=1.0))
    expected = flip_corners(samples.corners.numpy(), FRAME[1])
    np.testing.assert_allclose(views.corners(samples.corners), expected, atol=1e-3)
    seen = show(views, Pyramid((samples.images,)), FRAME)[:, 0] * 255
    np.testing.assert_allclose(seen, samples.images.flip(2).float(), atol=0.1)


def test_settings_of_zero_change_nothing(samples: Samples) -> None:
    views, pyramid = RandomViews.draw(8, generator(), STILL), Pyramid.of(samples.images)
    torch.testing.assert_close(views.corners(samples.corners), samples.corners, atol=1e-3, rtol=0)
    seen, plain = show(views, pyramid, (176, 96)), show(PlainViews(), pyramid, (176, 96))
    torch.testing.assert_close(seen, plain, atol=2e-4, rtol=0)


def test_plain_views_are_the_images(samples: Samples) -> None:
    points = samples.corners
    pyramid = Pyramid.of(samples.images)
    assert PlainViews().corners(points) is points
    assert torch.equal(PlainViews().sample(pyramid, points, 2.0), pyramid.sample(points, 2.0))


@pytest.mark.parametrize("name", ["gamma", "contrast", "brightness", "noise", "invert", "bars"])
def test_each_change_of_greys_does_something_alone(name: str, samples: Samples) -> None:
    changed = replace(STILL, **{name: {"gamma": 2.0, "noise": 0.3}.get(name, 1.0)})
    pyramid = Pyramid.of(samples.images)
    seen = show(RandomViews.draw(8, generator(), changed), pyramid, (176, 96))
    plain = show(PlainViews(), pyramid, (176, 96))
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert (seen - plain).abs().amax((1, 2, 3)).gt(0.02).sum() >= 6


def test_inverted_views_are_negatives(samples: Samples) -> None:
    pyramid = Pyramid.of(samples.images)
    seen = show(RandomViews.draw(8, generator(), replace(STILL, invert=1.0)), pyramid, (176, 96))
    torch.testing.assert_close(seen, 1 - show(PlainViews(), pyramid, (176, 96)), atol=2e-4, rtol=0)


def test_bars_lie_where_they_say() -> None:
    views = RandomViews.draw(60, generator(), replace(STILL, bars=1.0))
    middles = views.bars[:, 0, :2]
    middles = torch.stack([middles[:, 0].clamp(0, 383), middles[:, 1].clamp(0, 703)], 1)[:, None]
    pyramid = Pyramid((torch.full((60, *FRAME), 128, dtype=torch.uint8),))
    under_one = views.bars[:, 1, 3] == 0
    assert 15 < under_one.sum() < 45
    found = views.sample(pyramid, middles, 1.0)[:, 0]
    expected = views.bars[:, 0, 5].clamp_min(1e-4)
    torch.testing.assert_close(found[under_one], expected[under_one], atol=1e-3, rtol=0)


def test_default_ranges() -> None:
    views = RandomViews.draw(4000, generator())
    scale = torch.linalg.det(views.forward[:, :, :2]).abs().sqrt()
    exponent, contrast, brightness, noise, inverted = views.greys.unbind(1)
    assert 0.45 < views.flipped.float().mean() < 0.55
    assert 0.8 < scale.min() < scale.median() < 1.05 < scale.max() < 2
    assert (exponent.min() >= 0.5) & (exponent.max() <= 2) & (abs(exponent.log().mean()) < 0.05)
    assert (contrast.min() >= 0.6) & (contrast.max() <= 1.4)
    assert (brightness.abs().max() <= 0.15) & (noise.min() >= 0) & (noise.max() <= 0.05)
    assert 0.08 < inverted.mean() < 0.12
    assert 0.17 < (views.bars[:, 0, 3] > 0).float().mean() < 0.23


def test_cut_views_lose_vertebrae_at_one_end_only() -> None:
    corners = torch.from_numpy(drawn_spines(1)).float().expand(200, -1, -1, -1)
    seen = RandomViews.draw(200, generator(), replace(STILL, cut=1.0)).corners(corners).mean(2)[..., 1]
    low, high = (seen > FRAME[0]).any(1), (seen < 0).any(1)
    assert not (low & high).any()
    assert low.sum() > high.sum() > 0


def test_views_are_those_of_their_seed(samples: Samples) -> None:
    images = samples.images[:3, None].float() / 255
    first = augment(images, samples.corners[:3], generator(4), (88, 48))
    again = augment(images, samples.corners[:3], generator(4), (88, 48))
    other = augment(images, samples.corners[:3], generator(5), (88, 48))
    assert first[0].shape == (3, 1, 88, 48)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
