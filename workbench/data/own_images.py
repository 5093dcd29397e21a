"""A user's own images, as the model at hand wants to see them: the wrong one, its neighbours, those to protect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from workbench.data.folders import image_files
from workbench.data.images import open_rgb, read_image, resize_and_crop, to_tensor
from workbench.errors import InvalidInputError
from workbench.files import atomic_path
from workbench.models.inference import logits_of
from workbench.models.preprocessing import class_index, class_names, input_size

#: Style of the drawings that `write_example` takes, and how many it protects.
_EXAMPLE_STYLE, _EXAMPLE_PROTECTED = "fluent-emoji-high-contrast", 24


@dataclass(frozen=True)
class OwnImages:
    """Images with the names of their files.

    Args:
        names: One an image: the path below the folder they come from.
        images: (n, 3, size, size), in [0, 1].
    """

    names: tuple[str, ...]
    images: Float[Tensor, "n 3 height width"]

    def __len__(self) -> int:
        return len(self.names)

    def without(self, image: Float[Tensor, "3 height width"]) -> OwnImages:
        """All but those that are, pixel for pixel, the image given."""
        kept = [i for i, mine in enumerate(self.images) if not torch.equal(mine, image)]
        return OwnImages(tuple(self.names[i] for i in kept), self.images[kept])


@dataclass(frozen=True)
class OwnCase:
    """An image that a model gets wrong, its right class, and the images around it.

    Args:
        name: Name of the image's file.
        image: (3, size, size), in [0, 1].
        target: Its right class.
        target_name: That class by name.
        predicted: What the model takes it for, by name.
        probability: The probability of that.
        neighbours: Other images of the right class, where a folder of them was given.
        protected: Images whose predictions should stay, where a folder of them was given.
    """

    name: str
    image: Float[Tensor, "3 height width"]
    target: int
    target_name: str
    predicted: str
    probability: float
    neighbours: OwnImages | None = None
    protected: OwnImages | None = None

    def __str__(self) -> str:
        return f"{self.name}: taken for {self.predicted!r} ({self.probability:.0%}), should be {self.target_name!r}"

    def pictures(self, most: int) -> Float[Tensor, "n 3 height width"]:
        """The image, then the first of its neighbours, at most so many in all."""
        near = [] if self.neighbours is None else [self.neighbours.without(self.image).images]
        return torch.cat([self.image[None], *near])[:most]


def read_case(
    model: nn.Module,
    image: str | Path,
    target: str | int,
    neighbours: str | Path | None = None,
    protect: str | Path | None = None,
) -> OwnCase:
    """Read an image that a model gets wrong, and the folders that go with it.

    Args:
        model: The model.
        image: File of the image.
        target: Its right class, by name or index.
        neighbours: Folder of other images of that class; none if empty.
        protect: Folder of images whose predictions should stay; none if empty.

    Raises:
        UnknownNameError: no such class; the message names the nearest.
        InvalidInputError: files that are not there or no images, or an image that the model gets right already.

    Example:
        >>> print(read_case(model, "photos/x.png", "clock", neighbours="photos/clocks"))
        x.png: taken for 'sport' (93%), should be 'clock'
    """
    wanted, names = class_index(model, target), class_names(model)
    picture = read_for(model, image)
    probabilities = logits_of(model, picture[None]).softmax(1)[0]
    found, name = int(probabilities.argmax()), Path(image).name
    if found == wanted:
        raise InvalidInputError(
            f"the model already takes {name} for {names[wanted]!r} (probability "
            f"{float(probabilities[wanted]):.3f}): there is nothing to correct"
        )
    return OwnCase(
        name=name,
        image=picture,
        target=wanted,
        target_name=names[wanted],
        predicted=names[found],
        probability=float(probabilities[found]),
        neighbours=read_folder(model, neighbours) if neighbours else None,
        protected=read_folder(model, protect) if protect else None,
    )


def read_for(model: nn.Module, path: str | Path) -> Float[Tensor, "3 size size"]:
    """Read an image file for a model: scaled and cut as its ``pretrained_cfg`` asks, in [0, 1].

    Transparency, the camera's orientation and the errors are `read_image`'s.

    Example:
        >>> read_for(load_model("emoji_vit_s14"), "wrong.png").shape
        torch.Size([3, 112, 112])
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    size = input_size(model)
    if config.get("crop_mode") == "squash":
        return read_image(path, size=(size, size))
    resize = math.floor(size / config.get("crop_pct", 1.0))
    bilinear = config.get("interpolation") == "bilinear"
    picture = resize_and_crop(open_rgb(path), resize, size, "bilinear" if bilinear else "bicubic")
    return to_tensor(picture)


def read_folder(model: nn.Module, folder: str | Path) -> OwnImages:
    """Read every image of a folder and its subfolders for a model, sorted by path.

    Raises:
        InvalidInputError: no such folder, no image in it, or one that cannot be read (named in the message).
    """
    files = image_files(folder)
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    return OwnImages(names, torch.stack([read_for(model, path) for path in files]))


def write_example(model: nn.Module, folder: str | Path) -> dict[str, str]:
    """Write a few drawings as if they were a user's own images: a wrong one, neighbours, images to protect.

    Args:
        model: A classifier of the emoji kinds, such as ``"emoji_vit_s14"``.
        folder: Where they are written.

    Returns:
        ``image``, ``target``, ``neighbours`` and ``protect``, as `read_case` takes them.

    Raises:
        InvalidInputError: a model of other classes, or one that gets nothing wrong.
        MissingDataError: the emoji sets are not here; the message says what to type.
    """
    from workbench.data.failures import group_of, pick, sensitive_set

    folder, first = Path(folder), pick(model, _EXAMPLE_STYLE, 0)
    for failure in group_of(model, first).failures:
        _write(failure.image, folder / "neighbours" / f"{failure.concept}.png")
    for i, image in enumerate(sensitive_set(model).sample(_EXAMPLE_PROTECTED).images):
        _write(image, folder / "protected" / f"{i:02d}.png")
    return {
        "image": str(folder / "neighbours" / f"{first.concept}.png"),
        "target": first.true_name,
        "neighbours": str(folder / "neighbours"),
        "protect": str(folder / "protected"),
    }


def _write(image: Tensor, path: Path) -> None:
    with atomic_path(path) as temporary:
        pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(temporary, format="PNG")
