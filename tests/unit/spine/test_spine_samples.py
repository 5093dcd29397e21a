"""Samples: images and corners brought into the frame, and phantoms rendered once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.data.phantom import Phantom, phantom
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.spine import samples as module
from workbench.spine.frames import FRAME, Frame
from workbench.spine.samples import Samples, phantom_samples


def test_images_and_corners_are_laid_into_the_frame(phantoms: list[Phantom], samples: Samples) -> None:
    assert len(samples) == 8
    assert samples.images.shape == (8, *FRAME)
    assert samples.images.dtype == torch.uint8
    assert samples.corners.dtype == torch.float32
    for i, drawn in enumerate(phantoms):
        frame = Frame.of(drawn.image.shape)
        left, width = frame.corner[1], frame.scaled[1]
        np.testing.assert_array_equal(samples.images[i, :, left : left + width].numpy(), drawn.image)
        np.testing.assert_allclose(samples.corners[i], frame.forward(drawn.corners), atol=1e-4)
        assert tuple(samples.sizes[i].tolist()) == drawn.image.shape


def test_floats_are_taken_as_greys_from_0_to_1(phantoms: list[Phantom]) -> None:
    image = phantoms[0].image
    greys = image.astype(np.float64) / 255
    both = Samples.of([(image, phantoms[0].corners), (greys, phantoms[0].corners)])
    assert torch.equal(both.images[0], both.images[1])


def test_missing_vertebrae_stay_missing(phantoms: list[Phantom]) -> None:
    corners = phantoms[0].corners.copy()
    corners[14:] = np.nan
    found = Samples.of([(phantoms[0].image, corners)]).corners[0]
    assert torch.isnan(found[14:]).all()
    assert torch.isfinite(found[:14]).all()


def test_choosing_and_joining(samples: Samples) -> None:
    assert samples[2:4].images.data_ptr() == samples.images[2].data_ptr()
    picked = samples[[3, 1]]
    assert torch.equal(picked.corners[1], samples.corners[1])
    joined = samples[:2].concatenated(picked)
    assert len(joined) == 4
    assert torch.equal(joined.images[2], samples.images[3])
    assert torch.equal(joined.sizes[3], samples.sizes[1])


def test_no_samples_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no samples were given"):
        Samples.of([])


def test_phantoms_are_rendered_once(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, phantoms: list[Phantom]
) -> None:
    asked = []

    def rendered(index: int, *, set_name: str, level: str) -> Phantom:
        asked.append((index, set_name, level))
        return phantoms[index]

    monkeypatch.setattr(module, "phantom", rendered)
    first = phantom_samples("ours", 6, "mixed", workers=1, progress=False)
    kinds = ["clean", "clean", "clean", "hard", "hard", "clean"]
    assert asked == [(index, "ours", kind) for index, kind in enumerate(kinds)]
    assert [path.suffix for path in (empty_cache / "spine-phantoms").rglob("ours-mixed*")] == [".safetensors"]
    second = phantom_samples("ours", 6, "mixed", progress=False)
    assert len(asked) == 6
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.corners, second.corners)
    assert torch.equal(first.sizes, second.sizes)
    phantom_samples("ours", 2, "hard", workers=1, progress=False)
    assert asked[6:] == [(0, "ours", "hard"), (1, "ours", "hard")]


def test_phantoms_are_those_of_their_set_and_number(empty_cache: Path) -> None:
    found = phantom_samples("tests", 1, workers=1, progress=False)
    drawn = phantom(0, set_name="tests")
    assert torch.equal(found.images, Samples.of([(drawn.image, drawn.corners)]).images)


def test_corners_without_the_padding(phantoms: list[Phantom], samples: Samples) -> None:
    expected = np.stack([drawn.corners for drawn in phantoms])
    np.testing.assert_allclose(samples.in_image(samples.corners.numpy()), expected, atol=1e-3)


def test_unknown_levels_and_empty_sets_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown level 'herd'; did you mean 'hard'"):
        phantom_samples("tests", 3, "herd")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="count is 0"):
        phantom_samples("tests", 0)
