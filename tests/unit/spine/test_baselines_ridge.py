"""The ridge cascade: its features, its closed form, and that it finds spines."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from bright_spines import bright_spines, mean_distance

from workbench.spine import baselines
from workbench.spine.baselines import MeanShape, RidgeCascade
from workbench.spine.baselines._closed_form import PENALTIES, Ridge
from workbench.spine.baselines._ridge_fitting import _reinflated
from workbench.spine.baselines._vertebra_shapes import VertebraShapes
from workbench.spine.baselines.gradients import BINS, CHANNELS, POINT_FEATURES, FeatureMaps
from workbench.spine.samples import Samples


@pytest.fixture(scope="module")
def spines() -> Samples:
    return bright_spines(7)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ridge") / "stages.csv"


@pytest.fixture(scope="module")
def ridge(spines: Samples, log: Path) -> RidgeCascade:
    return RidgeCascade.fit(spines, seed=0, progress=False, log=log)


def test_it_finds_the_spines_it_was_fitted_on_and_something_of_others(
    ridge: RidgeCascade, spines: Samples
) -> None:
    assert mean_distance(ridge.predict_frames(spines.images[:2]), spines[:2]) < 2
    others = bright_spines(2, seed=1)
    mean = MeanShape.fit(spines).predict_frames(others.images)
    assert mean_distance(ridge.predict_frames(others.images), others) < mean_distance(mean, others)


def test_the_log_has_a_row_a_stage_and_errors_fall(ridge: RidgeCascade, log: Path) -> None:
    with log.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["stage"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert float(rows[3]["nmse_held_out"]) < float(rows[0]["nmse_held_out"])


def test_a_file_gives_the_same_corners(ridge: RidgeCascade, spines: Samples, tmp_path: Path) -> None:
    loaded = baselines.load(ridge.save(tmp_path / "ridge"))
    images = spines.images[:2]
    np.testing.assert_array_equal(loaded.predict_frames(images), ridge.predict_frames(images))


def test_images_are_predicted_one_by_one(ridge: RidgeCascade, spines: Samples) -> None:
    both = ridge.predict_frames(spines.images[:2])
    np.testing.assert_array_equal(ridge.predict_frames(spines.images[1:2])[0], both[1])
    assert ridge.predict_frames(spines.images[:0]).shape == (0, 17, 4, 2)


def test_the_same_seed_gives_the_same_maps(spines: Samples) -> None:
    few = spines[:2]
    first, second, other = (RidgeCascade.fit(few, seed=seed, progress=False).tensors() for seed in (0, 0, 1))
    assert all(first[name].equal(second[name]) for name in first)
    assert not first["centres.0.weight"].equal(other["centres.0.weight"])


@pytest.mark.parametrize(("rows", "columns"), [(60, 8), (20, 40)])
def test_the_closed_form_is_the_minimum(rows: int, columns: int) -> None:
    """Primal and dual: no small change of the weights lowers the penalised error."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 3, (rows, columns)), rng.normal(size=(rows, 2))
    found = Ridge.fit(x, y, fitted=rows)
    spread = x.std(0)

    def cost(weight: np.ndarray) -> float:
        error = ((x - x.mean(0)) @ weight - (y - y.mean(0))) ** 2
        return float(error.sum() + PENALTIES[-1] * rows * ((weight * spread[:, None]) ** 2).sum())

    best = cost(found.weight.astype(np.float64))
    for _ in range(5):
        assert cost(found.weight + 1e-3 * rng.normal(size=found.weight.shape)) > best
    np.testing.assert_allclose(found(x).mean(0), y.mean(0), atol=1e-5)


def test_held_out_rows_choose_the_penalty() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 10))
    clear, noise = x @ rng.normal(size=(10, 1)), rng.normal(size=(80, 1))
    firm, free = Ridge.fit(x, noise, fitted=60), Ridge.fit(x, clear, fitted=60)
    assert np.abs(free(x) - clear).mean() < 0.05
    np.testing.assert_array_equal(firm.weight, Ridge.fit(x[:60], noise[:60], fitted=60).weight)  # the largest


def test_features_are_seven_channels_and_ignore_brightness_and_contrast() -> None:
    image = np.random.default_rng(0).integers(60, 120, (704, 384)).astype(np.uint8)
    points = np.array([[100.0, 200.0], [250.5, 600.25]])
    for step in (3.0, 13.0, 44.0):
        plain = FeatureMaps.of(image, step).at(points)
        assert plain.shape == (2, POINT_FEATURES)
        assert (
            np.corrcoef(plain.ravel(), FeatureMaps.of(2 * image + 10, step).at(points).ravel())[0, 1] > 0.98
        )


def test_features_of_a_turned_edge_look_the_same_from_a_turned_frame() -> None:
    y, x = np.mgrid[:704, :384] - np.array([350.0, 190.0])[:, None, None]
    angle = 0.4
    flat = (125 + 15 * np.clip(y, -5, 5)).astype(np.uint8)
    turned = (125 + 15 * np.clip(np.cos(angle) * y - np.sin(angle) * x, -5, 5)).astype(np.uint8)
    at = np.array([[190.0, 350.0]])
    upright = FeatureMaps.of(flat, 6.0).at(at, np.zeros(1)).reshape(-1, CHANNELS)[:, :BINS]
    followed = FeatureMaps.of(turned, 6.0).at(at, np.array([angle])).reshape(-1, CHANNELS)[:, :BINS]
    assert upright.sum(0).argmax() == followed.sum(0).argmax() == BINS // 2
    assert np.corrcoef(upright.ravel(), followed.ravel())[0, 1] > 0.9


def test_flat_and_outside_areas_have_no_features() -> None:
    seen = FeatureMaps.of(np.full((704, 384), 90, np.uint8), 6.0).at(
        np.array([[-500.0, 9000.0], [50.0, 60.0]])
    )
    np.testing.assert_allclose(seen, 0, atol=1e-3)


def test_vertebra_shapes_keep_translations_and_clamp_shapes() -> None:
    local = np.random.default_rng(0).normal(size=(30, 17, 4, 2))
    shapes = VertebraShapes.fit(local)
    np.testing.assert_allclose(shapes.basis.T @ shapes.basis, np.eye(shapes.modes), atol=1e-10)
    moved = shapes.mean + np.array([5.0, -2.0])
    np.testing.assert_allclose(shapes.reconstruct(shapes.project(moved)), moved, atol=1e-9)
    far = shapes.clamp(np.full((17, shapes.modes), 1e3))
    assert (far[:, :2] == 1e3).all()
    np.testing.assert_allclose(far[0, 2:], 3 * np.sqrt(shapes.variances))


def test_reinflated_errors_are_as_large_as_held_out_ones() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((4000, 1, 2))
    sizes = np.where(np.arange(4000) < 2000, 0.2, 1.0)[:, None, None]
    state = sizes * rng.normal(size=truth.shape)
    spread = _reinflated(state, truth, 2000, rng).std((1, 2), ddof=0, mean=np.zeros((4000, 1, 1)))
    ratio = np.sqrt((spread[:2000] ** 2).mean() / (spread[2000:] ** 2).mean())
    assert 0.85 < ratio < 1.15
    np.testing.assert_array_equal(_reinflated(state, truth, 4000, rng), state)
