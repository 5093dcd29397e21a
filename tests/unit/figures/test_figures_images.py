"""Images travel as small PNGs, and rectangles sit where they were pasted."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image
from torch import Tensor

from workbench.editing import SoftMasks, cutmix
from workbench.errors import InvalidInputError
from workbench.figures import cutmix_pairs, image_grid
from workbench.figures._pictures import png_uri, wrapped


def decoded(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def test_a_picture_keeps_its_pixels() -> None:
    image = torch.zeros(3, 20, 30)
    image[0, :10] = 1.0
    image[2, :, 15:] = 0.5
    found = np.asarray(decoded(png_uri(image))).astype(int)
    assert found.shape == (20, 30, 3)
    assert np.abs(found - (image.permute(1, 2, 0) * 255).round().numpy()).max() <= 1


def test_a_thumbnail_is_small(image_maker: Callable[..., Tensor]) -> None:
    image = image_maker(1, 112, 112)[0]
    uri = png_uri(image, side=56)
    assert decoded(uri).size == (56, 56)
    assert len(uri) < len(png_uri(image)) / 2
    assert decoded(png_uri(image, side=500)).size == (112, 112)


def test_refuses_what_is_no_image() -> None:
    with pytest.raises(
        InvalidInputError, match=r"an image to draw is \(3, height, width\), this one is \(1, 8, 8\)"
    ):
        png_uri(torch.zeros(1, 8, 8))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("crab", "crab"),
        ("cloud-with-lightning-and-rain", "cloud-with-<br>lightning-<br>and-rain"),
        ("a bc def ghij klmno pqrstu vwxyz", "a bc def<br>ghij klmno<br>pqrstu …"),
        ("", ""),
    ],
)
def test_wraps_captions(text: str, lines: str) -> None:
    assert wrapped(text, 11) == lines


def test_a_grid_has_every_image_and_caption(images: Tensor, texts: Callable[[go.Figure], str]) -> None:
    figure = image_grid(images, [f"image {i}" for i in range(12)], columns=5, title="Twelve")
    assert [(image.x, image.y) for image in figure.layout.images[:6]] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 0),
        (0, 1.42),
    ]
    assert {f"image {i}" for i in range(12)} <= set(texts(figure).split("\n"))
    last = figure.layout.images[-1]
    assert last.y + last.sizey < figure.layout.yaxis.range[0]


def test_a_grid_refuses_what_does_not_fit(images: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="2 titles for 12 images; give one an image"):
        image_grid(images, ["a", "b"])
    with pytest.raises(InvalidInputError, match="no images to show"):
        image_grid([])


def test_cutmix_frames_sit_on_the_pasted_pixels(images: Tensor, soft: SoftMasks) -> None:
    hosts, donors = images[:3], images[3:6]
    mixed = cutmix(hosts, donors, (8, 8), torch.Generator().manual_seed(0), sides=(1, 3))
    figure = cutmix_pairs(hosts, donors, mixed, [soft.binarize(0.9)] * 3)
    assert len(figure.layout.images) == 9
    (path,) = [shape.path for shape in figure.layout.shapes if shape.line.width == 2]
    frames = [[float(v) for v in re.split("[MHVZ,]+", part)[:4]] for part in path.split("M")[1:]]
    assert len(frames) == 6
    mixtures = figure.layout.images[6:9]
    for i, picture in enumerate(mixtures):
        x0, y0, x1, y1 = frames[2 * i + 1]
        edges = [(x0 - picture.x, x1 - picture.x), (y0 - picture.y, y1 - picture.y)]
        (left, right), (top, bottom) = [[round(32 * e / picture.sizex) for e in pair] for pair in edges]
        changed = (mixed.images[i] != hosts[i]).any(dim=0)
        expected = torch.zeros_like(changed)
        expected[top:bottom, left:right] = True
        assert torch.equal(changed, expected)


def test_cutmix_masks_are_drawn_by_density(images: Tensor, soft: SoftMasks) -> None:
    mixed = cutmix(images[:2], images[2:4], (8, 8), torch.Generator().manual_seed(0))
    mask = soft.binarize(0.9)
    bars = cutmix_pairs(images[:2], images[2:4], mixed, [mask, mask]).data
    assert [bar.name for bar in bars] == ["fc1", "fc2"]
    densities = mask.density_per_matrix().to_numpy()
    heights = np.stack([bars[0].y[:3], bars[1].y[:3]], axis=1).ravel()
    assert heights / heights.min() == pytest.approx(densities / densities.max(), abs=1e-3)
    assert f"blocks.7.mlp.fc1<br>density {densities[0]:.3f}" == bars[0].text[0]


def test_cutmix_refuses_what_does_not_fit(images: Tensor, soft: SoftMasks) -> None:
    mixed = cutmix(images[:2], images[2:4], (8, 8), torch.Generator().manual_seed(0))
    with pytest.raises(InvalidInputError, match="3 hosts for 2 images"):
        cutmix_pairs(images[:3], images[2:4], mixed)
    with pytest.raises(InvalidInputError, match="1 masks for 2 images"):
        cutmix_pairs(images[:2], images[2:4], mixed, [soft.binarize(0.5)])
