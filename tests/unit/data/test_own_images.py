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
from workbench.data.own_images import read_case, read_folder, read_for, write_example
from workbench.data.preprocess import from_timm
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.models import logits_of
from workbench.models.preprocessing import class_index, class_names


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


def test_a_case_holds_what_the_model_says_and_the_folders(vit: nn.Module, tmp_path: Path) -> None:
    path = write(tmp_path / "near" / "a.png")
    order = logits_of(vit, read_for(vit, path)[None]).softmax(1)[0].sort(descending=True)
    names = class_names(vit)
    case = read_case(vit, path, names[order.indices[1]], neighbours=tmp_path / "near")
    assert (case.target, case.predicted) == (int(order.indices[1]), names[order.indices[0]])
    assert str(case) == (
        f"a.png: taken for {case.predicted!r} ({float(order.values[0]):.0%}), should be {case.target_name!r}"
    )
    assert case.neighbours is not None
    assert case.neighbours.names == ("a.png",)
    assert case.protected is None
    with pytest.raises(InvalidInputError, match=r"the model already takes a\.png for .* nothing to correct"):
        read_case(vit, path, case.predicted)


def test_classes_by_name_and_by_index(vit: nn.Module) -> None:
    assert class_index(vit, "chair") == class_index(vit, "2") == class_index(vit, 2) == 2
    for wrong in ("chiar", "7", -1, ""):
        with pytest.raises(UnknownNameError, match=r"unknown class .* Or give an index, 0 to 6"):
            class_index(vit, wrong)


def test_the_example_is_a_case_with_all_its_folders(emoji_vit: nn.Module, tmp_path: Path) -> None:
    example = write_example(emoji_vit, tmp_path)
    case = read_case(emoji_vit, **example)
    assert case.predicted != case.target_name
    assert case.neighbours is not None
    assert case.name in case.neighbours.names
    assert case.protected is not None
    assert len(case.protected)


def test_the_example_needs_a_model_of_the_emoji_kinds(vit: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        write_example(vit, tmp_path)
    assert not list(tmp_path.iterdir())
