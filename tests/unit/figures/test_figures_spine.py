"""Figures of spines: what is drawn where, what is said, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
import spine_example as example
from PIL import Image

from workbench import figures
from workbench.data.phantom import Phantom, build
from workbench.data.vertebrae import LEVELS, centres_of
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.figures import Display, View
from workbench.figures._radiograph import LONGEST, Film, film_size, grey, grey_uri
from workbench.figures._spine_shapes import Errors, endplates, measured, mid_lines, outlines
from workbench.figures.spine_modes import laid_on, mode_centres
from workbench.figures.spine_view import SURFACE
from workbench.spine.angles import official_angles
from workbench.spine.clinical import clinical_angles
from workbench.spine.quality import QualityFlag
from workbench.spine.results import SpinePrediction, prediction_of

LARGEST = 300_000  # bytes of JSON with a radiograph of 1024 x 512 pixels


@pytest.fixture(scope="session")
def film() -> Phantom:
    return example.film()


@pytest.fixture(scope="session")
def found(film: Phantom) -> SpinePrediction:
    return example.prediction(film)


@pytest.fixture
def large() -> tuple[np.ndarray, SpinePrediction]:
    """Noise of 1024 x 512 pixels, the hardest picture to make small, and a spine on it."""
    noise = np.random.default_rng(0).integers(0, 256, (1024, 512), dtype=np.uint8)
    corners = laid_on(np.stack([np.full(17, 256.0), np.linspace(80, 940, 17)], axis=1))
    return noise, prediction_of(corners, (1024, 512), "noise")


def trace(figure: go.Figure, name: str) -> go.Scatter:
    (one,) = [t for t in figure.data if t.name == name]
    return one


def everything(film: Phantom, found: SpinePrediction) -> dict[str, Callable[[], go.Figure]]:
    """Every figure with a radiograph, by name of its function."""
    model = example.shape_model()
    return {
        "spine_overlay": lambda: figures.spine_overlay(film, found, film),
        "spine_cobb": lambda: figures.spine_cobb(film, found, film),
        "spine_clinical": lambda: figures.spine_clinical(film, found, film),
        "spine_stage": lambda: figures.spine_stage(film, found, 2, film, model),
        "spine_view": lambda: figures.spine_view(film, found, film, View(level=3, corner=1)),
        "spine_gallery": lambda: figures.spine_gallery([film], [found], [film], ["one"]),
        "spine_modes": lambda: figures.spine_modes(model, 1, -3),
        "spine_projection": lambda: figures.spine_projection(model, found),
        "spine_stage_errors": lambda: figures.spine_stage_errors({"a": [found]}, [film]),
    }


@pytest.mark.parametrize("name", everything(None, None))  # type: ignore[arg-type]
def test_a_figure_is_the_same_twice_and_leaves_the_page_alone(
    name: str, film: Phantom, found: SpinePrediction
) -> None:
    figure = everything(film, found)[name]()
    assert figure.to_json() == everything(film, found)[name]().to_json()
    assert figure.layout.paper_bgcolor is None
    assert figure.layout.width is None
    assert figure.layout.height is not None
    assert not [note.text for note in figure.layout.annotations if note.font.color is not None]


@pytest.mark.parametrize("name", ["spine_overlay", "spine_cobb", "spine_clinical", "spine_view"])
def test_a_radiograph_is_embedded_once_and_the_figure_stays_small(
    name: str, large: tuple[np.ndarray, SpinePrediction]
) -> None:
    image, spine = large
    figure = getattr(figures, name)(image, spine, spine)
    assert len(figure.layout.images) == 1
    assert len(figure.to_json()) < LARGEST
    place = figure.layout.images[0]
    assert (place.x, place.y, place.sizex, place.sizey) == (-0.5, -0.5, 512, 1024)


def test_figures_do_not_change_what_they_are_given(film: Phantom, found: SpinePrediction) -> None:
    before = (film.image.copy(), film.corners.copy(), [s.corners.copy() for s in found.stages])
    for draw in everything(film, found).values():
        draw()
    assert np.array_equal(film.image, before[0])
    assert np.array_equal(film.corners, before[1])
    assert all(np.array_equal(s.corners, old) for s, old in zip(found.stages, before[2], strict=True))


# The radiograph


def test_window_gamma_and_inversion_change_the_picture_only(film: Phantom, found: SpinePrediction) -> None:
    ramp = np.tile(np.linspace(0, 1, 256), (64, 1))
    shown = Display(window=(0.25, 0.75), gamma=2.0, invert=True)
    uri = grey_uri(ramp, shown)
    drawn = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("L")
    values = np.asarray(drawn, dtype=float)[32] / 255
    expected = 1 - ((np.linspace(0, 1, 256) - 0.25) / 0.5).clip(0, 1) ** 2
    assert np.abs(values - expected).max() < 0.03
    plain, changed = figures.spine_overlay(film, found), figures.spine_overlay(film, found, display=shown)
    assert plain.layout.images[0].source != changed.layout.images[0].source
    assert go.Figure(plain.data).to_json() == go.Figure(changed.data).to_json()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": (0.5, 0.5)}, r"window \(0.5, 0.5\) cannot be shown; expected 0 <= low < high <= 1"),
        ({"window": (-0.1, 1)}, "expected 0 <= low < high <= 1"),
        ({"gamma": 0}, r"gamma 0 cannot be shown; expected 0.1 to 10"),
        ({"gamma": float("nan")}, "gamma nan cannot be shown"),
    ],
)
def test_a_display_that_shows_nothing_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        Display(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((3, 8, 8)), r"a radiograph to draw is grey, \(height, width\); this one is \(3, 8, 8\)"),
        (np.zeros(9), r"this one is \(9,\)"),
        (np.full((8, 8), np.nan), "must be finite; this one has NaN"),
    ],
)
def test_an_image_that_is_no_radiograph_is_refused(image: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        grey(image)


def test_a_large_film_is_shrunk_but_keeps_its_coordinates(found: SpinePrediction) -> None:
    film = np.random.default_rng(0).random((2500, 1000), dtype=np.float32)
    ready = Film.of(film)
    assert max(ready.pixels.shape) == LONGEST
    assert ready.size == film_size(film) == (2500, 1000)
    figure = figures.spine_overlay(ready, found)
    assert (figure.layout.images[0].sizex, figure.layout.images[0].sizey) == (1000, 2500)
    assert list(figure.layout.yaxis.range) == [2499.5, -0.5]


def test_a_film_that_was_reduced_when_it_was_read_keeps_its_coordinates() -> None:
    film = SimpleNamespace(pixels=np.zeros((50, 20), np.uint8), size=(200, 80))
    assert film_size(film) == (200, 80)


# Layers


def test_the_overlay_has_its_layers_and_hides_those_not_asked_for(
    film: Phantom, found: SpinePrediction
) -> None:
    figure = figures.spine_overlay(film, found, film, layers=["corners", "errors"])
    visible = {t.legendgroup for t in figure.data if t.visible is True}
    hidden = {t.legendgroup for t in figure.data if t.visible == "legendonly"}
    assert visible == {"corners", "errors"}
    assert hidden == set(figures.SPINE_LAYERS) - {"corners", "errors", "trails"}
    few = figures.spine_overlay(film, found, film, layers=["corners", "errors"], others=False)
    assert {t.legendgroup for t in few.data if t.legendgroup} == {"corners", "errors"}


def test_corners_are_drawn_by_role_and_say_how_far_they_are_off(
    film: Phantom, found: SpinePrediction
) -> None:
    scaled = replace(found, spacing_mm=(0.5, 0.25))
    figure = figures.spine_overlay(film, scaled, film)
    for role, name in enumerate(("TL", "TR", "BL", "BR")):
        dots = trace(figure, name)
        assert np.allclose(np.stack([dots.x, dots.y], 1), found.corners[:, role], atol=1e-3)
    off = found.corners[4, 1] - film.corners[4, 1]
    millimetres = np.hypot(off[0] * 0.25, off[1] * 0.5)
    text = trace(figure, "TR").text[4]
    assert text.startswith("T5 TR<br>off by ")
    assert f"{np.hypot(*off):.1f} px" in text
    assert f"{millimetres:.1f} mm" in text
    assert "mm" not in trace(figures.spine_overlay(film, found, film), "TR").text[4]
    colours = [trace(figure, name).marker.color for name in ("TL", "TR", "BL", "BR")]
    assert len(set(colours)) == 4
    rings = trace(figure, "true corners")
    assert rings.marker.symbol == "circle-open"
    assert np.allclose(np.stack([rings.x, rings.y], 1).reshape(17, 4, 2), film.corners, atol=1e-3)


def test_lines_of_vertebrae(film: Phantom) -> None:
    closed = outlines(film.corners).reshape(17, 6, 2)
    assert np.array_equal(closed[:, 0], closed[:, 4])
    assert np.array_equal(closed[:, :4], film.corners[:, [0, 1, 3, 2]])
    assert np.isnan(closed[:, 5]).all()
    middles = mid_lines(film.corners).reshape(17, 3, 2)
    assert np.allclose(middles[:, 0], (film.corners[:, 0] + film.corners[:, 2]) / 2)
    plates = endplates(film.corners, 0.5).reshape(34, 3, 2)
    assert np.allclose(plates[::2, :2].mean(1), film.corners[:, :2].mean(1))
    longer = np.linalg.norm(plates[:, 1] - plates[:, 0], axis=1)
    assert np.allclose(longer[::2], 2 * np.linalg.norm(film.corners[:, 1] - film.corners[:, 0], axis=1))


def test_a_flag_marks_its_vertebrae(film: Phantom, found: SpinePrediction) -> None:
    flagged = replace(found, flags=(QualityFlag("overlap", (11, 12), "T12 and L1 overlap."),))
    figure = figures.spine_overlay(film, flagged)
    marks = trace(figure, "flags")
    assert np.allclose(np.stack([marks.x, marks.y], 1), found.centres[[11, 12]], atol=1e-3)
    assert marks.text == ("T12: T12 and L1 overlap.", "L1: T12 and L1 overlap.")
    assert "1 quality flag" in figure.layout.title.text


def test_missing_vertebrae_leave_gaps(film: Phantom, found: SpinePrediction) -> None:
    cut = film.corners.copy()
    cut[14:] = np.nan
    figure = figures.spine_overlay(film, found, cut)
    json.loads(figure.to_json())
    assert trace(figure, "TL").text[15] == "L4 TL"
    errors = Errors.between(found, cut)
    assert np.isnan(errors.levels[14:]).all()
    assert np.isfinite(errors.levels[:14]).all()


def test_nothing_to_compare_is_an_error(film: Phantom, found: SpinePrediction) -> None:
    with pytest.raises(InvalidInputError, match="no visible vertebra in common"):
        figures.spine_overlay(film, found, np.full((17, 4, 2), np.nan))
    with pytest.raises(InvalidInputError, match=r"corners have shape \(16, 4, 2\)"):
        figures.spine_overlay(film, found.corners[:16])
    with pytest.raises(UnknownNameError, match="unknown layer 'corner'; did you mean 'corners'"):
        figures.spine_overlay(film, found, layers=["corner"])


# Angles


def _between(lines: np.ndarray) -> float:
    """Angle of two straight lines, each two points, in degrees."""
    first, second = lines[1] - lines[0], lines[3] - lines[2]
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return float(np.degrees(np.arccos(np.clip(abs(cosine), 0, 1))))


def _points(one: go.Scatter) -> np.ndarray:
    return _finite(np.stack([one.x, one.y], 1).astype(float))


def _finite(points: np.ndarray) -> np.ndarray:
    return points[np.isfinite(points).all(1)]


def test_the_construction_shows_the_official_angle(film: Phantom, found: SpinePrediction) -> None:
    angles = found.angles()
    figure = figures.spine_cobb(film, found, film)
    drawn = [t for t in figure.data if t.name == f"an1 {angles.an1:.1f}°"]
    solid, dashed = drawn
    extended, perpendicular = _points(solid)[:4], _points(dashed)
    assert _between(extended) == pytest.approx(angles.an1, abs=0.05)
    assert _between(perpendicular) == pytest.approx(angles.an1, abs=0.05)
    for line, foot in ((extended[:2], perpendicular[:2]), (extended[2:], perpendicular[2:])):
        assert abs((line[1] - line[0]) @ (foot[1] - foot[0])) < 0.05 * np.linalg.norm(line[1] - line[0])
    assert f"branch {angles.branch}" in figure.layout.title.text


@pytest.mark.parametrize("kind", ["C", "S-upper", "S-lower"])
def test_every_branch_is_explained(kind: str) -> None:
    k = np.arange(17)
    tilts = {
        "C": 15 - 29 * k / 16,
        "S-upper": 20 * np.sin(np.pi * k / 8),
        "S-lower": 20 * np.sin(np.pi * k / 8),
    }
    height = {"C": 560, "S-upper": 560, "S-lower": 300}[kind]
    corners = build(tilts[kind], 0, 36, 36, 20, 6).corners + np.array([200, 60])
    image = np.zeros((height, 400), np.uint8)
    angles = official_angles(corners, height)
    if kind == "S-lower":  # the vertebrae below the image have no angles: a taller film, and its lower half
        corners, image = corners + np.array([0, 500]), np.zeros((1000, 400), np.uint8)
        angles = official_angles(corners, 1000)
    assert angles.branch == kind
    figure = figures.spine_cobb(image, corners)
    written = " ".join(note.text for note in figure.layout.annotations)
    assert f"Branch {kind}" in written
    assert f"p = {LEVELS[angles.p]}, q = {LEVELS[angles.q]}" in written
    assert (f"r = {LEVELS[angles.r]}" in written) if angles.r is not None else ("r = " not in written)


def test_angles_are_measured_on_what_the_truth_has(film: Phantom, found: SpinePrediction) -> None:
    cut = film.corners.copy()
    cut[14:] = np.nan
    kept = measured(found.corners, found.size, cut)
    assert np.isnan(kept[14:]).all()
    table = figures.spine_angle_table(found, cut)
    assert table.loc["an1", "difference"] == pytest.approx(
        table.loc["an1", "predicted"] - table.loc["an1", "true"]
    )
    figures.spine_cobb(film, found, cut)
    figures.spine_clinical(film, found, cut)
    outside = found.corners + np.array([0, 400])
    assert np.isnan(measured(outside, found.size)).any()


def test_clinical_curves_are_drawn_with_end_vertebrae_and_apex(film: Phantom, found: SpinePrediction) -> None:
    clinical = clinical_angles(found.corners)
    figure = figures.spine_clinical(film, found, film)
    for curve in clinical.curves:
        drawn = [t for t in figure.data if t.name == f"{curve.name} {curve.cobb:.1f}°"]
        assert _between(_points(drawn[0])[:4]) == pytest.approx(curve.cobb, abs=0.05)
    written = " ".join(note.text for note in figure.layout.annotations)
    assert "not for diagnosis" in written
    assert clinical.severity in figure.layout.title.text
    assert f"apex {LEVELS[clinical.curves[0].apex]}" in written


def test_a_straight_spine_has_no_curve() -> None:
    corners = laid_on(np.stack([np.full(17, 100.0), np.linspace(30, 570, 17)], axis=1))
    figure = figures.spine_clinical(np.zeros((600, 200)), corners)
    assert "No curve turns by 5° or more" in " ".join(note.text for note in figure.layout.annotations)
    assert "an1 0.0°" in figures.spine_cobb(np.zeros((600, 200)), corners).layout.title.text


# Stages


def test_a_stage_shows_its_landmarks_and_the_way_to_them(film: Phantom, found: SpinePrediction) -> None:
    figure = figures.spine_stage(film, found, 2, film, example.shape_model())
    assert "Stage 2 of 6: centres 2" in figure.layout.title.text
    assert np.allclose(
        _points(trace(figure, "outlines")), _finite(outlines(found.stages[2].corners)), atol=1e-3
    )
    ways = np.stack([trace(figure, "way of the centres").x, trace(figure, "way of the centres").y], 1)
    expected = np.stack([found.stages[i].centres for i in range(3)], 1)
    assert np.allclose(ways.reshape(17, 4, 2)[:, :3], expected, atol=1e-3)
    written = " ".join(note.text for note in figure.layout.annotations)
    assert "✕ at or beyond ±3 σ: mode 3" in written


def test_without_truth_a_stage_shows_how_far_it_moved(film: Phantom, found: SpinePrediction) -> None:
    figure = figures.spine_stage(film, found, -1)
    written = " ".join(note.text for note in figure.layout.annotations)
    assert "moved, px" in written
    assert "this stage has no shape model" in written
    assert not [t for t in figure.data if t.name == "true corners"]


@pytest.mark.parametrize("stage", [7, -8])
def test_a_stage_that_does_not_exist_is_an_error(stage: int, film: Phantom, found: SpinePrediction) -> None:
    with pytest.raises(InvalidInputError, match=rf"stage {stage} is outside 0\.\.6: this prediction has 7"):
        figures.spine_stage(film, found, stage)


def test_errors_by_stage_are_medians_over_images(film: Phantom, found: SpinePrediction) -> None:
    others = [example.prediction(film, noise, 1) for noise in (1.0, 2.0)]
    figure = figures.spine_stage_errors({"a": [found, *others]}, [film] * 3)
    line = trace(figure, "a")
    last = [np.linalg.norm(p.corners - film.corners, axis=-1).mean() for p in (found, *others)]
    assert line.y[-1] == pytest.approx(np.median(last), abs=1e-3)
    centres = [
        np.linalg.norm(p.stages[1].centres - centres_of(film.corners), axis=-1).mean()
        for p in (found, *others)
    ]
    assert line.y[1] == pytest.approx(np.median(centres), abs=1e-3)
    with pytest.raises(InvalidInputError, match="1 predictions by 'a' for 2 truths; give one each"):
        figures.spine_stage_errors({"a": [found]}, [film, film])
    with pytest.raises(InvalidInputError, match="no predictions to show"):
        figures.spine_stage_errors({}, [])


# The explorer's view


def test_the_view_takes_clicks_beside_landmarks_more_finely_than_pixels(
    film: Phantom, found: SpinePrediction
) -> None:
    surface = trace(figures.spine_view(film, found), SURFACE)
    assert surface.hoverinfo == "none"
    height, width = film.image.shape
    blank = Image.open(io.BytesIO(base64.b64decode(surface.source.split(",")[1])))
    assert blank.size == (width * 4, height * 4)
    assert len(surface.source) < 4000
    assert (surface.x0, surface.dx) == (
        -0.375,
        0.25,
    )  # the first quarter of the first pixel, from −0.5 to −0.25


def test_while_a_landmark_is_picked_only_the_surface_takes_clicks(
    film: Phantom, found: SpinePrediction
) -> None:
    figure = figures.spine_view(film, found, film, View(level=2, corner=0))
    assert "TL of T3 picked: click where it belongs" in figure.layout.title.text
    on_film = [t for t in figure.data if t.type == "scatter" and t.xaxis in (None, "x")]
    assert {t.hoverinfo for t in on_film} == {"skip"}
    assert not [t.name for t in on_film if t.hovertemplate]
    free = figures.spine_view(film, found, film, View(level=2))
    assert trace(free, "TL").hovertemplate


def test_views_of_all_families_and_stages_have_the_same_layers(film: Phantom, found: SpinePrediction) -> None:
    names = {
        tuple(t.name for t in figures.spine_view(film, found, film, View(stage=s)).data[:18])
        for s in range(7)
    }
    assert len(names) == 1
    for family in ("official", "clinical", "none"):
        figure = figures.spine_view(film, found, film, View(family=family))  # type: ignore[arg-type]
        assert tuple(t.name for t in figure.data[:18]) in names


# The shape model


def test_a_mode_moves_the_mean_both_ways() -> None:
    model = example.shape_model()
    mean, there, back = (mode_centres(model, 0, s) for s in (0, 2, -2))
    assert np.allclose(mean, (there + back) / 2)
    figure = figures.spine_modes(model, 0, 2)
    assert "Mode 0 of" in figure.layout.title.text
    assert "limit" not in figure.layout.title.text
    assert "at the limit" in figures.spine_modes(model, 0, -3).layout.title.text


def test_modes_that_do_not_exist_are_refused() -> None:
    model = example.shape_model()
    with pytest.raises(InvalidInputError, match=rf"mode 99 is outside 0\.\.{model.components - 1}"):
        figures.spine_modes(model, 99)
    other = type(model)(model.mean[:20], model.basis[:20], model.variances)
    with pytest.raises(InvalidInputError, match="this shape model is of 20 numbers; expected 34"):
        figures.spine_modes(other, 0)


def test_a_projection_says_what_is_left_over(film: Phantom, found: SpinePrediction) -> None:
    model = example.shape_model()
    figure = figures.spine_projection(model, found)
    assert "px from the model" in figure.layout.title.text
    inside = found.stages[1].centres
    exact = figures.spine_projection(model, inside, found.size)
    assert "centres 0.0 px from the model on average" in exact.layout.title.text
    with pytest.raises(InvalidInputError, match="bare centres need the image's size"):
        figures.spine_projection(model, inside)
    with pytest.raises(InvalidInputError, match=r"all 17 centres are needed"):
        figures.spine_projection(model, inside[:5], found.size)


def test_vertebrae_laid_on_centres_stand_upright_to_the_spine() -> None:
    centres = np.stack([np.linspace(0, 160, 17), np.linspace(0, 320, 17)], axis=1)
    corners = laid_on(centres)
    assert np.allclose(centres_of(corners), centres)
    across = corners[:, 1] - corners[:, 0]
    assert np.allclose(across @ [160, 320], 0)


# Many radiographs


def test_the_gallery_places_every_film(film: Phantom, found: SpinePrediction) -> None:
    figure = figures.spine_gallery([film] * 3, [found] * 3, [film] * 3, ["a", "b", "c"], columns=2)
    assert len(figure.layout.images) == 3
    assert (figure.layout.images[2].x, figure.layout.images[2].y) == (0, 1.16)
    written = "".join("".join(t.text) for t in figure.data if t.text)
    assert "<b>c</b>" in written
    assert f"an1 {found.angles().an1:.1f}°" in written
    with pytest.raises(InvalidInputError, match="no radiographs to show"):
        figures.spine_gallery([], [])
    with pytest.raises(InvalidInputError, match="1 predictions for 2 images"):
        figures.spine_gallery([film] * 2, [found])


def test_detection_rates_rise_to_all(film: Phantom, found: SpinePrediction) -> None:
    predicted = {"a": found.corners[None], "start": found.stages[0].corners[None]}
    figure = figures.spine_detection(predicted, film.corners[None], [found.size])
    rates = trace(figure, "a").y
    assert (np.diff(rates) >= 0).all()
    assert rates[-1] == 100
    assert trace(figure, "start").y[4] < rates[4]
    assert "704" in figure.layout.xaxis.title.text
    with pytest.raises(InvalidInputError, match="no predictions to show; give at least one method"):
        figures.spine_detection({}, film.corners[None])


def test_level_errors_are_means_over_images(film: Phantom, found: SpinePrediction) -> None:
    cut = np.stack([film.corners, film.corners])
    cut[0, 3] = np.nan
    figure = figures.spine_level_errors({"a": np.stack([found.corners, found.corners + 3])}, cut)
    values = figure.data[0].z[0]
    expected = np.linalg.norm(found.corners[3] + 3 - film.corners[3], axis=-1).mean()
    assert values[3] == pytest.approx(expected, abs=0.01)


def test_agreement_draws_bias_and_limits() -> None:
    truth = np.random.default_rng(0).uniform(5, 40, (12, 3))
    figure = figures.spine_agreement(truth + 2, truth)
    assert "bias +2.0°, 95 % limits +2.0° to +2.0°" in figure.layout.title.text
    assert sorted({round(s.y0, 3) for s in figure.layout.shapes}) == [2.0]
    for wrong in (truth[:, :2], truth[:0]):
        with pytest.raises(InvalidInputError, match=r"expected \(images, 3\)"):
            figures.spine_agreement(wrong, wrong)
    with pytest.raises(InvalidInputError, match="differ in shape"):
        figures.spine_agreement(truth[:5], truth)


# Tables


def test_the_table_has_a_row_a_level(film: Phantom, found: SpinePrediction) -> None:
    table = figures.spine_table(replace(found, spacing_mm=(0.5, 0.5)), film)
    assert list(table.index) == list(LEVELS)
    off = np.linalg.norm(found.corners - film.corners, axis=-1).mean(1)
    assert np.allclose(table["corners off, px"], off)
    assert np.allclose(table["corners off, mm"], off / 2)
    assert list(figures.spine_table(found).columns) == ["x, px", "y, px", "tilt, °", "wedge, °"]


def test_the_angle_table_compares_official_and_clinical_angles(film: Phantom, found: SpinePrediction) -> None:
    table = figures.spine_angle_table(found, film)
    assert list(table.index) == ["an1", "an2", "an3", "PT", "MT", "TL"]
    assert table.loc["an1", "predicted"] == found.angles().an1
    assert table.loc["MT", "true"] == clinical_angles(film.corners).cobb("MT")
    with pytest.raises(InvalidInputError, match="bare corners need the image's size"):
        figures.spine_angle_table(found.corners)
    assert list(figures.spine_angle_table(found.corners, size=found.size).columns) == ["predicted"]


def test_results_are_read_where_there_are_any(tmp_path: Path) -> None:
    assert len(figures.spine_quality(tmp_path / "none.json")) == 0
    names = ("nmse", "mean_frame_px", "or20", "or40", "smape", "cmae")
    numbers = {name: {"mean": 0.5, "interval": [0, 1]} for name in names}
    measured_set = {"cascade": numbers, "methods": {"ridge": numbers}, "ablations": {"no-pca": numbers}}
    path = tmp_path / "spine_quality.json"
    path.write_text(json.dumps({"results": {"clean": measured_set, "training": {"phantoms": 3}}}))
    assert figures.spine_quality(path)["method"].tolist() == ["cascade", "ridge"]
    table = figures.spine_quality(path, ablations=True)
    assert table["method"].tolist() == ["cascade", "ridge", "no-pca"]
    assert table["NMSE"].tolist() == [0.5] * 3
    path.write_text('{"results": [1, 2]}')
    with pytest.raises(InvalidInputError, match="does not hold results of benchmarks"):
        figures.spine_quality(path)
