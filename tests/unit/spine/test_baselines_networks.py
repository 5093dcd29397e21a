"""Direct regression and the heat map: targets and their way back, training, files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from bright_spines import bright_spines, mean_distance

from workbench.errors import CheckpointError, InvalidInputError, TrainingDivergedError
from workbench.spine import baselines
from workbench.spine.baselines import DirectRegression, HeatmapDetector, MeanShape
from workbench.spine.baselines._heatmap_network import Maps
from workbench.spine.baselines._heatmap_targets import decode, detection_loss, encode
from workbench.spine.baselines._training import Plan, look, train
from workbench.spine.baselines.heatmap import HeatmapSettings
from workbench.spine.samples import Samples

SMALL = HeatmapSettings(size=(352, 192), widths=(16, 16, 24, 32))
GRIDS = [(88, 48), (256, 128)]


@pytest.fixture(scope="module")
def spines() -> Samples:
    return bright_spines(6)


@pytest.fixture(scope="module")
def heatmap(spines: Samples) -> HeatmapDetector:
    return HeatmapDetector.fit(spines[:3], epochs=25, progress=False, settings=SMALL)


@pytest.fixture(scope="module")
def direct(spines: Samples) -> DirectRegression:
    return DirectRegression.fit(spines[:2], epochs=60, progress=False)


def perfect(samples: Samples, grid: tuple[int, int]) -> Maps:
    """Maps of a network that knows: the targets, spread over cells."""
    targets = encode(samples.corners, grid)
    count, (height, width) = len(samples), grid
    offset, vectors = torch.zeros(count, 2, height, width), torch.zeros(count, 8, height, width)
    for n in range(count):
        x, y = targets.cells[n].unbind(1)
        offset[n, :, y, x], vectors[n, :, y, x] = targets.offset[n].T, targets.vectors[n].T
    return Maps(torch.logit(targets.heat.clamp(1e-6, 1 - 1e-6)), offset, vectors)


@pytest.mark.parametrize("grid", GRIDS)
def test_perfect_maps_give_the_corners_back_and_cost_next_to_nothing(
    spines: Samples, grid: tuple[int, int]
) -> None:
    maps = perfect(spines, grid)
    torch.testing.assert_close(decode(maps), spines.corners, atol=1e-3, rtol=0)
    worse = Maps(maps.heat, maps.offset + 0.5, maps.vectors)
    assert detection_loss(worse, spines.corners) > detection_loss(maps, spines.corners) + 0.49


def test_targets_peak_once_a_vertebra_and_leave_out_what_is_outside(spines: Samples) -> None:
    targets = encode(spines.corners, (88, 48))
    assert ((targets.heat == 1).sum((1, 2)) == 17).all()
    gone = spines.corners.clone()
    gone[:, 16, :, 1] += 500
    found = encode(gone, (88, 48))
    assert (~found.inside).sum(1).tolist() == [1] * 6
    assert ((found.heat == 1).sum((1, 2)) == 16).all()


def test_training_lowers_the_heat_map_networks_loss(heatmap: HeatmapDetector, spines: Samples) -> None:
    torch.manual_seed(0)
    seen = next(look(spines.images[:3], SMALL.size))
    with torch.no_grad():
        before, after = (
            detection_loss(detector.network(seen), spines.corners[:3])
            for detector in (HeatmapDetector.untrained(SMALL), heatmap)
        )
    assert after < 0.5 * before
    assert (np.diff(heatmap.predict_frames(spines.images[:1]).mean(2)[..., 1], axis=1) > -20).all()


def test_direct_regression_does_better_than_the_mean(direct: DirectRegression, spines: Samples) -> None:
    few = spines[:2]
    mean = MeanShape.fit(few).predict_frames(few.images)
    assert mean_distance(direct.predict_frames(few.images), few) < mean_distance(mean, few)


@pytest.mark.parametrize("kind", ["heatmap", "direct"])
def test_a_file_gives_the_same_corners(
    kind: str, request: pytest.FixtureRequest, spines: Samples, tmp_path: Path
) -> None:
    detector = request.getfixturevalue(kind)
    loaded = baselines.load(detector.save(tmp_path / kind))
    images = spines.images[:2]
    np.testing.assert_array_equal(loaded.predict_frames(images), detector.predict_frames(images))
    with pytest.raises(CheckpointError, match="holds the baseline"):
        MeanShape.load(tmp_path / kind)


@pytest.mark.parametrize("kind", ["heatmap", "direct"])
def test_batches_and_single_images_agree(kind: str, request: pytest.FixtureRequest, spines: Samples) -> None:
    detector = request.getfixturevalue(kind)
    both = detector.predict_frames(spines.images[:3])
    np.testing.assert_allclose(detector.predict_frames(spines.images[2:3])[0], both[2], atol=1e-2)


@pytest.mark.parametrize("name", ["heatmap", "direct"])
def test_the_same_seed_gives_the_same_weights(name: str, spines: Samples, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    log = tmp_path / "log.csv"
    first, second = (
        baselines.fit(name, spines[:2], seed=3, epochs=2, progress=False, log=log).tensors() for _ in range(2)
    )
    assert all(first[part].equal(second[part]) for part in first)
    assert torch.get_rng_state().equal(state)
    with log.open() as file:
        assert {"step", "loss"} <= next(csv.DictReader(file)).keys()


def test_a_time_is_kept(spines: Samples) -> None:
    detector = HeatmapDetector.fit(spines[:2], minutes=0.005, progress=False, settings=SMALL)
    assert detector.predict_frames(spines.images[:1]).shape == (1, 17, 4, 2)


@pytest.mark.parametrize("name", ["heatmap", "direct"])
def test_times_that_cannot_be_are_refused(name: str, spines: Samples) -> None:
    with pytest.raises(InvalidInputError, match="give one"):
        baselines.fit(name, spines, minutes=1, epochs=2)
    with pytest.raises(InvalidInputError, match="minutes is -1; it must be positive"):
        baselines.fit(name, spines, minutes=-1)


def test_training_that_diverges_says_so(spines: Samples) -> None:
    def never(found: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
        return found.mean() * torch.nan

    with pytest.raises(TrainingDivergedError, match="direct: the loss is nan at step 0"):
        train(
            "direct",
            lambda: torch.nn.Conv2d(1, 1, 1),
            (44, 24),
            never,
            spines[:2],
            Plan(epochs=1),
            progress=False,
        )


def test_even_sides_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="vector_side is 4"):
        HeatmapSettings(vector_side=4)


@pytest.mark.parametrize("size", [(350, 192), (0, 16), (16, 16)])
def test_sizes_the_grid_cannot_have_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match="size is"):
        HeatmapSettings(size=size)


def test_the_published_size_runs_untrained() -> None:
    published = HeatmapSettings.published()
    assert (published.size, published.blocks) == ((1024, 512), (3, 4, 6, 3))
    detector = HeatmapDetector.untrained(HeatmapSettings(size=(128, 64), widths=(8, 8, 8, 8), vector_side=7))
    assert detector.predict_frames(torch.zeros(1, 704, 384, dtype=torch.uint8)).shape == (1, 17, 4, 2)
