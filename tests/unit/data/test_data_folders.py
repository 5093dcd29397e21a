"""Random crops of a folder's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.data.folders import FolderCrops, image_files
from workbench.errors import InvalidInputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name, shape in {"a.png": (40, 60, 3), "deep/b.jpg": (33, 90, 3), "c.PNG": (64, 64)}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, size=shape, dtype=np.uint8)).save(path)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_images_are_found_in_subfolders_and_nothing_else(folder: Path) -> None:
    assert [path.name for path in image_files(folder)] == ["a.png", "c.PNG", "b.jpg"]


def test_batches_are_pure_functions_of_the_iteration(folder: Path) -> None:
    crops = FolderCrops(folder, size=28, seed=1)
    first = crops.batch(iteration=3, count=6)
    assert first.shape == (6, 3, 28, 28)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, FolderCrops(folder, size=28, seed=1).batch(iteration=3, count=6))
    assert not torch.equal(first, crops.batch(iteration=4, count=6))
    assert not torch.equal(first, FolderCrops(folder, size=28, seed=2).batch(iteration=3, count=6))


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no images"):
        image_files(tmp_path)
    with pytest.raises(InvalidInputError, match="is not a folder"):
        FolderCrops(tmp_path / "nowhere", size=28)
