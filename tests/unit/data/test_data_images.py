"""Reading image files and checking batches."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.data import images as module
from workbench.data.images import check_images, open_rgb, read_image
from workbench.errors import InvalidInputError


def saved(folder: Path, pixels: np.ndarray, name: str = "image.png") -> Path:
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_rgb_is_read_exactly(tmp_path: Path, colours: np.ndarray) -> None:
    image = read_image(saved(tmp_path, colours))
    assert (image.shape, image.dtype) == ((3, 6, 9), torch.float32)
    assert torch.equal((image * 255).round().to(torch.uint8), torch.from_numpy(colours).permute(2, 0, 1))


def test_grey_becomes_three_equal_channels(tmp_path: Path, colours: np.ndarray) -> None:
    image = read_image(saved(tmp_path, colours[..., 0]))
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], torch.from_numpy(colours[..., 0]) / 255)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = (0, 51, 255)  # black: clear, a fifth opaque, opaque
    image = read_image(saved(tmp_path, pixels))
    assert torch.allclose(image[:, 0], torch.tensor([1.0, 0.8, 0.0]).expand(3, 3))


def test_grey_with_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.array([[[0, 0], [0, 255]]], dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    assert read_image(path)[0].tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("transparent", [False, True])
def test_palette_images(tmp_path: Path, transparent: bool) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    path = tmp_path / "image.png"
    image.save(path, **({"transparency": 1} if transparent else {}))
    second = [1.0, 1.0, 1.0] if transparent else [0.0, 1.0, 0.0]
    assert read_image(path)[:, 0].T.tolist() == [[1.0, 0.0, 0.0], second]


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path, np.array([[0, 32768, 65535]], dtype=np.uint16)))
    assert image[0].tolist() == [pytest.approx([0.0, 0.5, 1.0], abs=0.005)]


def test_floating_point_images_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, np.zeros((2, 2), dtype=np.float32), "image.tif")
    with pytest.raises(InvalidInputError, match=r"32-bit pixels \(mode F\) of unknown range"):
        read_image(path)


def test_orientation_is_applied_unless_asked_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    Image.new("RGB", (20, 10)).save(path, exif=exif)
    assert read_image(path).shape == (3, 20, 10)
    assert open_rgb(path, as_stored=True).size == (20, 10)


@pytest.mark.parametrize(("size", "shape"), [(4, (3, 4, 4)), ((5, 7), (3, 5, 7)), (12, (3, 12, 12))])
def test_sizes(
    tmp_path: Path, colours: np.ndarray, size: int | tuple[int, int], shape: tuple[int, ...]
) -> None:
    assert read_image(saved(tmp_path, colours), size=size).shape == shape


def test_a_square_is_cut_from_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((4, 12, 3), dtype=np.uint8)
    pixels[:, 4:8] = 255
    assert read_image(saved(tmp_path, pixels), size=4).min() == 1.0


@pytest.mark.parametrize("size", [0, -3, (0, 5)])
def test_impossible_sizes(tmp_path: Path, colours: np.ndarray, size: int | tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match="size must be a positive number or a pair"):
        read_image(saved(tmp_path, colours), size=size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no image file"),
        (lambda path: path.mkdir(), "is a folder; name one image file in it"),
        (lambda path: path.touch(), r"is empty \(0 bytes\)"),
        (lambda path: path.write_text("not an image"), "is not an image that can be read"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "image.png"
    make(path)  # type: ignore[operator]
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["image.jpg", "image.png", "image.webp", "image.gif", "image.bmp", "image.tif"]
)
def test_truncated_files(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, noise, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        InvalidInputError, match=r"is damaged or was cut short|is not an image that can be read"
    ):
        read_image(path)


@pytest.mark.parametrize("side", [9_500, 40_000])
def test_bombs_are_refused_before_they_unpack(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(InvalidInputError, match=r"unpacks to more than 89,478,485 pixels, which is refused"):
        read_image(path)


def test_the_limit_on_pixels_is_exact(
    tmp_path: Path, colours: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, colours)
    monkeypatch.setattr(module, "MAX_PIXELS", 6 * 9)
    read_image(path)
    monkeypatch.setattr(module, "MAX_PIXELS", 6 * 9 - 1)
    with pytest.raises(InvalidInputError, match="9 x 6"):
        read_image(path)


def test_a_good_batch_comes_back() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert check_images(images) is images
    assert check_images(torch.rand(1, 1, 8, 8, dtype=torch.float64), channels=1).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 8, 8)), "must be a torch tensor, not ndarray"),
        (torch.rand(3, 8, 8), r"not \(3, 8, 8\); add a batch dimension: images\[None\]"),
        (torch.rand(2, 8, 8, 3), r"not \(2, 8, 8, 3\); move the channels: images.permute\(0, 3, 1, 2\)"),
        (torch.rand(2, 1, 8, 8), r"repeat the grey channel: images.expand\(-1, 3, -1, -1\)"),
        (torch.rand(2, 4, 8, 8), r"shape \(batch, 3, height, width\), not \(2, 4, 8, 8\)$"),
        (torch.rand(8, 8), r"not \(8, 8\)$"),
        (torch.rand(0, 3, 8, 8), "there is nothing in it"),
        (
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            r"not torch.uint8; divide by 255: images.float\(\) / 255",
        ),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), r"not torch.int64; images.float\(\)"),
        (torch.full((1, 3, 2, 2), torch.nan), "12 of 12 values are NaN or infinite"),
        (torch.full((1, 3, 2, 2), 200.0), r"not in \[200, 200\]; they look like 0..255: divide by 255"),
        (torch.full((1, 3, 2, 2), -2.1), r"they look normalised: pass them before normalisation"),
        (torch.full((1, 3, 2, 2), 1000.0), r"not in \[1000, 1000\]; scale them"),
    ],
)
def test_batches_that_are_none(images: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_images(images)


def test_rounding_errors_of_an_interpolation_pass() -> None:
    check_images(torch.tensor([-5e-5, 1.0, 1.00005]).reshape(1, 3, 1, 1))
