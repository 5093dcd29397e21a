"""Image files to tensors, and checks that a batch of images is one.

Everywhere in the workbench an image is a float tensor (3, height, width) with values in [0, 1]; models do the
normalisation.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from workbench.errors import InvalidInputError

#: An image with more pixels than this is refused: it would take gigabytes once it is unpacked.
MAX_PIXELS = 89_478_485

#: Values may leave [0, 1] by this much, as they do after an interpolation in single precision.
_TOLERANCE = 1e-4

# What Pillow raises for files that are not what they claim to be.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error)


def read_image(
    path: str | Path, *, size: int | tuple[int, int] | None = None
) -> Float[Tensor, "3 height width"]:
    """Read one image file as a float tensor (3, height, width) with values in [0, 1].

    Grey, palette, CMYK and 16-bit images become RGB, transparent ones are laid on white, the camera's
    orientation is applied, and of an animation the first frame is taken.

    Args:
        path: a file in any format that Pillow reads.
        size: a whole number gives a square of that side: the shorter side is scaled to it (bicubic) and the
            middle is cut out. A pair (height, width) scales to exactly that, whatever the proportions.

    Raises:
        InvalidInputError: there is no such file, or it is a folder, empty, truncated, not an image, or larger
            than `MAX_PIXELS`; or `size` is not positive.

    Example:
        >>> read_image("cat.png", size=224).shape
        torch.Size([3, 224, 224])
    """
    image = open_rgb(path)
    if isinstance(size, int):
        _check_size((size, size), size)
        image = resize_and_crop(image, size, size, "bicubic")
    elif size is not None:
        _check_size(size, size)
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return to_tensor(image)


def open_rgb(path: str | Path, *, as_stored: bool = False) -> Image.Image:
    """Read one image file as an RGB image; conversions and errors as in `read_image`.

    With `as_stored` the camera's orientation and transparency are ignored, as the usual loaders of benchmark
    data do; use it where numbers are to be compared with published ones.
    """
    path = Path(path)
    with explained(path), Image.open(path) as image:
        _check_pixels(image, path)
        return image.convert("RGB") if as_stored else _to_rgb(ImageOps.exif_transpose(image), path)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what Pillow raises while it opens and decodes `path` into an error that says what to do.

    Raises:
        InvalidInputError: there is no such file, or it is a folder, empty, truncated, not an image, or larger
            than Pillow opens.
    """
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # callers check, as an error
            yield
    except InvalidInputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InvalidInputError(
            f"{path} is not an image that can be read; expected PNG, JPEG, WebP …"
        ) from error
    except Image.DecompressionBombError as error:
        raise InvalidInputError(_too_large(path)) from error
    except _DECODE_ERRORS as error:
        raise InvalidInputError(f"{path} is damaged or was cut short: {error}; get the file again") from error


def resize_and_crop(
    image: Image.Image, resize: int, crop: int, interpolation: Literal["bilinear", "bicubic"]
) -> Image.Image:
    """Scale the shorter side to `resize` pixels and cut a square of `crop` pixels out of the middle.

    Rounding is torchvision's, so that the result is that of its Resize and CenterCrop on the same image.
    """
    width, height = image.size
    long = int(resize * max(width, height) / min(width, height))
    scaled = (resize, long) if width <= height else (long, resize)
    image = image.resize(scaled, Image.Resampling[interpolation.upper()])
    left, top = round((scaled[0] - crop) / 2), round((scaled[1] - crop) / 2)
    return image.crop((left, top, left + crop, top + crop))


def to_tensor(image: Image.Image) -> Float[Tensor, "3 height width"]:
    """An RGB image as a float tensor (3, height, width) in [0, 1]."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).float().div_(255)


def check_images(images: Tensor, *, channels: int = 3) -> Tensor:
    """Return `images` if it is a float tensor (batch, channels, height, width), finite and in [0, 1].

    Raises:
        InvalidInputError: it is not; the message says what was given and how to make it right.

    Example:
        >>> check_images(torch.rand(2, 3, 224, 224)).shape
        torch.Size([2, 3, 224, 224])
    """
    if not isinstance(images, Tensor):
        raise InvalidInputError(f"images must be a torch tensor, not {type(images).__name__}; see read_image")
    _check_shape(images, channels)
    if not images.is_floating_point():
        fix = "divide by 255: images.float() / 255" if images.dtype == torch.uint8 else "images.float()"
        raise InvalidInputError(f"images must be floating point in [0, 1], not {images.dtype}; {fix}")
    _check_values(images)
    return images


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; name one image file in it")
    if not path.is_file():
        raise InvalidInputError(
            f"there is no image file {path}; check the path (working folder: {Path.cwd()})"
        )
    if path.stat().st_size == 0:
        raise InvalidInputError(f"{path} is empty (0 bytes); get the file again")


def _check_pixels(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InvalidInputError(f"{_too_large(path)}: {width} x {height}")


def _too_large(path: Path) -> str:
    return f"{path} unpacks to more than {MAX_PIXELS:,} pixels, which is refused; scale it down first"


def _check_size(size: tuple[int, int], given: object) -> None:
    if len(size) != 2 or min(size) < 1:
        raise InvalidInputError(f"size must be a positive number or a pair (height, width), not {given!r}")


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image, dtype=np.uint32) * 255 // 65535).astype(np.uint8)).convert(
            "RGB"
        )
    if image.mode in ("I", "F"):
        raise InvalidInputError(
            f"{path} has 32-bit pixels (mode {image.mode}) of unknown range; save it with 8 or 16 bits"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _check_shape(images: Tensor, channels: int) -> None:
    shape = tuple(images.shape)
    expected = f"images must have shape (batch, {channels}, height, width), not {shape}"
    if images.ndim == 3 and shape[0] == channels:
        raise InvalidInputError(f"{expected}; add a batch dimension: images[None]")
    if images.ndim == 4 and shape[1] != channels and shape[3] == channels:
        raise InvalidInputError(f"{expected}; move the channels: images.permute(0, 3, 1, 2)")
    if images.ndim == 4 and shape[1] == 1 and channels > 1:
        raise InvalidInputError(f"{expected}; repeat the grey channel: images.expand(-1, {channels}, -1, -1)")
    if images.ndim != 4 or shape[1] != channels:
        raise InvalidInputError(expected)
    if 0 in shape:
        raise InvalidInputError(f"{expected}; there is nothing in it")


def _check_values(images: Tensor) -> None:
    finite = torch.isfinite(images)
    if not finite.all():
        bad = int(finite.numel() - finite.sum())
        raise InvalidInputError(
            f"images must be finite, but {bad} of {finite.numel()} values are NaN or infinite"
        )
    low, high = images.min().item(), images.max().item()
    if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        return
    fix = "they look normalised: pass them before normalisation, the model does it"
    if low >= 0:
        fix = "they look like 0..255: divide by 255" if high <= 255 else "scale them"
    raise InvalidInputError(f"images must lie in [0, 1], not in [{low:.4g}, {high:.4g}]; {fix}")
