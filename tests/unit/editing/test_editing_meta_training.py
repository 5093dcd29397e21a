"""Meta-training: its log, its state, its resumption, and what it refuses."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.editing import MaskHypernetwork, MetaTrainingSettings, train_hypernetwork
from workbench.editing.mask_search import SearchSettings
from workbench.editing.meta_training import ImageSource, MetaTraining
from workbench.errors import CheckpointError, InvalidInputError, TrainingDivergedError, UnknownNameError
from workbench.models import fingerprint

COLUMNS = [
    "iteration",
    "kl",
    "kl_start",
    "label_density",
    "mask_density",
    "bce",
    "label_specific",
    "mask_specific",
    "learning_rate",
    "seconds",
]
SETTINGS = MetaTrainingSettings(
    iterations=7,
    pairs=2,
    blocks=(1, 2),
    depth=1,
    learning_rate=1e-3,
    search=SearchSettings(inner_steps=2, outer_steps=2, inner_rate=1e-2),
)


@pytest.fixture
def source(image_maker: Callable[..., Tensor]) -> ImageSource:
    return lambda iteration: image_maker(4, seed=iteration)


def train(
    model: nn.Module, source: ImageSource, settings: MetaTrainingSettings = SETTINGS, **options: Any
) -> MaskHypernetwork:
    return train_hypernetwork(model, source, settings, progress=False, **options)


def rows_of(log: Path) -> list[dict[str, str]]:
    with log.open() as file:
        return list(csv.DictReader(file))


def without_time(log: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows_of(log)]


def same(left: MaskHypernetwork, right: MaskHypernetwork) -> bool:
    mine, other = left.network.state_dict(), right.network.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


class Killed(BaseException):
    """Stands for the end of a process."""


def killed_at(source: ImageSource, last: int) -> ImageSource:
    def images(iteration: int) -> Tensor:
        if iteration == last:
            raise Killed
        return source(iteration)

    return images


def test_the_log_has_a_row_an_iteration_with_the_documented_columns(
    vit: nn.Module, source: ImageSource, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    train(vit, source, log=log)
    rows = rows_of(log)
    assert list(rows[0]) == COLUMNS
    assert [float(row["iteration"]) for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    for row in rows:
        values = {name: float(value) for name, value in row.items()}
        assert all(0 <= values[name] <= 1 for name in COLUMNS if name.endswith(("density", "specific")))
        assert values["kl"] > 0
        assert values["bce"] > 0
        assert values["seconds"] > 0
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates[0] == pytest.approx(1e-3)
    assert rates == sorted(rates, reverse=True)  # a cosine
    assert rates[-1] < 1e-4


def test_the_model_is_not_changed_and_the_result_belongs_to_it(vit: nn.Module, source: ImageSource) -> None:
    before = fingerprint(vit)
    trained = train(vit, source)
    assert fingerprint(vit) == before == trained.base
    assert not trained.network.training
    assert trained.space.blocks == (1, 2)


def test_labels_are_learnt(vit: nn.Module, source: ImageSource, tmp_path: Path) -> None:
    """Under a high price labels are near 0 for every unit, and the masks follow."""
    log = tmp_path / "log.csv"
    costly = replace(SETTINGS.search, price=20.0, outer_steps=6)
    train(vit, source, replace(SETTINGS, iterations=12, search=costly), log=log)
    first, *_, last = ({name: float(value) for name, value in row.items()} for row in rows_of(log))
    assert first["label_density"] < 0.1
    assert first["mask_density"] > 0.4
    assert last["mask_density"] < 0.2
    assert last["bce"] < 0.5 * first["bce"]


@pytest.mark.parametrize("killed", [1, 3, 5, 6])
@pytest.mark.parametrize("replay_steps", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(
    vit: nn.Module, source: ImageSource, tmp_path: Path, killed: int, replay_steps: int
) -> None:
    settings = replace(SETTINGS, replay_steps=replay_steps, replay_batch=3)
    whole = train(vit, source, settings, log=tmp_path / "whole.csv")
    log, state = tmp_path / "log.csv", tmp_path / "state.pt"
    with pytest.raises(Killed):
        train(vit, killed_at(source, killed), settings, log=log, state=state, save_every=3)
    assert state.exists() == (killed >= 3)
    torch.manual_seed(123)  # nothing global counts
    resumed = train(vit, source, settings, log=log, state=state, save_every=3)
    assert same(resumed, whole)
    assert without_time(log) == without_time(tmp_path / "whole.csv")


@pytest.mark.parametrize("inner", ["first_order", "full"])
def test_samples_searched_in_groups(vit: nn.Module, image_maker: Callable[..., Tensor], inner: str) -> None:
    """Of any size: the same labels and losses up to rounding, and never more samples at a time than fit."""
    search = replace(SETTINGS.search, inner=inner)
    settings, weights = replace(SETTINGS, pairs=5, search=search), 4 * 4 * 192 * 48 * 4
    rows = []
    for together in (5, 1, 2, 4):
        run = MetaTraining(vit, lambda i: image_maker(10, seed=i), settings, memory=together * weights)
        sizes: list[int] = []
        original = run.split.tail

        def watched(tokens: Tensor, *arguments: Any, seen=sizes, tail=original) -> Tensor:  # type: ignore[no-untyped-def]
            seen.append(len(tokens))
            return tail(tokens, *arguments)

        run.split.tail = watched  # type: ignore[method-assign]
        rows.append(run.step(0))
        assert run.together == together
        assert max(sizes[1:]) == together  # the first is the clean hosts, all of them
        assert rows[-1]["kl"] == pytest.approx(rows[0]["kl"], rel=1e-5)
        assert rows[-1]["label_density"] == pytest.approx(rows[0]["label_density"], rel=1e-4)
        assert rows[-1]["label_specific"] == pytest.approx(rows[0]["label_specific"], abs=1e-3)


def test_a_run_goes_on_with_other_memory(vit: nn.Module, source: ImageSource, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    with pytest.raises(Killed):
        train(vit, killed_at(source, 3), state=state, save_every=3)
    resumed, whole = train(vit, source, state=state, memory=0), train(vit, source)
    for name, value in resumed.network.state_dict().items():
        torch.testing.assert_close(value, whole.network.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_saving_more_often_changes_nothing(vit: nn.Module, source: ImageSource, tmp_path: Path) -> None:
    often = train(vit, source, state=tmp_path / "often.pt", save_every=1)
    assert same(often, train(vit, source))
    finished = train(vit, killed_at(source, 0), state=tmp_path / "often.pt")  # nothing is left to do
    assert same(often, finished)


def test_the_seed_decides(vit: nn.Module, source: ImageSource) -> None:
    assert not same(train(vit, source), train(vit, source, replace(SETTINGS, seed=1)))


def test_training_leaves_the_global_random_state_alone(vit: nn.Module, source: ImageSource) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(vit, source, replace(SETTINGS, iterations=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_replayed_labels_are_those_seen_so_far(vit: nn.Module, source: ImageSource) -> None:
    settings = replace(SETTINGS, replay_steps=1)
    run = MetaTraining(vit, source, settings)
    fitted: list[tuple[Tensor, Tensor]] = []
    original = run._fit

    def watched(features: Tensor, labels: Tensor, iteration: int) -> None:
        fitted.append((features, labels))
        original(features, labels, iteration)

    run._fit = watched  # type: ignore[method-assign]
    for iteration in range(3):
        run.step(iteration)
    per_iteration = settings.label_steps + 1
    known: dict[bytes, Tensor] = {}
    for i in range(3):
        features, labels = fitted[i * per_iteration]
        known |= {f.numpy().tobytes(): m for f, m in zip(features, labels, strict=True)}
        features, labels = fitted[(i + 1) * per_iteration - 1]
        assert len(features) == settings.replay_batch
        for f, m in zip(features, labels, strict=True):
            torch.testing.assert_close(
                m, known[f.numpy().tobytes()], rtol=0, atol=1e-3
            )  # kept in half precision
    assert len(known) == 6


def poisoned_from(source: ImageSource, first: int) -> ImageSource:
    return lambda iteration: source(iteration) * (torch.nan if iteration >= first else 1.0)


def test_images_that_are_not_finite_name_the_iteration_and_keep_the_state(
    vit: nn.Module, source: ImageSource, tmp_path: Path
) -> None:
    log, state = tmp_path / "log.csv", tmp_path / "state.pt"
    with pytest.raises(InvalidInputError, match=r"^iteration 5: images must be finite"):
        train(vit, poisoned_from(source, 5), log=log, state=state, save_every=2)
    assert torch.load(state, weights_only=True)["iteration"] == 4
    assert len(rows_of(log)) == 5
    resumed = train(vit, source, log=log, state=state)
    assert same(resumed, train(vit, source))


def test_a_loss_that_is_not_finite_names_the_iteration_and_keeps_the_state(
    vit: nn.Module, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.editing import meta_training

    state = tmp_path / "state.pt"
    original, calls = meta_training.search_masks, []

    def diverging(*args: Any) -> Any:
        calls.append(1)
        found = original(*args)
        return replace(found, losses=found.losses * torch.nan) if len(calls) == 4 else found

    monkeypatch.setattr(meta_training, "search_masks", diverging)
    with pytest.raises(
        TrainingDivergedError, match=r"^kl not finite at iteration 3; the last saved state is kept\."
    ):
        train(vit, source, state=state, save_every=1)
    assert torch.load(state, weights_only=True)["iteration"] == 3


@pytest.mark.parametrize(
    "change",
    [{"search": SearchSettings(inner_steps=3, inner_rate=1e38)}, {"learning_rate": 1e38}],
    ids=["search", "network"],
)
def test_real_divergence_is_told_and_leaves_no_poisoned_state(
    vit: nn.Module, source: ImageSource, tmp_path: Path, change: dict[str, Any]
) -> None:
    state = tmp_path / "state.pt"
    with pytest.raises(
        TrainingDivergedError, match=r"not finite at iteration \d; .* Lower the learning rates"
    ):
        train(vit, source, replace(SETTINGS, **change), state=state, save_every=1)
    if state.exists():
        network = torch.load(state, weights_only=True)["network"]
        assert all(torch.isfinite(value).all() for value in network.values())


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (torch.rand(3, 3, 32, 32), r"iteration 0 gave 3 images; 2 pairs need 4"),
        (255 * torch.rand(4, 3, 32, 32), r"iteration 0: images must lie in \[0, 1\].*divide by 255"),
        (torch.zeros(4, 3, 32, 32, dtype=torch.uint8), r"iteration 0: images must be floating point"),
        (torch.rand(4, 3, 48, 32), r"images are 48x32 px, but this model takes 32x32 only"),
    ],
)
def test_images_that_cannot_be_used(vit: nn.Module, images: Tensor, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        train(vit, lambda _: images)


def test_a_state_of_another_model_or_other_settings_is_refused(
    vit: nn.Module, make_vit: Callable[..., nn.Module], source: ImageSource, tmp_path: Path
) -> None:
    state = tmp_path / "state.pt"
    train(vit, source, replace(SETTINGS, iterations=1), state=state)
    before = state.read_bytes()
    belongs = r"state\.pt belongs to another model or other settings; delete it to start anew, or choose another file"
    with pytest.raises(CheckpointError, match=belongs):
        train(make_vit(seed=1), source, state=state)
    for change in ({"pairs": 3}, {"seed": 1}, {"search": SearchSettings(price=1.0)}, {"blocks": (0, 2)}):
        with pytest.raises(CheckpointError, match=belongs):
            train(vit, source, replace(SETTINGS, **change), state=state)
    assert state.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a state", None])
def test_a_damaged_state_is_refused(
    vit: nn.Module, source: ImageSource, tmp_path: Path, content: bytes | None
) -> None:
    state = tmp_path / "state.pt"
    if content is None:
        train(vit, source, replace(SETTINGS, iterations=1), state=state)
        content = state.read_bytes()[:-500]
    state.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"state\.pt is not a complete training state; delete it to start anew"
    ):
        train(vit, source, state=state)
    assert state.read_bytes() == content


def test_a_file_of_something_else_is_refused(vit: nn.Module, source: ImageSource, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    for other in (torch.zeros(3), {"epoch": 1}):
        torch.save(other, state)
        with pytest.raises(CheckpointError, match=r"state\.pt belongs to another model or other settings"):
            train(vit, source, state=state)


@pytest.mark.parametrize("name", ["iterations", "pairs", "depth", "label_steps"])
def test_settings_that_cannot_be_used(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} is 0; it must be at least 1"):
        MetaTrainingSettings(**{name: 0})


def test_presets() -> None:
    """Specification, sections 3.4 and 12."""
    published = MetaTrainingSettings.preset("published")
    search = published.search
    assert (published.iterations, published.pairs, published.blocks, published.depth) == (
        7000,
        8,
        (7, 8, 9),
        3,
    )
    assert (published.learning_rate, published.schedule, published.label_steps) == (1e-4, 20_000, 4)
    assert (published.loss_scale, published.reach_last, published.replay_steps) == (0.1, False, 0)
    assert (search.inner_steps, search.inner_rate, search.outer_steps, search.outer_rate) == (
        5,
        1e-3,
        10,
        0.1,
    )
    assert search.price * published.pairs == 1
    assert search.inner == "first_order"
    corrected = MetaTrainingSettings.preset("corrected", pairs=3)
    assert corrected == MetaTrainingSettings(pairs=3)
    assert corrected.reach_last
    with pytest.raises(UnknownNameError, match=r"unknown preset 'corected'; did you mean 'corrected'\?"):
        MetaTrainingSettings.preset("corected")


def test_the_published_schedule_ends_half_way(vit: nn.Module, source: ImageSource) -> None:
    run = MetaTraining(vit, source, replace(SETTINGS, schedule=20_000, learning_rate=1e-4))
    assert run._rate(0) == pytest.approx(1e-4)
    assert run._rate(10_000) == pytest.approx(5e-5)


def test_models_that_pool_patches_are_trained_without_the_short_cut(
    make_vit: Callable[..., nn.Module], source: ImageSource
) -> None:
    model = make_vit(global_pool="avg", class_token=False)
    with pytest.raises(InvalidInputError, match="leave pooled_only=False"):
        train(model, source)
    trained = train(model, source, replace(SETTINGS, pooled_only=False, iterations=1))
    assert trained.base == fingerprint(model)


def test_the_short_cut_gives_the_same_labels(vit: nn.Module, source: ImageSource) -> None:
    rows = [MetaTraining(vit, source, replace(SETTINGS, pooled_only=p)).step(0) for p in (True, False)]
    for name in ("kl", "kl_start", "label_density", "bce"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-3), name
