"""`workbench edit` and `workbench train` through their real entry points, on the default model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DATA = ("vit-s14-focus", "emoji-emojione-monotone", "emojibase")


def workbench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from workbench.cli import app; app()", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture
def wrong_image(require_data: Callable[..., None], tmp_path: Path) -> tuple[Path, str, str]:
    """A drawing that the default model gets wrong, as a file, its right class and the one predicted."""
    require_data(*DATA)
    from workbench.data.failures import failures
    from workbench.models import load_model

    failure = failures(load_model("emoji_vit_s14"), "emojione-monotone")[0]
    pixels = (failure.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    path = tmp_path / "wrong.png"
    Image.fromarray(pixels).save(path)
    return path, failure.true_name, failure.wrong_name


@pytest.mark.slow
def test_edit_corrects_an_image_and_keeps_the_correction(
    wrong_image: tuple[Path, str, str], tmp_path: Path
) -> None:
    path, true, wrong = wrong_image
    done = workbench("edit", "emoji_vit_s14", "--image", path.name, "--target", true, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"edited {wrong!r} to {true!r}" in done.stdout

    from workbench.data.images import read_image
    from workbench.editing import Edit, applied
    from workbench.models import load_model, logits_of
    from workbench.models.preprocessing import class_names

    model, image = load_model("emoji_vit_s14"), read_image(path)[None]
    with applied(model, Edit.load(tmp_path / "edit.safetensors")):
        assert class_names(model)[int(logits_of(model, image).argmax())] == true
    assert class_names(model)[int(logits_of(model, image).argmax())] == wrong


@pytest.mark.slow
def test_edit_that_gives_up_writes_nothing(wrong_image: tuple[Path, str, str], tmp_path: Path) -> None:
    path, true, _ = wrong_image
    options = ("--target", true, "--mask", "random", "--learning-rate", "1e-9", "--max-steps", "2")
    done = workbench("edit", "emoji_vit_s14", "--image", path.name, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "not edited within 2 steps" in done.stdout
    assert not list(tmp_path.glob("edit.*"))


@pytest.mark.slow
def test_edit_is_judged_applied_loaded_by_timm_and_taken_out_again(
    wrong_image: tuple[Path, str, str], tmp_path: Path
) -> None:
    path, true, wrong = wrong_image
    folder = tmp_path / "near"
    folder.mkdir()
    (folder / "copy.png").write_bytes(path.read_bytes())
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.png")
    options = ("--target", true, "--neighbours", "near", "--protect", "near", "-o", "fix.safetensors")
    done = workbench("edit", "emoji_vit_s14", "--image", path.name, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "learned-mask" in done.stdout
    assert "GR 1.000: 1 of 1 wrong neighbours" in done.stdout
    assert (tmp_path / "fix.html").exists()

    done = workbench(
        "edit", "apply", "emoji_vit_s14", "fix.safetensors", "-o", "fixed.safetensors", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("in timm: "))

    import timm

    from workbench.data.images import read_image
    from workbench.models import fingerprint, load_model, logits_of
    from workbench.models.preprocessing import class_names

    fixed = tmp_path / "fixed.safetensors"
    by_timm = eval(
        line.removeprefix("in timm: ").replace("fixed.safetensors", str(fixed)), {"timm": timm}
    ).eval()
    base, image = load_model("emoji_vit_s14"), read_image(path)[None]
    assert class_names(base)[int(logits_of(by_timm, image).argmax())] == true

    done = workbench("edit", "revert", fixed.name, "fix.safetensors", "-o", "base.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    restored = load_model(tmp_path / "base.safetensors")
    assert fingerprint(restored) == fingerprint(base)
    assert class_names(restored)[int(logits_of(restored, image).argmax())] == wrong


@pytest.mark.slow
def test_edit_refuses_to_overwrite_and_unknown_classes(
    wrong_image: tuple[Path, str, str], tmp_path: Path
) -> None:
    path, true, _ = wrong_image
    (tmp_path / "edit.safetensors").write_text("precious")
    make = ("edit", "emoji_vit_s14", "--image", path.name)
    kept = workbench(*make, "--target", true, cwd=tmp_path)
    assert kept.returncode == 1
    assert "edit.safetensors exists; give another name with -o, or --force" in kept.stderr
    assert (tmp_path / "edit.safetensors").read_text() == "precious"
    unknown = workbench(*make, "--target", "mamal", "-o", "new.safetensors", cwd=tmp_path)
    assert "unknown class 'mamal'; did you mean 'mammal'?" in unknown.stderr


@pytest.mark.slow
def test_train_hypernetwork_writes_weights_card_and_log(
    require_data: Callable[..., None], tmp_path: Path
) -> None:
    require_data(*DATA)
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(5):
        pixels = random.integers(0, 256, size=(60 + 10 * i, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    options = ("--iterations", "2", "--pairs", "2", "--inner-steps", "1", "--outer-steps", "2")
    done = workbench("train", "hypernetwork", "--images", str(folder), "-o", "out", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "out" / "hypernetwork-emoji_vit_s14.json").read_text())
    assert "--iterations 2 --pairs 2 --inner-steps 1 --outer-steps 2" in card["command"]
    assert len((tmp_path / "out" / "training.csv").read_text().splitlines()) == 3

    import torch

    from workbench.editing import MaskHypernetwork
    from workbench.models import load_model

    hypernetwork = MaskHypernetwork.load(tmp_path / "out" / "hypernetwork-emoji_vit_s14.safetensors")
    masks = hypernetwork(load_model("emoji_vit_s14"), torch.rand(3, 112, 112))
    assert masks.values.shape == (1, 6, 1536)


def test_train_names_an_unknown_model(tmp_path: Path) -> None:
    done = workbench("train", "hypernetwork", "--model", "emoji_vit_s41", cwd=tmp_path)
    assert done.returncode == 1
    assert "did you mean 'emoji_vit_s14'?" in done.stderr
    assert not list(tmp_path.iterdir())
