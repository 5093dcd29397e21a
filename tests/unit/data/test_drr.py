"""Films of the fetched CT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench.data.drr import Drr, Pose, project, projections
from workbench.data.drr.patient import load_patient
from workbench.errors import InvalidInputError, MissingDataError


@pytest.fixture(scope="module")
def fetched(require_data: Callable[..., None]) -> None:
    require_data("chest-ct")


@pytest.fixture(scope="module")
def films(fetched: None) -> list[Drr]:
    return list(projections(3, seed=1))


def test_films_show_fourteen_vertebrae(films: list[Drr]) -> None:
    for drr in films:
        assert drr.image.dtype == np.uint8
        assert drr.image.shape[0] == 704
        assert 230 <= drr.image.shape[1] <= 384
        assert np.isnan(drr.corners[14:]).all()
        shown = drr.corners[:14]
        assert (shown >= 0).all()
        assert (shown < drr.image.shape[::-1]).all()
        assert (np.diff(shown[:, :, 1].mean(1)) > 0).all()
        assert 0.4 < drr.spacing_mm < 0.5


def test_bodies_have_the_sizes_of_anatomy(fetched: None) -> None:
    """Widths and heights grow downwards, within 15 % of the table in the specification, section 7.2."""
    drr = project(Pose(distance=float("inf")))
    shown = drr.corners[:14] * drr.spacing_mm
    widths = np.linalg.norm(shown[:, [1, 3]] - shown[:, [0, 2]], axis=2).mean(1)
    heights = np.linalg.norm(shown[:, 2:] - shown[:, :2], axis=2).mean(1)
    assert widths[4:].tolist() == pytest.approx(
        [25.0, 25.8, 27.2, 28.6, 29.9, 31.8, 34.4, 36.5, 38.7, 41.1], rel=0.2
    )
    assert heights[6:].tolist() == pytest.approx([17.9, 18.1, 18.6, 19.7, 21.3, 22.9, 23.9, 23.9], rel=0.15)
    assert 5 < drr.curve < 15  # the patient's own


def test_bones_are_bright_and_lungs_dark(fetched: None) -> None:
    drr = project()
    centres = drr.corners[4:14].mean(1)
    spine = [drr.image[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7].mean() for x, y in centres]
    lung = drr.image[220:300, :30].mean()
    assert min(spine) > 2 * lung
    assert lung < 40


def test_films_are_the_same_bit_by_bit(films: list[Drr]) -> None:
    again = list(projections(2, seed=1))
    for first, second in zip(films, again, strict=False):
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.corners, second.corners, equal_nan=True)
        assert first.pose == second.pose
    assert not np.array_equal(films[0].image, next(projections(1, seed=2)).image)


def test_scoliosis_can_be_left_out(films: list[Drr]) -> None:
    straight = next(projections(1, seed=1, scoliosis=False))
    assert not any(straight.pose.added)
    assert straight.pose.rotation == films[0].pose.rotation
    assert straight.curve < 15


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="negative"):
        next(projections(-1))


def test_without_the_ct_the_message_says_what_to_type(empty_cache: Path) -> None:
    with pytest.raises(MissingDataError, match="workbench data fetch chest-ct"):
        load_patient.__wrapped__()
