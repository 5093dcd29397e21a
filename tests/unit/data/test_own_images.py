"""A user's images as a model wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from workbench.data.images import read_image
from workbench.data.own_images import read_folder, read_for
from workbench.data.preprocess import from_timm
from workbench.errors import InvalidInputError


def write(path: Path, seed: int = 0, size: tuple[int, int] = (50, 70)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_read_as_the_models_configuration_asks(tmp_path: Path) -> None:
    model, path = timm.create_model("test_vit"), write(tmp_path / "a.png", size=(300, 400))
    assert model.pretrained_cfg["crop_pct"] == 0.95
    assert torch.equal(read_for(model, path), from_timm(model)(path))


def test_a_model_that_asks_for_the_whole_image_gets_it_squashed(vit: nn.Module, tmp_path: Path) -> None:
    vit.pretrained_cfg["crop_mode"] = "squash"
    path = write(tmp_path / "a.png")
    assert torch.equal(read_for(vit, path), read_image(path, size=(32, 32)))


def test_transparent_images_are_laid_on_white(vit: nn.Module, tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_for(vit, tmp_path / "clear.png") == 1).all()


def test_folders_are_read_with_names_below_them(vit: nn.Module, tmp_path: Path) -> None:
    write(tmp_path / "in" / "b.png", 1), write(tmp_path / "in" / "a" / "c.jpg", 2)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    found = read_folder(vit, tmp_path / "in")
    assert found.names == ("a/c.jpg", "b.png")
    assert found.images.shape == (len(found), 3, 32, 32)


def test_an_image_can_be_left_out(vit: nn.Module, tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1), write(tmp_path / "b.png", 2), write(tmp_path / "copy.png", 1)
    found = read_folder(vit, tmp_path)
    assert found.without(found.images[0]).names == ("b.png",)
    assert found.without(torch.zeros(3, 32, 32)).names == found.names


def test_a_folder_without_images_and_a_file_that_is_none(vit: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no images"):
        read_folder(vit, tmp_path)
    (tmp_path / "broken.png").write_text("this is text")
    with pytest.raises(InvalidInputError, match=r"broken\.png is not an image"):
        read_folder(vit, tmp_path)
