"""What all baselines share: names, inputs they refuse, files; the mean shape and the oracles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bright_spines import bright_spines, mean_distance

from workbench.data.vertebrae import flip_corners
from workbench.errors import CheckpointError, InvalidInputError, UnknownNameError
from workbench.spine import baselines
from workbench.spine.baselines import MeanShape, ModeProjection, TranslatedMeanShape
from workbench.spine.samples import Samples


@pytest.fixture(scope="module")
def spines() -> Samples:
    return bright_spines(6)


def test_names_are_those_of_the_classes() -> None:
    assert list(baselines.BASELINES) == ["mean-shape", "ridge", "direct", "heatmap"]
    assert all(kind.name == name for name, kind in baselines.BASELINES.items())
    assert all(name.startswith("oracle-") for name in baselines.ORACLES)
    assert not baselines.ORACLES.keys() & baselines.BASELINES.keys()


def test_an_unknown_name_says_the_nearest(spines: Samples) -> None:
    with pytest.raises(UnknownNameError, match="unknown baseline 'heat-map'; did you mean 'heatmap'"):
        baselines.fit("heat-map", spines)


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_missing_vertebrae_and_no_samples_are_refused(name: str, spines: Samples) -> None:
    corners = spines.corners.clone()
    corners[1, 16] = torch.nan
    with pytest.raises(InvalidInputError, match="1 of 6 samples lack vertebrae"):
        baselines.fit(name, Samples(spines.images, corners, spines.sizes), progress=False)
    with pytest.raises(InvalidInputError, match="no samples to fit on"):
        baselines.fit(name, spines[:0], progress=False)


@pytest.mark.parametrize("images", [torch.zeros(1, 704, 384), torch.zeros(1, 384, 704, dtype=torch.uint8)])
def test_what_is_no_frame_is_refused(images: torch.Tensor, spines: Samples) -> None:
    with pytest.raises(InvalidInputError, match=r"expected a uint8 tensor \(n, 704, 384\)"):
        MeanShape.fit(spines).predict_frames(images)


def test_the_mean_shape_is_its_own_mirror_image(spines: Samples) -> None:
    mean = baselines.fit("mean-shape", spines).predict_frames(spines.images[:2])
    assert mean.shape == (2, 17, 4, 2)
    np.testing.assert_allclose(flip_corners(mean, 384), mean, atol=1e-9)


def test_oracles_do_better_the_more_they_are_told(spines: Samples) -> None:
    truth = spines.corners.double().numpy()
    told = [
        MeanShape.fit(spines).predict_frames(spines.images),
        TranslatedMeanShape.fit(spines).predict_knowing(truth),
        *(ModeProjection.fit(spines, modes).predict_knowing(truth) for modes in (3, 11)),
    ]
    distances = [mean_distance(found, spines) for found in told]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3  # six shapes and their mirror images span eleven modes
    with pytest.raises(InvalidInputError, match="12 components asked for; these shapes have 1 to 11"):
        ModeProjection.fit(spines, 12)


def test_files_come_back_by_class_and_by_card(spines: Samples, tmp_path: Path) -> None:
    mean = MeanShape.fit(spines)
    path = mean.save(
        tmp_path / "mean", command="workbench benchmark spine", metrics={"nmse": 0.005}, seconds=1.0
    )
    for loaded in (MeanShape.load(path), baselines.load(tmp_path / "mean")):
        np.testing.assert_array_equal(
            loaded.predict_frames(spines.images), mean.predict_frames(spines.images)
        )
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["kind"] == "spine-baseline"
    assert card["metrics"] == {"nmse": 0.005}


def test_files_of_other_baselines_are_refused(spines: Samples, tmp_path: Path) -> None:
    path = MeanShape.fit(spines).save(tmp_path / "mean.safetensors")
    with pytest.raises(CheckpointError, match="holds the baseline 'mean-shape', not 'direct'"):
        baselines.DirectRegression.load(path)
    card = path.with_suffix(".json")
    card.write_text(card.read_text().replace("mean-shape", "heatmap"))
    with pytest.raises(CheckpointError, match="does not fit its own card"):
        baselines.load(path)
    card.write_text(card.read_text().replace("heatmap", "median-shape"))
    with pytest.raises(UnknownNameError, match="did you mean 'mean-shape'"):
        baselines.load(path)
    with pytest.raises(CheckpointError, match="no card at"):
        baselines.load(tmp_path / "none")
