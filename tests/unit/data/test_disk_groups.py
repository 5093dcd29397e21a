"""What a model says of image files, kept in the cache, and the failure groups and sensitive images that come of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from workbench.data import scan as scan_module
from workbench.data.disk_groups import disk_groups
from workbench.data.imagenet import (
    NO_CLASS,
    ClassFolders,
    ImageList,
    NaturalSubset,
    SensitiveImages,
    folder_classes,
)
from workbench.data.preprocess import REPO, Preprocess, preset
from workbench.data.scan import scan, sensitive_images
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError
from workbench.models import logits_of

PLAIN = Preprocess("plain", 32, 32, "bilinear")


def draw(path: Path, seed: int) -> Path:
    """Coarse coloured noise, so that predictions differ between images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture(autouse=True)
def own_cache(empty_cache: Path) -> Path:
    return empty_cache


@pytest.fixture
def files(tmp_path: Path) -> ImageList:
    return ImageList([draw(tmp_path / f"{i:02d}.png", i) for i in range(40)], [NO_CLASS] * 40, PLAIN)


@pytest.fixture
def sorted_files(vit: nn.Module, files: ImageList, tmp_path: Path) -> Path:
    """Folders of the model's classes, each image in the one that the model takes it for or in one of the next two."""
    said = logits_of(vit, files.stacked()).argmax(1).tolist()
    names = vit.pretrained_cfg["label_names"]
    for i, (path, c) in enumerate(zip(files.paths, said, strict=True)):
        true = (c + i % 3) % 7
        folder = tmp_path / "classes" / (names[true] if true % 3 else str(true))
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    return tmp_path / "classes"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of images of each batch that really went through a model."""
    sizes: list[int] = []

    def counted(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return logits_of(model, images)

    monkeypatch.setattr(scan_module, "logits_of", counted)
    return sizes


def test_a_scan_is_the_models_answer(vit: nn.Module, files: ImageList) -> None:
    found = scan(vit, files)
    probabilities = logits_of(vit, files.stacked()).softmax(1).sort(dim=1, descending=True)
    assert torch.equal(found.predicted, probabilities.indices[:, 0])
    torch.testing.assert_close(found.gap, probabilities.values[:, 0] - probabilities.values[:, 1])
    assert len(scan(vit, files[:0]).predicted) == 0


def test_a_scan_is_made_once(
    vit: nn.Module, make_vit: Callable[..., Any], files: ImageList, runs: list[int], own_cache: Path
) -> None:
    first = scan(vit, files)
    assert runs == [32, 8]
    assert torch.equal(scan(vit, files).predicted, first.predicted)
    assert sum(runs) == 40
    scan(make_vit(seed=1), files)
    assert sum(runs) == 80
    scan(vit, ImageList(files.paths, files.targets, Preprocess("plain", 33, 32, "bilinear")))
    assert sum(runs) == 120
    vit.pretrained_cfg = {**vit.pretrained_cfg, "mean": (0.4, 0.4, 0.4)}
    scan(vit, files)
    assert sum(runs) == 160
    draw(files.paths[3], 99)
    scan(vit, files)
    assert sum(runs) == 200


def test_a_damaged_scan_is_made_again(
    vit: nn.Module, files: ImageList, runs: list[int], own_cache: Path
) -> None:
    first = scan(vit, files)
    (kept,) = (own_cache / "scans").iterdir()
    kept.write_bytes(kept.read_bytes()[:-40])
    assert torch.equal(scan(vit, files).gap, first.gap)
    assert sum(runs) == 80


def test_sensitive_images_are_right_but_only_just(vit: nn.Module, sorted_files: Path) -> None:
    lists = ClassFolders(sorted_files, PLAIN, folder_classes(vit)).by_class()
    chosen = sensitive_images(vit, lists, gap=0.3)
    assert [len(images) for images in chosen] != [len(images) for images in lists]
    for images, kept in zip(lists, chosen, strict=True):
        for path, target in zip(images.paths, images.targets, strict=True):
            top = logits_of(vit, PLAIN(path)[None]).softmax(1).topk(2)
            wanted = int(top.indices[0, 0]) == target and float(top.values[0, 0] - top.values[0, 1]) < 0.3
            assert (path in kept.paths) == wanted
    assert sum(map(len, sensitive_images(vit, lists))) < sum(map(len, chosen))  # the published gap is smaller
    with pytest.raises(InvalidInputError, match="has no class, so it cannot be said whether it is right"):
        sensitive_images(vit, [ImageList(lists[0].paths, [NO_CLASS] * len(lists[0]), PLAIN)])


def test_class_folders_by_index_and_name(vit: nn.Module, sorted_files: Path) -> None:
    images = ClassFolders(sorted_files, PLAIN, folder_classes(vit))
    names = vit.pretrained_cfg["label_names"]
    assert all(
        path.parent.name in (names[target], str(target))
        for path, target in zip(images.paths, images.targets, strict=True)
    )
    by_class = images.by_class()
    assert [set(part.targets) for part in by_class] == [{target} for target in sorted(set(images.targets))]
    assert sum(map(len, by_class)) == len(images) == 40


def test_a_folder_of_no_class_of_the_model(vit: nn.Module, sorted_files: Path, tmp_path: Path) -> None:
    draw(sorted_files / "n01440764" / "a.png", 0)  # seven classes are not ImageNet's
    with pytest.raises(
        InvalidInputError, match=r"n01440764 is called after none of the model's classes \(such as .*moth"
    ):
        ClassFolders(sorted_files, PLAIN, folder_classes(vit))
    with pytest.raises(MissingDataError, match=r"there is no folder .*absent; it should"):
        ClassFolders(tmp_path / "absent", PLAIN)


def test_names_of_the_thousand_classes(make_vit: Callable[..., Any]) -> None:
    classes = folder_classes(make_vit(num_classes=1000))
    assert (classes["n01440764"], classes["0"], classes["999"], classes["class 7"]) == (0, 0, 999, 7)


def test_class_folders_are_grouped_by_what_they_are_taken_for(vit: nn.Module, sorted_files: Path) -> None:
    groups = disk_groups(vit, "folders", sorted_files, PLAIN)
    pairs: dict[str, set[Path]] = {}
    images = ClassFolders(sorted_files, PLAIN, folder_classes(vit))
    for path, target in zip(images.paths, images.targets, strict=True):
        if (said := int(logits_of(vit, PLAIN(path)[None]).argmax())) != target:
            pairs.setdefault(f"{target}_{said}", set()).add(path)
    assert {group.name: set(group.images.paths) for group in groups} == pairs
    assert len(pairs) > 3
    for group in groups:
        assert group.accepted == ((int(group.name.split("_")[0]),),) * len(group)
        assert group.candidates >= len(group)
    (one,) = disk_groups(vit, "folders", sorted_files, PLAIN, [groups[1].name])
    assert one.images.paths == groups[1].images.paths


@pytest.fixture
def natural(vit: nn.Module, files: ImageList, tmp_path: Path) -> Path:
    """Two groups of ten, one of which the model often gets right, and the locality set beside them."""
    usual = int(logits_of(vit, files[:20].stacked()).argmax(1).mode().values)
    assert usual not in (1, 5)
    for i, path in enumerate(files.paths[:20]):
        folder = tmp_path / "natural" / (f"{usual}_1", "5_0")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    draw(tmp_path / "natural" / "Sensitive-Images" / "a.png", 77)
    return tmp_path / "natural"


def test_natural_groups_keep_what_is_wrong(vit: nn.Module, natural: Path) -> None:
    (usual,) = (group.name for group in NaturalSubset(natural, PLAIN) if group.name != "5_0")
    assert len(SensitiveImages(natural / "Sensitive-Images", PLAIN)) == 1
    groups = disk_groups(vit, "natural", natural, PLAIN)
    assert {group.name: group.candidates for group in groups} == {usual: 10, "5_0": 10}
    assert 0 < min(map(len, groups)) < 10
    for group in groups:
        said = logits_of(vit, group.images.stacked()).argmax(1)
        assert not (said == int(group.name[0])).any()
    with pytest.raises(UnknownNameError, match=r"unknown group '5_1'; did you mean '5_0'\?"):
        disk_groups(vit, "natural", natural, PLAIN, ["5_1"])
    with pytest.raises(UnknownNameError, match=r"unknown layout 'nature'; did you mean 'natural'\?"):
        disk_groups(vit, "nature", natural, PLAIN)  # type: ignore[arg-type]


def test_a_group_of_a_class_that_the_model_does_not_have(vit: nn.Module, natural: Path) -> None:
    draw(natural / "7_1" / "a.png", 0)
    with pytest.raises(InvalidInputError, match="the group 7_1 is of class 7, but the model has 7 classes"):
        disk_groups(vit, "natural", natural, PLAIN)


def test_an_image_that_cannot_be_read_is_named(vit: nn.Module, natural: Path) -> None:
    broken = sorted((natural / "5_0").iterdir())[4]
    broken.write_bytes(b"not an image")
    with pytest.raises(InvalidInputError, match=f"{broken} is not an image that can be read"):
        disk_groups(vit, "natural", natural, PLAIN)


def test_lists_are_joined_stacked_and_digested(files: ImageList) -> None:
    joined = files[:2].followed_by([files[5:6], files[9:10]])
    assert joined.paths == tuple(files.paths[i] for i in (0, 1, 5, 9))
    assert torch.equal(joined.stacked(), torch.stack(list(joined)))
    assert files[:0].stacked().shape == (0, 3, 32, 32)
    digests = {files.digest(), files[:39].digest(), ImageList(files.paths, range(40), PLAIN).digest()}
    digests.add(ImageList(files.paths, files.targets, REPO).digest())
    draw(files.paths[0], 99)
    assert len({*digests, files.digest()}) == 5
    files.paths[0].unlink()
    with pytest.raises(MissingDataError, match=r"00\.png has gone since its folder was read; run again"):
        files.digest()


@pytest.mark.parametrize(("side", "resize"), [(224, 256), (384, 439), (32, 37)])
def test_the_published_preprocessing_at_other_sizes(side: int, resize: int) -> None:
    found = preset("repo", {"input_size": (3, side, side)})
    assert (found.name, found.resize, found.crop, found.interpolation) == ("repo", resize, side, "bilinear")
    assert preset("repo", {}) == REPO
