"""Failures, failure groups and the sensitive set of a small classifier on the small emoji sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import tiny_emoji as sets
import torch
from torch import Tensor, nn

from workbench import checkpoints
from workbench.checkpoints import Card, save_checkpoint, shipped_path
from workbench.data import failures as module
from workbench.data.emoji_population import classified
from workbench.data.failures import (
    Failure,
    FailureGroup,
    accuracy_table,
    failure_groups,
    failures,
    sensitive_listing,
    sensitive_set,
)
from workbench.data.views import augmented_views
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.models import logits_of


def predictions(model: nn.Module, emoji: ModuleType, style: str) -> list[int]:
    return logits_of(model, emoji.on_white(emoji.drawings(style)[classified()])).argmax(1).tolist()


def test_failures_are_exactly_the_drawings_taken_for_another_class(
    tiny_emoji: ModuleType, emoji_vit: nn.Module
) -> None:
    for style in ("openmoji", "noto"):
        found = failures(emoji_vit, style)
        labels = tiny_emoji.labels()[classified()].tolist()
        wrong = {
            concept: (label, prediction)
            for concept, label, prediction in zip(
                sets.CONCEPTS, labels, predictions(emoji_vit, tiny_emoji, style), strict=True
            )
            if label != prediction
        }
        assert 0 < len(wrong) < 32
        assert {f.concept: (f.true, f.wrong) for f in found} == wrong
        assert [f.concept for f in found] == sorted(f.concept for f in found)


def test_a_failure_knows_its_image_and_its_words(tiny_emoji: ModuleType, emoji_vit: nn.Module) -> None:
    failure = failures(emoji_vit, "openmoji")[0]
    assert torch.equal(failure.image, tiny_emoji.image("openmoji", failure.concept))
    probabilities = logits_of(emoji_vit, failure.image[None]).softmax(1)[0]
    assert int(probabilities.argmax()) == failure.wrong
    assert failure.confidence == pytest.approx(float(probabilities.max()), abs=1e-4)
    assert (failure.true_name, failure.wrong_name) == (sets.KINDS[failure.true], sets.KINDS[failure.wrong])
    text = str(replace(failure, confidence=0.876))
    assert text == f"{failure.concept} (openmoji): {failure.true_name} taken for {failure.wrong_name} (88%)"


def test_inv26_groups_hold_nothing_that_the_model_gets_right(
    tiny_emoji: ModuleType, emoji_vit: nn.Module
) -> None:
    groups = failure_groups(emoji_vit, min_size=1)
    assert sum(len(g) for g in groups) == sum(len(failures(emoji_vit, s)) for s in tiny_emoji.styles("shift"))
    for group in groups:
        found = logits_of(emoji_vit, group.images).argmax(1)
        assert (found != group.targets).all()
        assert {f.style for f in group.failures} == {group.style}
        assert len(set(group.targets.tolist())) == len(set(found.tolist())) == 1
        confidences = [f.confidence for f in group.failures]
        assert confidences == sorted(confidences, reverse=True)
    assert len({g.name for g in groups}) == len(groups)
    assert [len(g) for g in groups] == sorted((len(g) for g in groups), reverse=True)


def test_small_groups_are_left_out(emoji_vit: nn.Module) -> None:
    everything = failure_groups(emoji_vit, min_size=1)
    kept = failure_groups(emoji_vit)
    assert [g.name for g in kept] == [g.name for g in everything if len(g) >= module.MIN_GROUP == 6]
    assert 0 < len(kept) < len(everything)


def test_groups_of_chosen_styles(emoji_vit: nn.Module) -> None:
    groups = failure_groups(emoji_vit, styles=("noto", "twemoji"), min_size=1)
    assert {g.style for g in groups} == {"noto", "twemoji"}
    with pytest.raises(UnknownNameError, match=r"unknown style 'notto'; did you mean 'noto'\?"):
        failure_groups(emoji_vit, styles=("notto",))


def test_the_name_of_a_group() -> None:
    failure = Failure("openmoji", "ant", true=0, wrong=1, confidence=0.5, class_names=("mammal", "bug"))
    assert FailureGroup((failure,)).name == "mammal taken for bug (openmoji)"


def test_accuracy_by_drawing(tiny_emoji: ModuleType, emoji_vit: nn.Module) -> None:
    table = accuracy_table(emoji_vit)
    assert list(table.columns) == ["concept", "kind", "style", "role", "right"]
    assert len(table) == 9 * 32
    wrong = table[~table["right"]]
    for style in tiny_emoji.styles():
        assert wrong[wrong["style"] == style]["concept"].tolist() == [
            f.concept for f in failures(emoji_vit, style)
        ]
    assert set(table[table["style"] == "openmoji"]["role"]) == {"shift"}


def test_logits_are_computed_once_a_model(
    emoji_vit: nn.Module, make_vit: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = failures(emoji_vit, "openmoji")
    monkeypatch.setattr(module, "logits_of", lambda *_: pytest.fail("they are in the cache"))
    assert failures(emoji_vit, "openmoji") == first
    module._cached_logits.cache_clear()
    assert failures(emoji_vit, "openmoji") == first  # now from the file
    monkeypatch.undo()


def test_another_models_logits_are_its_own(emoji_vit: nn.Module, make_vit: Callable[..., nn.Module]) -> None:
    other = make_vit(seed=1, img_size=112, patch_size=28, num_classes=4)
    other.pretrained_cfg = emoji_vit.pretrained_cfg
    assert failures(emoji_vit, "openmoji") != failures(other, "openmoji")


def test_a_model_of_other_classes_is_refused(
    tiny_emoji: ModuleType, make_vit: Callable[..., nn.Module]
) -> None:
    model = make_vit(img_size=112, patch_size=28)
    wanted = r"this model has 7 classes that are not the 4 emoji kinds; use load_model\('emoji_vit_s14'\)"
    for call in (
        lambda: failures(model, "noto"),
        lambda: sensitive_set(model),
        lambda: accuracy_table(model),
    ):
        with pytest.raises(InvalidInputError, match=wanted):
            call()


def test_an_unknown_style(emoji_vit: nn.Module) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown style 'openmojy'; did you mean 'openmoji'\?"):
        failures(emoji_vit, "openmojy")


def gaps_and_labels(model: nn.Module, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    top = torch.cat([logits_of(model, image[None]).softmax(1).topk(2).values for image in images])
    labels = torch.cat([logits_of(model, image[None]).argmax(1) for image in images])
    return (top[:, 0] - top[:, 1]).numpy(), labels.numpy()


def test_inv27_the_sensitive_set_is_right_with_a_small_gap(
    tiny_emoji: ModuleType, emoji_vit: nn.Module
) -> None:
    found = sensitive_set(emoji_vit, at_least=5, gap=0.1, rounds=9)
    assert found.gap == 0.1
    assert 5 <= len(found) == len(found.images) == len(found.table)
    gaps, labels = gaps_and_labels(emoji_vit, found.images)  # recomputed, image by image
    assert gaps.max() < 0.1 + 1e-4
    np.testing.assert_allclose(gaps, found.table["gap"], atol=1e-4)
    assert [sets.KINDS[i] for i in labels] == found.table["kind"].tolist()
    assert list(found.table.columns) == ["concept", "kind", "style", "view", "gap"]
    assert set(found.table["style"]) <= {*tiny_emoji.styles("source"), *tiny_emoji.styles("validation")}


def test_inv27_nothing_that_belongs_is_left_out(tiny_emoji: ModuleType, emoji_vit: nn.Module) -> None:
    found = sensitive_set(emoji_vit, at_least=1, gap=0.2, rounds=1)
    count = 0
    for position, style in enumerate((*tiny_emoji.styles("validation"), *tiny_emoji.styles("source"))):
        views = augmented_views(tiny_emoji.drawings(style)[classified()], module._FIRST_VIEW + position)
        gaps, labels = gaps_and_labels(emoji_vit, views)
        count += int(((labels == tiny_emoji.labels()[classified()]) & (gaps < 0.2)).sum())
    assert len(found) == count > 0


def test_the_gap_widens_until_there_are_enough(emoji_vit: nn.Module) -> None:
    narrow = sensitive_set(emoji_vit, at_least=1, gap=0.05, rounds=1)
    wide = sensitive_set(emoji_vit, at_least=len(narrow) + 3, gap=0.05, rounds=1)
    assert narrow.gap == 0.05
    assert 0.05 < wide.gap <= 0.2
    assert len(wide) >= len(narrow) + 3
    assert wide.table["gap"].max() < wide.gap
    most = sensitive_set(emoji_vit, at_least=10_000, gap=0.05, rounds=1)
    assert most.gap == pytest.approx(0.2)  # as wide as it goes; fewer than asked for


def test_the_sensitive_set_is_found_once(emoji_vit: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sensitive_set(emoji_vit, at_least=3, gap=0.1, rounds=1)
    monkeypatch.setattr(module, "_scan", lambda *_: pytest.fail("it is in the cache"))
    again = sensitive_set(emoji_vit, at_least=3, gap=0.1, rounds=1)
    assert torch.equal(first.images, again.images)
    pd.testing.assert_frame_equal(first.table, again.table)
    assert first.gap == again.gap


def test_a_shipped_classifiers_card_spares_the_scan(
    emoji_vit: nn.Module, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = sensitive_set(emoji_vit)
    listing = sensitive_listing(emoji_vit)
    monkeypatch.setattr(checkpoints, "_FOLDER", tmp_path / "shelf")
    card = Card("tiny", "classifier", "", "", 0, {}, extra={"sensitive": listing})
    save_checkpoint(shipped_path("classifier", "tiny"), {"a": torch.zeros(1)}, card)
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "another-cache"))
    monkeypatch.setattr(module, "_scan", lambda *_: pytest.fail("the card lists the views"))
    drawn = sensitive_set(emoji_vit)
    assert torch.equal(drawn.images, scanned.images)
    pd.testing.assert_frame_equal(drawn.table, scanned.table)
    assert drawn.gap == scanned.gap


def test_a_sample_is_drawn_without_replacement_and_by_seed(emoji_vit: nn.Module) -> None:
    whole = sensitive_set(emoji_vit, at_least=10, gap=0.2, rounds=1)
    few = whole.sample(4, seed=1)
    assert len(few) == 4
    assert few.table.index.tolist() == [0, 1, 2, 3]
    assert not few.table.duplicated(["concept", "style", "view"]).any()
    key = ["concept", "style", "view"]
    where = {tuple(values): i for i, values in enumerate(whole.table[key].to_numpy().tolist())}
    for i, values in enumerate(few.table[key].to_numpy().tolist()):
        assert torch.equal(whole.images[where[tuple(values)]], few.images[i])
    assert torch.equal(few.images, whole.sample(4, seed=1).images)
    assert len(whole.sample(10_000)) == len(whole)
