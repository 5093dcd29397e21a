"""Augmented views: pure functions of drawing and seed, images in [0, 1], and what each setting does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.views import ViewSettings, augmented_views
from workbench.errors import InvalidInputError

#: Nothing but the drawing on white.
STILL = ViewSettings(scale=(1.0, 1.0), rotation=0, shift=0, mirror=0, plain=1)


def drawing(count: int = 3, size: int = 24) -> np.ndarray:
    """An opaque red block left of the middle on a transparent ground whose hidden colour is green."""
    pixels = np.zeros((count, size, size, 4), dtype=np.uint8)
    pixels[..., 1] = 255
    pixels[:, size // 4 : size // 2, size // 4 : size // 2] = (255, 0, 0, 255)
    return pixels


settings = st.builds(
    ViewSettings,
    scale=st.tuples(st.floats(0.3, 1.0), st.floats(1.0, 2.0)),
    rotation=st.floats(0, 180),
    shift=st.floats(0, 0.5),
    mirror=st.floats(0, 1),
    plain=st.floats(0, 1),
)


@given(settings, st.integers(0, 2**62), st.integers(1, 4))
def test_a_view_is_an_image_and_a_pure_function_of_its_seed(
    chosen: ViewSettings, seed: int, count: int
) -> None:
    before = drawing(count)
    first = augmented_views(drawing(count), seed, chosen)
    torch.manual_seed(1)
    assert torch.equal(first, augmented_views(before, seed, chosen))
    assert np.array_equal(before, drawing(count))
    assert first.shape == (count, 3, 24, 24)
    assert first.dtype == torch.float32
    assert torch.isfinite(first).all()
    assert first.min() >= 0
    assert first.max() <= 1


def test_seeds_and_drawings_of_a_batch_get_views_of_their_own() -> None:
    first, other = augmented_views(drawing(), 0), augmented_views(drawing(), 1)
    assert (first - other).abs().flatten(1).mean(1).min() > 0.02
    assert (first[0] - first[1]).abs().mean() > 0.02


def test_without_any_change_it_is_the_drawing_on_white() -> None:
    view = augmented_views(drawing(), 0, STILL)[0]
    torch.testing.assert_close(view[:, 6:12, 6:12], torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 6, 6))
    view[:, 6:12, 6:12] = 1
    torch.testing.assert_close(view, torch.ones(3, 24, 24))


def test_a_mirrored_view_is_the_mirror_image() -> None:
    mirrored = augmented_views(
        drawing(), 0, ViewSettings(scale=(1, 1), rotation=0, shift=0, mirror=1, plain=1)
    )
    torch.testing.assert_close(mirrored, augmented_views(drawing(), 0, STILL).flip(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_scale_is_the_size_of_the_drawing(seed: int) -> None:
    half = augmented_views(
        drawing(size=48), seed, ViewSettings((0.5, 0.5), rotation=0, shift=0, mirror=0, plain=1)
    )
    red = 1 - half[0, 1]  # how much of each pixel is covered
    assert float(red.sum()) == pytest.approx(144 / 4, rel=0.1)


def test_rotation_and_shift_stay_within_their_limits() -> None:
    limits = ViewSettings(scale=(1, 1), rotation=10, shift=0.1, mirror=0, plain=1)
    views = augmented_views(drawing(200, 48), 0, limits)
    covered = 1 - views[:, 1]
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    centres = torch.stack([(covered * axis).sum((1, 2)) / covered.sum((1, 2)) for axis in (rows, columns)], 1)
    moved = centres - centres.new_tensor([17.5, 17.5])
    assert moved.abs().max() < 0.1 * 48 + 2  # the turn adds a little: the block is off the middle
    assert moved.min() < -3
    assert moved.max() > 3


def test_hidden_colours_of_transparent_pixels_do_not_bleed_in() -> None:
    turned = augmented_views(drawing(50), 0, ViewSettings(rotation=45, plain=1))
    greenish = turned[:, 1] - torch.maximum(turned[:, 0], turned[:, 2])
    assert greenish.max() < 1e-3


def test_backgrounds_are_plain_coloured_or_textured() -> None:
    empty = np.zeros((400, 16, 16, 4), dtype=np.uint8)
    views = augmented_views(empty, 0, ViewSettings(plain=0.3))
    white = (views == 1).flatten(1).all(1)
    flat = (views.flatten(2).std(2) < 1e-6).all(1)
    assert 0.2 < white.double().mean() < 0.4
    assert 0.25 < (flat & ~white).double().mean() < 0.45
    assert 0.25 < (~flat).double().mean() < 0.45


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scale": (0.0, 1.0)}, r"scale \(0\.0, 1\.0\) must be 0 < low <= high, for example \(0\.6, 1\.1\)"),
        ({"scale": (1.2, 1.0)}, r"scale \(1\.2, 1\.0\) must be"),
        ({"mirror": 1.5}, r"mirror 1\.5 is a probability and must be in \[0, 1\]"),
        ({"plain": -0.1}, r"plain -0\.1 is a probability"),
    ],
)
def test_settings_that_cannot_be_used(change: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        ViewSettings(**change)
