"""Phantom radiographs: the same bits for the same names, corners inside, lines where the truth says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from workbench.data.phantom import Level, Phantom, build, draw_geometry, phantom, render
from workbench.data.phantom.scene import draw_scene
from workbench.errors import UnknownNameError


@pytest.fixture(scope="module", params=["clean", "hard"])
def drawn(request: pytest.FixtureRequest) -> list[Phantom]:
    return [phantom(i, set_name="render-test", level=request.param) for i in range(12)]


def edge_contrast(film: Phantom) -> float:
    """Mean steepness at the endplates, best within 3 px along the axis, against that inside the bodies."""
    smooth = ndimage.gaussian_filter(film.image.astype(float), 1.0)
    steep = np.hypot(*np.gradient(smooth))
    along, off = np.linspace(0.2, 0.8, 13), np.arange(-3, 3.1, 0.5)
    edges, insides = [], []
    for corners in film.corners:
        axis = corners[2:].mean(0) - corners[:2].mean(0)
        axis /= np.linalg.norm(axis)
        for left, right in (corners[:2], corners[2:]):
            line = left + along[:, None] * (right - left)
            edges.append(np.max([at(steep, line + step * axis) for step in off], axis=0).mean())
        insides.append(at(steep, inner_points(corners)).mean())
    return float(np.mean(edges) / np.mean(insides))


def inner_points(corners: np.ndarray) -> np.ndarray:
    a, b = (
        grid.ravel()[:, None] for grid in np.meshgrid(np.linspace(0.3, 0.7, 7), np.linspace(0.35, 0.65, 5))
    )
    top = corners[0] * (1 - a) + corners[1] * a
    bottom = corners[2] * (1 - a) + corners[3] * a
    return top * (1 - b) + bottom * b


def at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(values, points.T[::-1], order=1)


@pytest.mark.parametrize("level", ["clean", "hard"])
def test_the_same_arguments_give_the_same_bits(level: Level) -> None:
    first, second = (phantom(3, set_name="twice", level=level) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.corners.tobytes() == second.corners.tobytes()
    assert (first.seed, first.occluders) == (second.seed, second.occluders)


def test_index_set_and_level_change_the_image() -> None:
    seeds = {
        phantom(0, set_name="a").seed,
        phantom(1, set_name="a").seed,
        phantom(0, set_name="b").seed,
        phantom(0, set_name="a", level="hard").seed,
        phantom(0, set_name="a", mix="screening").seed,
    }
    assert len(seeds) == 5


def test_render_follows_the_generator() -> None:
    images = [
        render(draw_geometry(np.random.default_rng(5)), np.random.default_rng(6)).image for _ in range(2)
    ]
    assert np.array_equal(images[0], images[1])


def test_format(drawn: list[Phantom]) -> None:
    for film in drawn:
        assert film.image.dtype == np.uint8
        assert film.image.shape[0] == 704
        assert 230 <= film.image.shape[1] <= 384
        assert film.corners.shape == (17, 4, 2)


def test_all_corners_lie_inside(drawn: list[Phantom]) -> None:
    for film in drawn:
        height, width = film.image.shape
        assert (film.corners > 2).all()
        assert (film.corners < [width - 3, height - 3]).all()


def test_corners_are_the_geometry_by_one_similarity(drawn: list[Phantom]) -> None:
    for film in drawn:
        moved = film.corners * film.mm_per_pixel - film.geometry.corners
        assert np.ptp(moved.reshape(-1, 2), axis=0).max() < 1e-9


def test_image_is_turned_by_four_degrees_at_most() -> None:
    geometry = draw_geometry(np.random.default_rng(1))
    for seed in range(10):
        film = render(geometry, np.random.default_rng(seed), "hard")
        turn = film.geometry.tilts - geometry.tilts
        assert np.ptp(turn) < 1e-9
        assert abs(turn[0]) <= 4


def test_hard_phantoms_name_what_spoils_them(drawn: list[Phantom]) -> None:
    for film in drawn:
        assert film.occluders if film.level == "hard" else set(film.occluders) <= {"letters", "shutter"}


def test_loose_crops_show_head_and_pelvis() -> None:
    films = [phantom(i, set_name="crops", level="hard") for i in range(12)]
    loose = [np.ptp(f.corners[..., 1]) for f in films if "loose crop" in f.occluders]
    tight = [np.ptp(f.corners[..., 1]) for f in films if "loose crop" not in f.occluders]
    assert max(loose) < min(tight)


def test_endplates_are_twice_as_steep_as_body_interiors() -> None:
    ratios = [edge_contrast(phantom(i, set_name="edges")) for i in range(12)]
    assert np.mean(ratios) >= 2
    assert min(ratios) > 1.4  # the noisiest films drown their endplates


def test_neighbours_above_t1_look_like_vertebrae() -> None:
    geometry = build(np.zeros(17), 0, 36, 36, 20, 6)
    scene = draw_scene(geometry, np.random.default_rng(0), loose=False, strong=False)
    first, seventh, sixth = scene.body(0), scene.body(-1), scene.body(-2)
    assert sixth.centre[1] < seventh.centre[1] < first.centre[1]
    assert 0.8 < seventh.width / first.width < 1.1
    assert scene.sacrum[1] > scene.body(16).centre[1]


def test_unknown_level() -> None:
    with pytest.raises(UnknownNameError, match="'clena'; did you mean 'clean'"):
        phantom(0, level="clena")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="level"):
        render(draw_geometry(np.random.default_rng(0)), np.random.default_rng(0), "easy")  # type: ignore[arg-type]
