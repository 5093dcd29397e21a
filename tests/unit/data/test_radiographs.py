"""Radiographs from files and arrays: grey levels, scale, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.data import _dicom, _pixels
from workbench.data.radiographs import Radiograph, from_array, read_radiograph
from workbench.errors import InvalidInputError, WorkbenchError


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)


@pytest.fixture
def ramp() -> np.ndarray:
    """16 bits, of which the middle is used, and a few bright and dark pixels far outside."""
    values = np.linspace(20_000, 30_000, 100 * 80).reshape(100, 80).round().astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 65_535
    return values


def saved(folder: Path, pixels: np.ndarray | Image.Image, name: str = "film.png", **options: object) -> Path:
    path = folder / name
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("name", ["film.png", "film.tif", "film.bmp"])
def test_eight_bits_are_read_exactly(tmp_path: Path, grey: np.ndarray, name: str) -> None:
    film = read_radiograph(saved(tmp_path, grey, name))
    assert np.array_equal(film.pixels, grey.astype(np.float32) / 255)
    assert film.pixels.dtype == np.float32
    assert (film.scale, film.size, film.spacing_mm, film.inverted) == (1.0, (90, 70), None, False)
    assert film.path == str(tmp_path / name)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(120), np.arange(100)).astype(np.uint8)
    film = read_radiograph(saved(tmp_path, smooth, "film.jpg", quality=95))
    assert np.abs(film.pixels * 255 - smooth).mean() < 2


@pytest.mark.parametrize("name", ["film.png", "film.tif"])
def test_sixteen_bits_take_their_robust_range(tmp_path: Path, ramp: np.ndarray, name: str) -> None:
    film = read_radiograph(saved(tmp_path, ramp, name))
    assert film.pixels[50, 40] == pytest.approx(0.51, abs=0.01)
    assert (film.pixels[1, 0], film.pixels[-1, -1]) == (pytest.approx(0.005, abs=0.01), 1.0)
    assert np.median(np.diff(film.pixels[10:90], axis=1)) > 0


def test_floating_point_tiff(tmp_path: Path, ramp: np.ndarray) -> None:
    deep = read_radiograph(saved(tmp_path, ramp, "a.tif")).pixels
    floating = read_radiograph(saved(tmp_path, ramp.astype(np.float32), "b.tif")).pixels
    np.testing.assert_allclose(floating, deep, atol=1e-6)


def test_tiff_in_which_white_is_zero(tmp_path: Path, ramp: np.ndarray) -> None:
    turned = saved(tmp_path, ramp, "white.tif", tiffinfo={262: 0})
    film, plain = read_radiograph(turned), read_radiograph(saved(tmp_path, ramp, "black.tif"))
    assert film.inverted
    np.testing.assert_allclose(film.pixels, 1 - plain.pixels, atol=1e-6)


def test_one_bit_and_palette_images(tmp_path: Path, grey: np.ndarray) -> None:
    film = read_radiograph(saved(tmp_path, Image.fromarray(grey).convert("1")))
    assert set(np.unique(film.pixels)) == {0.0, 1.0}
    palette = Image.fromarray(rgb(grey)).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    found = read_radiograph(saved(tmp_path, palette, "palette.png")).pixels
    np.testing.assert_allclose(found, grey / 255, atol=0.02)


def test_clear_pixels_are_black(tmp_path: Path, grey: np.ndarray) -> None:
    pixels = np.dstack([rgb(grey), np.full(grey.shape, 255, np.uint8)])
    pixels[:10, :, 3] = 0
    film = read_radiograph(saved(tmp_path, pixels))
    assert (film.pixels[:10] == 0).all()
    np.testing.assert_allclose(film.pixels[10:], grey[10:] / 255, atol=1e-6)


def test_grey_images_in_colour_files(tmp_path: Path, grey: np.ndarray) -> None:
    film = read_radiograph(saved(tmp_path, rgb(grey)))
    np.testing.assert_allclose(film.pixels, grey / 255, atol=1e-6)


def test_a_tint_and_coloured_marks_are_let_through(tmp_path: Path, grey: np.ndarray) -> None:
    marked = (rgb(grey) * np.array([0.85, 0.9, 1.0])).astype(np.uint8)
    marked[:10, :20] = (255, 0, 0)
    assert read_radiograph(saved(tmp_path, marked)).pixels.shape == grey.shape


def test_colour_images_are_refused_unless_allowed(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    path = saved(tmp_path, colours)
    with pytest.raises(
        InvalidInputError, match=r"is not a radiograph: .*saturation 0\.\d\d, .*allow_colour=True"
    ):
        read_radiograph(path)
    film = read_radiograph(path, allow_colour=True)
    np.testing.assert_allclose(film.pixels, colours.mean(2) / 255, atol=1e-6)


def test_orientation_is_applied_unless_asked_as_stored(tmp_path: Path, grey: np.ndarray) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turn clockwise
    path = saved(tmp_path, grey, "turned.png", exif=exif)
    film, stored = read_radiograph(path), read_radiograph(path, as_stored=True)
    assert (film.size, stored.size) == ((70, 90), (90, 70))
    assert np.array_equal(film.pixels, np.rot90(stored.pixels, -1))


def spots(size: tuple[int, int], places: list[tuple[int, int]]) -> np.ndarray:
    """A dark image with bright squares of 33 × 33 pixels around the places (x, y)."""
    pixels = np.zeros(size, dtype=np.uint8)
    for x, y in places:
        pixels[y - 16 : y + 17, x - 16 : x + 17] = 255
    return pixels


def centre_of_mass(pixels: np.ndarray) -> tuple[float, float]:
    y, x = np.indices(pixels.shape)
    return float((x * pixels).sum() / pixels.sum()), float((y * pixels).sum() / pixels.sum())


@pytest.mark.parametrize(
    ("name", "deep"), [("a.png", False), ("a.jpg", False), ("a.tif", False), ("a.png", True), ("a.tif", True)]
)
@pytest.mark.parametrize("size", [(5000, 1001), (9001, 700), (20_000, 1999)])
def test_points_map_back_from_reduced_images(
    tmp_path: Path, name: str, deep: bool, size: tuple[int, int]
) -> None:
    place = (203, 4310)
    pixels = spots(size, [place])
    film = read_radiograph(saved(tmp_path, pixels.astype(np.uint16) * 200 if deep else pixels, name))
    factor = round(1 / film.scale)
    assert factor == {5000: 2, 9001: 4, 20_000: 8}[size[0]]
    assert film.size == size
    assert film.pixels.shape == (-(-size[0] // factor), -(-size[1] // factor))
    found = film.to_original(np.array(centre_of_mass(film.pixels * (film.pixels > 0.1))))
    np.testing.assert_allclose(found, place, atol=0.3)


def test_mapping_is_exact() -> None:
    film = from_array(spots((9000, 300), [(100, 100)]))
    points = np.random.default_rng(0).uniform(0, 300, (17, 4, 2))
    assert film.scale == 0.25
    np.testing.assert_array_equal(film.to_original(np.array([0.0, 0.0])), [1.5, 1.5])
    np.testing.assert_allclose(film.from_original(film.to_original(points)), points, atol=1e-12)


def test_block_means_at_the_rim() -> None:
    values = np.arange(15, dtype=np.uint16).reshape(3, 5)
    np.testing.assert_allclose(_pixels.block_mean(values, 2), [[3, 5, 6.5], [10.5, 12.5, 14]])


@pytest.mark.slow
def test_a_side_of_20000_pixels_is_read_in_bounded_memory(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    pixels = spots((20_000, 20_000), [(5000, 7000)])
    for name in ("huge.png", "huge.jpg"):
        Image.MAX_IMAGE_PIXELS = None
        try:
            path = saved(tmp_path, pixels, name)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
        film = read_radiograph(path)
        assert (film.pixels.shape, film.scale, film.size) == ((2500, 2500), 0.125, (20_000, 20_000))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_what_needs_too_much_memory_is_refused(
    tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pixels, "MAX_BYTES", 1000)
    with pytest.raises(InvalidInputError, match=r"is 90 pixels high and 70 wide and would take .* GiB"):
        read_radiograph(saved(tmp_path, grey))


@pytest.mark.parametrize(
    ("shape", "message"), [((63, 500), "at least 64 pixels"), ((9000, 100), "too long and thin")]
)
def test_tiny_and_thin_images(tmp_path: Path, shape: tuple[int, int], message: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with pytest.raises(InvalidInputError, match=message):
        read_radiograph(saved(tmp_path, pixels))
    with pytest.raises(InvalidInputError, match=message):
        from_array(pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_constant_images(tmp_path: Path, dtype: type) -> None:
    with pytest.raises(InvalidInputError, match=r"not a radiograph: it has the same value \(.*\) everywhere"):
        read_radiograph(saved(tmp_path, np.full((100, 100), 77, dtype)))


def test_nan_in_a_tiff(tmp_path: Path, ramp: np.ndarray) -> None:
    values = ramp.astype(np.float32)
    values[3, :2] = np.nan, np.inf
    with pytest.raises(InvalidInputError, match="has 2 values that are NaN or infinite"):
        read_radiograph(saved(tmp_path, values, "film.tif"))


def test_files_that_are_no_images(tmp_path: Path, grey: np.ndarray) -> None:
    path = tmp_path / "film.png"
    with pytest.raises(InvalidInputError, match="there is no image file"):
        read_radiograph(path)
    with pytest.raises(InvalidInputError, match="is a folder"):
        read_radiograph(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"is empty \(0 bytes\)"):
        read_radiograph(path)
    path.write_text("not an image")
    with pytest.raises(InvalidInputError, match="is not an image that can be read"):
        read_radiograph(path)
    whole = saved(tmp_path, grey, "whole.png").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInputError, match="is damaged or was cut short"):
        read_radiograph(path)


def test_arrays_of_every_kind(grey: np.ndarray) -> None:
    expected = grey.astype(np.float32) / 255
    given = (
        grey,
        grey[None],
        rgb(grey).transpose(2, 0, 1),
        expected,
        expected.astype(np.float64)[None],
        torch.from_numpy(grey),
        torch.from_numpy(expected).expand(3, -1, -1).requires_grad_(),
    )
    for array in given:
        film = from_array(array, spacing_mm=(0.2, 0.2))
        assert isinstance(film, Radiograph)
        np.testing.assert_allclose(film.pixels, expected, atol=1e-6)
        assert (film.path, film.size, film.spacing_mm) == ("array", (90, 70), (0.2, 0.2))


def test_arrays_of_sixteen_bits_take_their_robust_range(ramp: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_allclose(from_array(ramp).pixels, read_radiograph(saved(tmp_path, ramp)).pixels)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[0.5]], "must be a numpy array or a torch tensor, not list"),
        (np.zeros((100, 100, 3)), r"not \(100, 100, 3\); move the channels"),
        (np.zeros((1, 3, 100, 100)), r"take it out of its batch: array\[0\]"),
        (
            np.zeros((2, 100, 100)),
            r"must have shape \(H, W\), \(1, H, W\) or \(3, H, W\), not \(2, 100, 100\)",
        ),
        (np.zeros((0, 100)), r"not \(0, 100\)"),
        (np.zeros((100, 100), dtype=bool), "must hold numbers, not bool"),
        (np.full((100, 100), np.nan), "10000 of 10000 values are NaN or infinite"),
        (np.full((100, 100), 128.0), "they look like 0..255: divide by 255"),
        (np.full((100, 100), 0.5), r"the same value \(0\.5\) everywhere"),
        (np.random.default_rng(0).random((3, 100, 100)), "array is not a radiograph: it is a colour image"),
    ],
)
def test_arrays_that_are_refused(array: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        from_array(array)  # type: ignore[arg-type]


def test_colour_arrays_may_be_allowed() -> None:
    colours = np.random.default_rng(0).random((3, 100, 100))
    film = from_array(colours, allow_colour=True)
    np.testing.assert_allclose(film.pixels, colours.mean(0), atol=1e-6)


@pytest.mark.parametrize("content", [b"\0" * 128 + b"DICM", b"anything"])
def test_without_pydicom_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(_dicom, "find_spec", lambda name: None)
    path = tmp_path / ("film" if content.endswith(b"DICM") else "film.DCM")
    path.write_bytes(content)
    with pytest.raises(WorkbenchError, match=r'takes pydicom.*pip install "vision-workbench\[dicom\]"'):
        read_radiograph(path)


def test_an_image_with_a_suffix_of_another_kind(tmp_path: Path, grey: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    path = tmp_path / "film.jpg"
    path.write_bytes(buffer.getvalue())
    assert read_radiograph(path).size == grey.shape
