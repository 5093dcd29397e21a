"""`workbench train mend` through its real entry point, on the default model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def train_mend(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from workbench.cli import app; app()", "train", "mend", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with five images of noise."""
    found = tmp_path / "images"
    found.mkdir()
    random = np.random.default_rng(0)
    for i in range(5):
        pixels = random.integers(0, 256, size=(60 + 10 * i, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(found / f"{i}.png")
    return found


@pytest.mark.slow
def test_it_writes_weights_card_and_log_and_goes_on_from_them(
    require_data: Callable[..., None], folder: Path, tmp_path: Path
) -> None:
    require_data("vit-s14-focus", "emojibase")
    options = ("--images", str(folder), "-o", "out", "--pairs", "2", "--rank", "4")
    for iterations in ("1", "2"):
        done = train_mend(*options, "--iterations", iterations, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "out" / "mend-emoji_vit_s14.json").read_text())
    assert "workbench train mend --model emoji_vit_s14 --iterations 2 --pairs 2 --rank 4" in card["command"]
    assert card["extra"]["blocks"] == [7, 8, 9]
    assert set(card["metrics"]) >= {"edit_loss", "locality_loss", "right"}
    assert len((tmp_path / "out" / "training.csv").read_text().splitlines()) == 3

    import torch

    from workbench.editing import EditRequest
    from workbench.editing.editors.mend import Mend
    from workbench.editing.editors.mend_network import MendNetwork
    from workbench.models import load_model

    network = MendNetwork.load(tmp_path / "out" / "mend-emoji_vit_s14.safetensors")
    result = Mend(load_model("emoji_vit_s14"), network).edit(EditRequest(torch.rand(3, 112, 112), 3))
    assert result.losses[1] < result.losses[0]


def test_it_names_an_unknown_model(tmp_path: Path) -> None:
    done = train_mend("--model", "emoji_vit_s41", cwd=tmp_path)
    assert done.returncode == 1
    assert "did you mean 'emoji_vit_s14'?" in done.stderr
    assert not list(tmp_path.iterdir())


def test_it_refuses_one_pair(tmp_path: Path) -> None:
    done = train_mend("--pairs", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert "pairs is 1; it must be at least 2" in done.stderr
