"""A model, images and folders of a user's own: a small timm ViT in a file, with a wrong image and others around it."""

from __future__ import annotations

from pathlib import Path

#: Its classes, in order.
CLASSES = ("ant", "bee", "cat", "dog")


def write(folder: Path) -> None:
    """Write ``model.safetensors``, ``wrong.png``, ``other.png`` and the folders ``near`` and ``far``."""
    import timm
    import torch
    from safetensors.torch import save_file

    from workbench.models.state_dicts import model_header

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = timm.create_model("test_vit", num_classes=len(CLASSES)).eval()
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": CLASSES}
    save_file(model.state_dict(), folder / "model.safetensors", metadata=model_header(model))
    for i in range(4):
        write_image(folder / "near" / f"{i}.png", i)
        write_image(folder / "far" / f"{i}.png", 10 + i)
    write_image(folder / "wrong.png", 0)
    write_image(folder / "other.png", 3)


def write_image(path: Path, seed: int) -> None:
    """Coarse coloured noise."""
    import numpy as np
    from PIL import Image

    path.parent.mkdir(exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((160, 160), Image.Resampling.BILINEAR).save(path)


def ranked(folder: Path) -> list[str]:
    """The classes of ``wrong.png`` from the likeliest to the least."""
    from workbench.data.own_images import read_for
    from workbench.models import load_model, logits_of

    model = load_model(folder / "model.safetensors")
    logits = logits_of(model, read_for(model, folder / "wrong.png")[None])[0]
    return [CLASSES[i] for i in logits.argsort(descending=True)]
