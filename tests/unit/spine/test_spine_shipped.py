"""The shipped cascade: what it finds on phantoms it never saw, stage by stage; invariants 18, 20 and 23."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workbench.checkpoints import read_card, shipped_path
from workbench.data.phantom import Phantom, phantom
from workbench.data.vertebrae import flip_corners
from workbench.spine import SpineCascade, SpinePrediction, evaluate
from workbench.spine.metrics import nmse
from workbench.spine.quality import gate_rate

COUNT = 16


@pytest.fixture(scope="module")
def shipped() -> SpineCascade:
    return SpineCascade.load("phantom")


@pytest.fixture(scope="module")
def films() -> list[Phantom]:
    return [phantom(index, set_name="shipped") for index in range(COUNT)]


@pytest.fixture(scope="module")
def predictions(shipped: SpineCascade, films: list[Phantom]) -> list[SpinePrediction]:
    return [shipped.predict(film.image) for film in films]


def sizes(films: list[Phantom]) -> list[tuple[int, int]]:
    return [(film.image.shape[0], film.image.shape[1]) for film in films]


def test_the_card_says_how_it_was_made() -> None:
    card = read_card(shipped_path("spine", "phantom").with_suffix(".json"))
    assert card.kind == "spine"
    assert card.command.startswith("workbench train spine")
    assert card.seconds is not None
    assert card.seconds > 60
    assert len(card.metrics["nmse"]) == 1 + card.settings["centre_stages"] + card.settings["corner_stages"]
    assert shipped_path("spine", "phantom").stat().st_size < 20e6


def test_unseen_clean_phantoms_are_found(predictions: list[SpinePrediction], films: list[Phantom]) -> None:
    found = evaluate([p.corners for p in predictions], [f.corners for f in films], sizes(films)).summary()
    assert found["nmse"] < 1e-4
    assert found["cmae"] < 2
    assert found["smape"] < 8  # a few nearly straight spines among so few films weigh much
    assert found["or40"] < 1


def test_the_error_falls_from_stage_to_stage(
    predictions: list[SpinePrediction], films: list[Phantom]
) -> None:
    truth = np.stack([film.corners for film in films])
    shape = np.array(sizes(films))
    errors = [
        nmse(np.stack([p.stages[i].corners for p in predictions]), truth, shape)
        for i in range(len(predictions[0].stages))
    ]
    assert errors[4] < 0.7 * errors[0]
    assert errors[7] < 0.7 * errors[4]
    for before, after in pairwise(errors):
        assert after < 1.05 * before


def test_found_quads_are_vertebrae(predictions: list[SpinePrediction]) -> None:
    assert gate_rate([p.corners for p in predictions]) >= 0.9
    assert not any(flag.name in ("not-convex", "level-order") for p in predictions for flag in p.flags)


def test_a_mirrored_film_gives_mirrored_landmarks(shipped: SpineCascade, films: list[Phantom]) -> None:
    film = next(f for f in films if f.image.shape[1] % 2 == 0)  # so that the padding is symmetric
    found = shipped.predict(film.image).corners
    mirrored = shipped.predict(np.ascontiguousarray(film.image[:, ::-1])).corners
    np.testing.assert_allclose(flip_corners(mirrored, film.image.shape[1]), found, atol=2e-3)
