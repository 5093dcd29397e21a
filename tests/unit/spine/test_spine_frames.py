"""The frame: exact ways there and back, proportions, padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import InvalidInputError
from workbench.spine.frames import FRAME, Frame

sides = st.integers(64, 5000)


@given(sides, sides, st.integers(0, 10**6))
def test_points_come_back_exactly(height: int, width: int, seed: int) -> None:
    frame = Frame.of((height, width))
    points = np.random.default_rng(seed).uniform(-0.2, 1.2, (17, 4, 2)) * [width, height]
    np.testing.assert_allclose(frame.inverse(frame.forward(points)), points, rtol=0, atol=1e-9)
    there = np.random.default_rng(seed).uniform(0, 1, (50, 2)) * [384, 704]
    np.testing.assert_allclose(frame.forward(frame.inverse(there)), there, rtol=0, atol=1e-9)


@given(sides, sides)
def test_the_image_keeps_its_proportions_and_lies_in_the_middle(height: int, width: int) -> None:
    frame = Frame.of((height, width))
    scale = min(FRAME[0] / height, FRAME[1] / width)
    assert np.abs(np.array(frame.scaled) - np.array([height, width]) * scale).max() <= 0.5 + 1e-9
    assert frame.scaled[0] == FRAME[0] or frame.scaled[1] == FRAME[1]
    before = np.array(frame.corner)
    after = np.array(FRAME) - before - np.array(frame.scaled)
    assert (before >= 0).all()
    assert ((after - before >= 0) & (after - before <= 1)).all()


@given(sides, sides)
def test_corners_of_the_image_are_corners_of_its_part_of_the_frame(height: int, width: int) -> None:
    frame = Frame.of((height, width))
    outer = frame.forward(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    top, left = frame.corner
    inside = [[left - 0.5, top - 0.5], [left + frame.scaled[1] - 0.5, top + frame.scaled[0] - 0.5]]
    np.testing.assert_allclose(outer, inside, atol=1e-9)


@pytest.mark.parametrize("size", [(704, 230), (704, 231), (1500, 700), (300, 120), (200, 400)])
def test_padding_is_zero_and_the_rest_is_not(size: tuple[int, int]) -> None:
    frame = Frame.of(size)
    framed = frame.image(np.ones(size, dtype=np.float32))
    assert framed.shape == FRAME
    assert framed.dtype == torch.float32
    (top, left), (height, width) = frame.corner, frame.scaled
    inside = framed[top : top + height, left : left + width]
    assert torch.allclose(inside, torch.ones_like(inside), atol=1e-5)
    assert framed.sum() == inside.sum()


def test_an_image_of_the_frames_height_is_not_resampled() -> None:
    pixels = np.random.default_rng(0).random((704, 300), dtype=np.float32)
    framed = Frame.of((704, 300)).image(pixels)
    np.testing.assert_array_equal(framed[:, 42:342].numpy(), pixels)


@pytest.mark.parametrize("factor", [0.5, 1, 2, 3.5])
def test_a_bright_spot_lies_where_its_point_is_sent(factor: float) -> None:
    size = (round(704 * factor), round(300 * factor))
    spot = np.array([180.0, 260.0]) * factor
    y, x = np.mgrid[: size[0], : size[1]]
    pixels = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * (4 * factor) ** 2))
    frame = Frame.of(size)
    framed = frame.image(pixels).numpy()
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]]
    found = np.array([(framed * columns).sum(), (framed * rows).sum()]) / framed.sum()
    np.testing.assert_allclose(found, frame.forward(spot), atol=0.02)


def test_what_cannot_be_framed_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="0 x 12 pixels cannot be framed"):
        Frame.of((0, 12))
    with pytest.raises(InvalidInputError, match="1 x 5000 pixels is too narrow"):
        Frame.of((1, 5000))
    with pytest.raises(InvalidInputError, match=r"this frame is for images \(704, 384\), not \(10, 10\)"):
        Frame.of((704, 384)).image(np.zeros((10, 10)))
