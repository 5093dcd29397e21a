"""A script: most of models, editing and the emoji data, with every annotated shape and type checked at run time.

Run by ``test_shapes.py`` in a process of its own, because the checks are put in when a module is imported.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checker = ModuleType("checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
sys.modules["checker"] = checker
install_import_hook(["workbench.data", "workbench.editing", "workbench.models"], "checker.check")

import conftest  # noqa: E402
import tiny_emoji as sets  # noqa: E402
import torch  # noqa: E402

import workbench.editing as editing  # noqa: E402
from workbench.data import emoji, failures  # noqa: E402
from workbench.data.emoji_population import source_batch, source_epoch  # noqa: E402
from workbench.editing.mask_search import SearchSettings  # noqa: E402
from workbench.models import SplitViT, fingerprint, logits_of  # noqa: E402
from workbench.models.tuning import TuningSettings, tune_classifier  # noqa: E402


def edit(folder: Path) -> None:
    model, images = conftest.build_vit(), conftest.make_images(6)
    space = editing.EditSpace.of(model, (1, 2))
    network = editing.MaskNetwork(space, depth=1)
    hypernetwork = editing.MaskHypernetwork(network, space, fingerprint(model))
    mask = hypernetwork(model, images).binarize(0.9)
    mask.to_frame(), mask.density_per_matrix(), mask.iou(mask)
    split = SplitViT(model, 1)
    evaluation = editing.EvaluationSet.build(split, images[:3], [1, 2, 3], 0, images[3:])
    settings = editing.EditSettings(learning_rate=1e-3, blocks=(1, 2), max_steps=4)
    ways = (
        editing.LearnedMask(hypernetwork, 0.5),
        editing.RandomMask(0.5),
        editing.GradientMask(0.5),
        editing.FullMask(),
        mask,
    )
    for where in ways:
        found = editing.Editor(model, where, settings).edit(editing.EditRequest(images[0], 1), evaluation)
        found.to_frame(), found.outcome(), found.scores()
    several = editing.Editor(model, None, settings).edit(editing.EditRequest(images[:2], [1, 2])).edit
    loaded = editing.Edit.load(several.save(folder / "edit.safetensors"))
    loaded.compose(several).to_frame(), loaded.overlap(several)
    with editing.applied(model, loaded):
        logits_of(model, images)
    stacked = {a: w.expand(6, *w.shape) for a, w in space.weights(model).items()}
    split(images, stacked), split.class_token(split.prefix(images))


def train() -> None:
    search = SearchSettings(inner_steps=2, outer_steps=2)
    settings = editing.MetaTrainingSettings(iterations=2, pairs=2, blocks=(1, 2), depth=1, search=search)
    for inner in ("first_order", "full"):
        editing.train_hypernetwork(
            conftest.build_vit(),
            lambda i: conftest.make_images(4, seed=i),
            replace(settings, search=replace(search, inner=inner)),
            progress=False,
        )
    targets = torch.arange(14) % 7
    tune_classifier(
        conftest.build_vit(),
        lambda i: (conftest.make_images(14, seed=i), targets),
        TuningSettings(epochs=1, first_block=3),
    )


def look_at_emoji(folder: Path) -> None:
    os.environ["WORKBENCH_DATA"] = str(folder / "cache")
    sets.write(folder / "sets")
    emoji.locate = lambda name: folder / "sets" / name
    model = conftest.build_vit(img_size=112, patch_size=28, num_classes=4)
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": emoji.kinds()}
    group = failures.failure_groups(model, min_size=1)[0]
    group.images, group.targets, group.failures[0].image
    failures.accuracy_table(model)
    failures.sensitive_set(model, at_least=3, gap=0.1, rounds=1).sample(2)
    source_epoch(0), source_batch(0, 4)


if __name__ == "__main__":
    edit(Path(sys.argv[1]))
    train()
    look_at_emoji(Path(sys.argv[1]))
    try:
        logits_of(conftest.build_vit(), torch.rand(2, 2))
    except Exception as error:  # the checks must be on
        print("checked:", type(error).__name__)
