"""Local frames of vertebrae: axes, units, and exact ways there and back."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cascade import drawn_spines

from workbench.spine.local_frames import LocalFrames

CENTRES = torch.from_numpy(drawn_spines(5).mean(2))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([(), (4,), (3, 5)]))
def test_points_come_back_exactly(seed: int, shape: tuple[int, ...]) -> None:
    wild = CENTRES + 9 * torch.randn(CENTRES.shape, generator=torch.Generator().manual_seed(seed))
    frames = LocalFrames.of(wild)
    local = torch.randn(5, 17, *shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    there = frames.to_image(local)
    torch.testing.assert_close(frames.to_local(there), local, atol=1e-9, rtol=0)
    torch.testing.assert_close(frames.to_image(frames.to_local(there)), there, atol=1e-9, rtol=0)


def test_in_single_precision_they_come_back_to_a_thousandth_of_a_pixel() -> None:
    points = torch.from_numpy(drawn_spines(20)).float()
    frames = LocalFrames.of(points.mean(2))
    torch.testing.assert_close(frames.to_image(frames.to_local(points)), points, atol=1e-3, rtol=0)


def test_axes_are_unit_vectors_at_right_angles() -> None:
    frames = LocalFrames.of(CENTRES)
    torch.testing.assert_close(frames.across.norm(dim=-1), torch.ones(5, 17, dtype=torch.float64))
    torch.testing.assert_close(frames.along.norm(dim=-1), torch.ones(5, 17, dtype=torch.float64))
    torch.testing.assert_close(
        (frames.across * frames.along).sum(-1), torch.zeros(5, 17, dtype=torch.float64)
    )
    assert (frames.across[..., 0] > 0).all()
    assert (frames.along[..., 1] > 0).all()


def test_of_a_straight_spine_they_are_those_of_the_image() -> None:
    points = torch.stack([torch.full((17,), 190.0), 40 + 38.0 * torch.arange(17)], -1)[None]
    frames = LocalFrames.of(points)
    assert torch.equal(frames.unit, torch.full((1, 17), 38.0))
    local = torch.tensor([1.0, 0.5]).expand(1, 17, 2)
    torch.testing.assert_close(frames.to_image(local), points + torch.tensor([38.0, 19.0]))


def test_units_are_means_of_neighbouring_distances_and_one_sided_at_the_ends() -> None:
    y = torch.cumsum(torch.arange(17.0) + 10, 0)
    frames = LocalFrames.of(torch.stack([torch.zeros(17), y], -1)[None])
    assert frames.unit[0, [0, 1, 8, 16]].tolist() == [11.0, 11.5, 18.5, 26.0]


def test_local_coordinates_do_not_see_place_size_or_turn() -> None:
    corners = torch.from_numpy(drawn_spines(5))
    turn = torch.tensor(
        [[math.cos(0.2), math.sin(0.2)], [-math.sin(0.2), math.cos(0.2)]], dtype=torch.float64
    )
    moved = corners @ turn * 1.7 + torch.tensor([30.0, -12.0], dtype=torch.float64)
    before = LocalFrames.of(corners.mean(2)).to_local(corners)
    after = LocalFrames.of(moved.mean(2)).to_local(moved)
    torch.testing.assert_close(after, before, atol=1e-9, rtol=0)


def test_centres_that_coincide_give_numbers() -> None:
    frames = LocalFrames.of(torch.full((1, 17, 2), 100.0))
    assert torch.isfinite(frames.to_image(torch.ones(1, 17, 4, 2))).all()
    assert torch.isfinite(frames.to_local(torch.ones(1, 17, 4, 2))).all()
