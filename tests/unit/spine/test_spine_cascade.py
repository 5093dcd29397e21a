"""The detector: any image in, points in its own pixels out; mirrored and larger images; files and cards."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cascade import lively, settings

from workbench.checkpoints import Card, versions
from workbench.data.phantom import Phantom
from workbench.data.radiographs import Radiograph, from_array
from workbench.data.vertebrae import flip_corners
from workbench.errors import CheckpointError, InvalidInputError, UnknownNameError
from workbench.spine.cascade import SpineCascade
from workbench.spine.frames import FRAME, Frame
from workbench.spine.network import CascadeNetwork
from workbench.spine.samples import Samples
from workbench.spine.training import train_cascade

CARD = Card("tiny", "spine", "for a test", "workbench train spine", 0, {}, versions=versions())


@pytest.fixture(scope="module")
def image(phantoms: list[Phantom]) -> np.ndarray:
    """A phantom of an even width: its padding is as wide on the left as on the right."""
    pixels = phantoms[0].image
    return pixels[:, : pixels.shape[1] // 2 * 2]


@pytest.fixture
def saved(cascade: SpineCascade, tmp_path: Path) -> Path:
    return cascade.save(tmp_path / "tiny.safetensors", CARD)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width))


@pytest.mark.parametrize("size", [(300, 120), (1500, 700), (704, 384), (200, 400), (64, 64)])
def test_any_size_gives_points_in_its_own_pixels(cascade: SpineCascade, size: tuple[int, int]) -> None:
    prediction = cascade.predict(noise(*size))
    assert prediction.size == size
    assert prediction.corners.shape == (17, 4, 2)
    assert prediction.corners.dtype == np.float64
    start = Frame.of(size).inverse(cascade.network.trace(framed(noise(*size)))[0].centres[0].numpy())
    np.testing.assert_allclose(prediction.stages[0].centres, start, atol=1e-3)


def framed(image: np.ndarray) -> Any:
    from workbench.spine.views import Pyramid

    values = Frame.of(image.shape).image(image)  # type: ignore[arg-type]
    return Pyramid.of((values * 255).round().to(torch.uint8)[None])


def test_arrays_of_every_kind_are_the_same_image(cascade: SpineCascade, image: np.ndarray) -> None:
    expected = cascade.predict(image, flip_average=False).corners
    greys = image.astype(np.float32) / 255
    kinds: list[Any] = [
        greys,
        greys.astype(np.float64),
        greys[None],
        torch.from_numpy(image),
        torch.from_numpy(greys).expand(3, -1, -1),
        np.repeat(image[None], 3, 0),
        from_array(image),
    ]
    for kind in kinds:
        np.testing.assert_allclose(cascade.predict(kind, flip_average=False).corners, expected, atol=1e-2)


def test_every_stage_is_kept(cascade: SpineCascade, image: np.ndarray) -> None:
    prediction = cascade.predict(image)
    names = [stage.name for stage in prediction.stages]
    assert names == ["start", *(f"centres {i}" for i in range(1, 5)), *(f"corners {i}" for i in range(1, 4))]
    assert prediction.stages[0].clamped == ()
    assert prediction.model == "tiny"
    model = cascade.shape_model
    frame = Frame.of(image.shape)
    for stage in prediction.stages[:5]:
        shape = (frame.forward(stage.centres) / [384, 704]).reshape(-1)
        assert stage.coefficients is not None
        np.testing.assert_allclose(model.project(shape), stage.coefficients, atol=1e-5)
        np.testing.assert_allclose(model.reconstruct(stage.coefficients), shape, atol=2e-6)


def test_modes_at_their_limits_are_named(trained: CascadeNetwork, image: np.ndarray) -> None:
    wild = SpineCascade(lively(trained, strength=5))
    prediction = wild.predict(image, flip_average=False)
    limits = 3 * np.sqrt(wild.shape_model.variances)
    for stage in prediction.stages[1:5]:
        assert stage.coefficients is not None
        assert (np.abs(stage.coefficients) <= limits * (1 + 1e-3)).all()
        assert set(stage.clamped) == set(
            np.flatnonzero(np.abs(stage.coefficients) >= 0.999 * limits).tolist()
        )
    assert all(len(stage.clamped) >= 4 for stage in prediction.stages[1:5])


@pytest.mark.parametrize("factor", [2, 3])
def test_a_larger_image_gives_points_as_much_larger(
    trained: CascadeNetwork, image: np.ndarray, factor: int
) -> None:
    detector = SpineCascade(trained)
    small = detector.predict(image)
    large = detector.predict(image.repeat(factor, 0).repeat(factor, 1))
    for one, other in zip(small.stages, large.stages, strict=True):
        exact = one.step == "start"  # later the smoothing of the larger image is seen
        reduced = (other.corners + 0.5) / factor - 0.5
        np.testing.assert_allclose(reduced, one.corners, atol=1e-9 if exact else 1.5)
        assert abs(reduced - one.corners).mean() < 0.25


def test_a_film_that_was_reduced_gives_points_of_the_original(
    cascade: SpineCascade, image: np.ndarray
) -> None:
    whole = from_array(image)
    height, width = image.shape
    reduced = Radiograph(whole.pixels, (0.1, 0.1), False, "film.png", 0.25, (4 * height, 4 * width))
    prediction = cascade.predict(reduced)
    assert prediction.size == (4 * height, 4 * width)
    assert prediction.spacing_mm == (0.1, 0.1)
    np.testing.assert_allclose(
        (prediction.corners + 0.5) / 4 - 0.5, cascade.predict(whole).corners, atol=1e-9
    )
    centres = prediction.stages[4].centres
    refined = cascade.refine(reduced, centres)
    np.testing.assert_allclose(
        (refined + 0.5) / 4 - 0.5, cascade.refine(whole, (centres + 0.5) / 4 - 0.5), atol=1e-2
    )


def test_mirrored_images_give_mirrored_points(cascade: SpineCascade, image: np.ndarray) -> None:
    """Exactly so where the prediction is averaged with that of the mirrored image."""
    here, there = cascade.predict(image), cascade.predict(np.ascontiguousarray(image[:, ::-1]))
    for one, other in zip(here.stages, there.stages, strict=True):
        mirrored = flip_corners(other.corners, image.shape[1])
        np.testing.assert_allclose(mirrored / 704, one.corners / 704, atol=1e-5)
    alone = cascade.predict(image, flip_average=False).corners
    assert np.abs(alone - here.corners).max() > 0.1


def test_images_that_disagree_with_their_mirror_image_are_flagged(
    trained: CascadeNetwork, image: np.ndarray
) -> None:
    wild = SpineCascade(lively(trained, strength=2))
    flags = {flag.name: flag for flag in wild.predict(image).flags}
    assert "unsteady" in flags
    assert "The image and its mirror image disagree about" in flags["unsteady"].text
    assert "unsteady" not in [
        flag.name for flag in SpineCascade(lively(trained, strength=0)).predict(image).flags
    ]


def test_frames_are_predicted_as_images_are(cascade: SpineCascade, samples: Samples) -> None:
    corners = cascade.predict_frames(samples.images)
    assert corners.shape == (8, 17, 4, 2)
    one = cascade.predict(samples.images[3].numpy(), flip_average=False)
    np.testing.assert_allclose(corners[3], one.corners, atol=1e-2)
    averaged = cascade.trace_frames(samples.images[3:4], flip_average=True)
    for stage, kept in zip(averaged, cascade.predict(samples.images[3].numpy()).stages, strict=True):
        np.testing.assert_allclose(stage[0], kept.corners, atol=1e-2)


def test_the_batch_does_not_matter(
    cascade: SpineCascade, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = cascade.predict_frames(samples.images)
    monkeypatch.setattr("workbench.spine.cascade._BATCH", 3)
    in_parts = cascade.predict_frames(samples.images)
    np.testing.assert_allclose(in_parts / 704, together / 704, atol=1e-5)


def test_no_truth_is_asked_for_and_none_is_used(
    cascade: SpineCascade, phantoms: list[Phantom], image: np.ndarray
) -> None:
    assert set(inspect.signature(cascade.predict).parameters) == {"image", "flip_average", "start"}
    assert inspect.signature(cascade.predict).parameters["start"].default is None
    assert set(inspect.signature(cascade.predict_frames).parameters) == {"images", "flip_average"}
    first, second = (cascade.predict(drawn.image).stages[0] for drawn in phantoms[:2])
    here, there = Frame.of(phantoms[0].image.shape), Frame.of(phantoms[1].image.shape)
    np.testing.assert_allclose(here.forward(first.centres), there.forward(second.centres), atol=1e-9)
    again = cascade.predict(image.copy())
    np.testing.assert_array_equal(again.corners, cascade.predict(image).corners)


def test_refining_from_the_found_centres_gives_the_found_corners(
    cascade: SpineCascade, image: np.ndarray
) -> None:
    prediction = cascade.predict(image, flip_average=False)
    corners = cascade.refine(image, prediction.stages[4].centres)
    np.testing.assert_allclose(corners, prediction.corners, atol=1e-2)


def test_only_the_levels_asked_for_are_refined(cascade: SpineCascade, image: np.ndarray) -> None:
    centres = cascade.predict(image).stages[4].centres
    every = cascade.refine(image, centres)
    some = cascade.refine(image, centres, levels=[0, 9])
    np.testing.assert_array_equal(some[[0, 9]], every[[0, 9]])
    assert np.isnan(np.delete(some, [0, 9], axis=0)).all()
    assert np.isnan(cascade.refine(image, centres, levels=[])).all()
    moved = centres.copy()
    moved[9] += [6, 0]
    assert np.abs(cascade.refine(image, moved, [9])[9] - every[9]).max() > 1


@pytest.mark.parametrize("centres", [np.zeros((16, 2)), np.full((17, 2), np.nan), np.zeros((17, 4, 2))])
def test_centres_that_cannot_be_refined(
    cascade: SpineCascade, image: np.ndarray, centres: np.ndarray
) -> None:
    with pytest.raises(InvalidInputError, match=r"centres must be 17 finite points \(17, 2\)"):
        cascade.refine(image, centres)


@pytest.mark.parametrize("level", [-1, 17])
def test_levels_that_are_none(cascade: SpineCascade, image: np.ndarray, level: int) -> None:
    with pytest.raises(InvalidInputError, match=rf"level {level} is none; levels are 0 \(T1\) to 16 \(L5\)"):
        cascade.refine(image, np.zeros((17, 2)), [3, level])


def test_without_a_second_step_nothing_is_refined(samples: Samples, image: np.ndarray) -> None:
    one_step = settings(points="corners", centre_stages=1)
    detector = SpineCascade(train_cascade(samples, one_step, progress=False))
    centres = detector.predict(image).centres
    with pytest.raises(InvalidInputError, match="no second step"):
        detector.refine(image, centres)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((704, 384)), "it has the same value"),
        (np.full((704, 384), np.nan), "NaN"),
        (np.zeros((704, 384, 3), np.uint8), "move the channels"),
        (noise(704, 384) * 300, r"\[0, 1\]|range"),
        (np.zeros((2, 2, 704, 384)), "a radiograph must have shape"),
        (noise(20, 10), "64"),
        ("spine.png", "read_radiograph"),
    ],
)
def test_what_is_no_radiograph_is_refused(cascade: SpineCascade, wrong: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        cascade.predict(wrong)


def test_files_give_the_detector_back(cascade: SpineCascade, saved: Path, samples: Samples) -> None:
    again = SpineCascade.load(saved)
    assert again.name == "tiny"
    assert again.card is not None
    assert again.card.settings["centre_stages"] == 4
    assert again.network.settings == cascade.network.settings
    assert torch.equal(again.network.shape.basis, cascade.network.shape.basis)
    assert torch.equal(again.network.means, cascade.network.means)
    found, kept = again.predict_frames(samples.images), cascade.predict_frames(samples.images)
    assert np.abs(found - kept).max() < 1
    assert np.abs(found - kept).mean() < 0.1
    assert repr(again) == "SpineCascade(tiny: 4 + 3 stages)"


def test_weights_are_saved_in_half_precision_and_shape_models_in_single(cascade: SpineCascade) -> None:
    tensors = cascade.tensors()
    assert tensors["centre_stages.1.network.head.0.weight"].dtype == torch.float16
    assert tensors["shape.basis"].dtype == torch.float32
    assert tensors["centre_stages.1.scale"].dtype == torch.float32


def test_the_shape_model_is_that_of_the_start(cascade: SpineCascade, samples: Samples) -> None:
    model = cascade.shape_model
    assert model.mean.shape == (34,)
    np.testing.assert_allclose(model.basis.T @ model.basis, np.eye(model.components), atol=1e-5)
    shapes = (samples.corners.mean(2).double().numpy() / [FRAME[1], FRAME[0]]).reshape(8, -1)
    assert np.abs(model.reconstruct(model.project(shapes)) - shapes).max() < 0.05


def rewrite_card(path: Path, **changes: Any) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}), encoding="utf-8")


def test_a_card_of_another_kind_is_refused(saved: Path) -> None:
    rewrite_card(saved, kind="hypernetwork")
    with pytest.raises(CheckpointError, match="holds a hypernetwork, not a spine"):
        SpineCascade.load(saved)


def test_a_missing_card_is_named(saved: Path) -> None:
    saved.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=r"no card at .*tiny\.json"):
        SpineCascade.load(saved)


@pytest.mark.parametrize(
    "change",
    [{"batches": 3}, {"constrain": "shapes"}, {"centre_stages": "four"}, {"batch": 0}, {"calibration": None}],
)
def test_cards_with_settings_that_are_none_are_refused(saved: Path, change: dict[str, Any]) -> None:
    settings = json.loads(saved.with_suffix(".json").read_text())["settings"]
    rewrite_card(saved, settings={**settings, **change})
    with pytest.raises(CheckpointError, match="settings that are none"):
        SpineCascade.load(saved)


def test_a_card_that_does_not_fit_is_refused(saved: Path) -> None:
    settings = json.loads(saved.with_suffix(".json").read_text())["settings"]
    rewrite_card(saved, settings={**settings, "centre_stages": 6})
    with pytest.raises(CheckpointError, match="not a cascade with such settings"):
        SpineCascade.load(saved)


def test_damaged_and_missing_files_are_refused(saved: Path, tmp_path: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        SpineCascade.load(saved)
    with pytest.raises(CheckpointError, match="no card at"):
        SpineCascade.load(tmp_path / "none.safetensors")
    with pytest.raises(UnknownNameError, match="unknown spine 'fantom'"):
        SpineCascade.load("fantom")


def test_what_is_saved_says_its_settings(cascade: SpineCascade, tmp_path: Path) -> None:
    path = cascade.save(tmp_path / "other", replace(CARD, name="other", settings={"old": 1}))
    assert path.name == "other.safetensors"
    assert json.loads(path.with_suffix(".json").read_text())["settings"] == cascade.network.settings.to_dict()


def test_a_start_by_hand_leaves_out_the_first_stage(cascade: SpineCascade, image: np.ndarray) -> None:
    whole = cascade.predict(image)
    first = next(stage for stage in whole.stages if stage.step == "centres")
    started = cascade.predict(image, start=first.centres)
    names = [stage.name for stage in started.stages]
    assert names == ["start", *[stage.name for stage in whole.stages[2:]]]
    np.testing.assert_allclose(started.stages[0].centres, first.centres, atol=1e-3)


def test_a_start_that_is_not_seventeen_points_is_refused(cascade: SpineCascade, image: np.ndarray) -> None:
    with pytest.raises(
        InvalidInputError, match=r"centres must be 17 finite points \(17, 2\), these are \(3, 2\)"
    ):
        cascade.predict(image, start=np.zeros((3, 2)))
    with pytest.raises(InvalidInputError, match="some of these are not finite; give those that"):
        cascade.predict(image, start=np.full((17, 2), np.nan))
