"""The published evaluation data, as small copies in its true layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.data.imagenet import (
    NO_CLASS,
    ImageList,
    ImageNetR,
    ImageNetSketch,
    ImageNetVal,
    NaturalSubset,
    SensitiveImages,
    wnid_to_index,
)
from workbench.data.preprocess import REPO, Preprocess, from_timm, preset
from workbench.data.pug import PugImageNet
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError

SMALL = Preprocess("small", resize=10, crop=8, interpolation="bilinear")


def draw(path: Path, width: int = 12, height: int = 10, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def natural(tmp_path: Path) -> Path:
    """Two groups, created out of order, with the litter that archives carry."""
    root = tmp_path / "Natural-Image-Subset"
    for name in ("890_430/b.jpg", "890_430/a.JPEG", "61_58/c.png"):
        draw(root / name)
    (root / "890_430/notes.txt").write_text("not an image")
    (root / "890_430/.hidden.jpg").write_text("not an image")
    draw(root / "__MACOSX/890_430/a.jpg")
    return root


def test_natural_groups(natural: Path) -> None:
    subset = NaturalSubset(natural, SMALL)
    assert [(group.name, group.true, group.wrong) for group in subset] == [
        ("61_58", 61, 58),
        ("890_430", 890, 430),
    ]
    group = subset.group("890_430")
    assert [path.name for path in group.files] == ["a.JPEG", "b.jpg"]
    assert group.images.targets == (890, 890)
    assert group.images[0].shape == (3, 8, 8)


def test_a_group_is_named_when_it_is_unknown(natural: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown group '890_431'; did you mean '890_430'\?"):
        NaturalSubset(natural).group("890_431")


def test_a_wrong_class_may_be_a_word(tmp_path: Path) -> None:
    draw(tmp_path / "890_basketball/a.jpg")
    assert NaturalSubset(tmp_path)[0].wrong is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("volleyball/a.jpg", "is not called <true>_<wrong>, such as 890_430"),
        ("1000_3/a.jpg", r"names class 1000; ImageNet-1k classes are 0..999"),
        ("3_1000/a.jpg", "names class 1000"),
        ("3_4/notes.txt", "holds no image files"),
    ],
)
def test_folders_that_are_no_groups(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    with pytest.raises(InvalidInputError, match=message):
        NaturalSubset(tmp_path)


def test_an_empty_folder_is_no_subset(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no group folders"):
        NaturalSubset(tmp_path)


def test_sensitive_images_are_a_flat_sorted_folder(tmp_path: Path) -> None:
    for name in ("b.JPEG", "a.png"):
        draw(tmp_path / name)
    (tmp_path / "c.txt").touch()
    images = SensitiveImages(tmp_path, SMALL)
    assert [path.name for path in images.paths] == ["a.png", "b.JPEG"]
    assert images.targets == (NO_CLASS, NO_CLASS)
    for path in images.paths:
        path.unlink()
    with pytest.raises(InvalidInputError, match="holds no image files"):
        SensitiveImages(tmp_path)


def test_class_indices_are_timms() -> None:
    classes = wnid_to_index()
    assert (len(classes), classes["n01440764"], classes["n01443537"], classes["n15075141"]) == (
        1000,
        0,
        1,
        999,
    )


@pytest.mark.parametrize(
    ("loader", "inner"),
    [
        *((ImageNetVal, inner) for inner in (".", "val")),
        *((ImageNetR, inner) for inner in (".", "imagenet-r")),
        *((ImageNetSketch, inner) for inner in (".", "sketch")),
    ],
)
def test_class_folders(tmp_path: Path, loader: Callable[..., ImageList], inner: str) -> None:
    for name in ("n01443537/b.JPEG", "n01440764/z.jpg", "n01443537/a.jpg"):
        draw(tmp_path / inner / name)
    (tmp_path / inner / "README.txt").touch()
    images = loader(tmp_path, SMALL)
    assert [path.name for path in images.paths] == ["z.jpg", "a.jpg", "b.JPEG"]
    assert images.targets == (0, 1, 1)


@pytest.mark.parametrize(
    ("folder", "message"), [("n00000001", "is not an ImageNet-1k class"), ("goldfish", "is not a WordNet id")]
)
def test_unknown_class_folders(tmp_path: Path, folder: str, message: str) -> None:
    draw(tmp_path / folder / "a.jpg")
    with pytest.raises(InvalidInputError, match=message):
        ImageNetR(tmp_path)


@pytest.mark.parametrize("loader", [NaturalSubset, SensitiveImages, ImageNetR, ImageNetSketch, PugImageNet])
def test_data_that_is_not_there(
    tmp_path: Path, loader: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match="run: workbench data fetch"):
        loader()
    with pytest.raises(MissingDataError, match=r"to see how to get .*: workbench data fetch"):
        loader(tmp_path / "elsewhere")


def test_the_cache_is_the_default_place(
    tmp_path: Path, natural: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    (tmp_path / "natural-image-subset").mkdir()
    (tmp_path / "natural-image-subset/2024").symlink_to(natural)
    assert len(NaturalSubset()) == 2


def test_batches_subsets_and_slices(tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{i}.png", seed=i) for i in range(5)]
    images = ImageList(paths, range(5), SMALL)
    batches = list(images.batches(2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), torch.stack(list(images)))
    assert (images.subset([4, 0]).targets, images[1:3].targets) == ((4, 0), (1, 2))
    with pytest.raises(InvalidInputError, match="batch size must be at least 1, not 0"):
        next(images.batches(0))
    with pytest.raises(InvalidInputError, match="5 paths need as many targets, not 1"):
        ImageList(paths, [0])


@pytest.fixture
def pug(tmp_path: Path) -> Path:
    """Four renders of two characters in two lights, in the published layout."""
    header = "filename,world_name,character_name,character_label,character_scale,scene_light"
    rows = [
        f"{world}/{label}_{light}.png,{world},{label}_01,{label},1.0,{light}"
        for world, label in (("Desert", "Wolf"), ("Arena", "Vase"))
        for light in ("White", "Blue")
    ]
    (tmp_path / "labels_pug_imagenet.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    for row in rows:
        draw(tmp_path / row.partition(",")[0])
    classes = json.dumps({"Wolf": [269, 270], "Vase": [883]})
    (tmp_path / "class_to_imagenet_idx.json").write_text(classes, encoding="utf-8")
    return tmp_path


def test_pug_renders_are_selected_by_light(pug: Path) -> None:
    renders = PugImageNet(pug, SMALL)
    assert len(renders) == 4
    assert renders.values("scene_light") == ("Blue", "White")
    blue = renders.select(scene_light="Blue")
    assert [path.relative_to(pug).as_posix() for path in blue.paths] == [
        "Arena/Vase_Blue.png",
        "Desert/Wolf_Blue.png",
    ]
    assert (blue.targets, blue.accepted) == ((883, 269), ((883,), (269, 270)))
    assert blue[0].shape == (3, 8, 8)
    assert len(blue.select(world_name="Desert")) == 1
    assert len(renders) == 4


def test_pug_names_what_it_does_not_know(pug: Path) -> None:
    renders = PugImageNet(pug)
    with pytest.raises(UnknownNameError, match=r"unknown scene_light 'blu'; did you mean 'Blue'\?"):
        renders.select(scene_light="blu")
    with pytest.raises(UnknownNameError, match=r"unknown factor 'scene_ligth'; did you mean 'scene_light'\?"):
        renders.select(scene_ligth="Blue")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("labels_pug_imagenet.csv", "scene_light", "light", "has no column scene_light"),
        ("labels_pug_imagenet.csv", "Desert/Wolf_Blue", "../Wolf_Blue", "which is not inside its folder"),
        ("class_to_imagenet_idx.json", "Vase", "Vaze", "gives no class for Vase"),
        ("class_to_imagenet_idx.json", "{", "[", "is not a mapping of labels to class numbers"),
    ],
)
def test_pug_files_that_do_not_fit(pug: Path, name: str, old: str, new: str, message: str) -> None:
    path = pug / name
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        PugImageNet(pug)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (300, 300), (100, 333), (257, 256)])
def test_repo_preset_is_torchvisions_resize_and_crop(tmp_path: Path, size: tuple[int, int]) -> None:
    from workbench._compat import ensure_torchvision_imports

    ensure_torchvision_imports()
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    path = draw(tmp_path / "image.png", *size)
    steps = [
        transforms.Resize(256, InterpolationMode.BILINEAR),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
    ]
    assert torch.equal(REPO(path), transforms.Compose(steps)(Image.open(path)))


@pytest.mark.parametrize(
    "name", ["vit_base_patch16_224.augreg_in21k_ft_in1k", "vit_small_patch14_dinov2.lvd142m"]
)
def test_timm_preset_is_timms_own_transform(tmp_path: Path, name: str) -> None:
    from workbench._compat import ensure_torchvision_imports

    ensure_torchvision_imports()
    import timm
    from timm.data import create_transform, resolve_data_config

    config = timm.get_pretrained_cfg(name).to_dict()
    path = draw(tmp_path / "image.png", 300, 222)
    whole = create_transform(**resolve_data_config(pretrained_cfg=config), normalize=False)
    expected = whole(Image.open(path))
    assert torch.equal(
        from_timm(config)(path), expected.float() / 255 if expected.dtype == torch.uint8 else expected
    )


def test_presets_by_name() -> None:
    config = {"input_size": (3, 224, 224), "crop_pct": 0.9, "interpolation": "bicubic"}
    assert preset("repo") is REPO
    assert preset("timm", config) == Preprocess("timm", 248, 224, "bicubic")
    with pytest.raises(UnknownNameError, match=r"unknown preprocessing 'tim'; did you mean 'timm'\?"):
        preset("tim")
    with pytest.raises(InvalidInputError, match="pass the model too"):
        preset("timm")
    with pytest.raises(InvalidInputError, match="pretrained_cfg has no crop_pct"):
        from_timm({key: config[key] for key in ("input_size", "interpolation")})
    with pytest.raises(InvalidInputError, match="crop_mode 'squash'"):
        from_timm({**config, "crop_mode": "squash"})
    with pytest.raises(InvalidInputError, match="crop must be between 1 and resize"):
        Preprocess("mine", resize=100, crop=224, interpolation="bilinear")


def test_benchmark_files_are_decoded_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    pixels = np.zeros((10, 10, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    assert SMALL(path).max() == 0.0  # clear black stays black, as the usual loaders have it
