"""The spine explorer: its state, its controls, clicks on it, and landmarks that are moved."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import spine_example as example
import traitlets

from workbench.data.phantom import Phantom
from workbench.data.radiographs import from_array
from workbench.data.vertebrae import centres_of
from workbench.errors import InvalidInputError, UnknownNameError
from workbench.figures import Display, View, spine_modes, spine_projection, spine_view
from workbench.figures._radiograph import Film
from workbench.figures.spine_view import SURFACE
from workbench.spine.angles import official_angles
from workbench.spine.results import SpinePrediction
from workbench.widgets import SpineExplorer


def plain(figure: go.Figure) -> Any:
    values = json.loads(go.Figure(figure.data, figure.layout).to_json())
    for trace in values["data"]:
        trace.pop("uid", None)
    return values


@pytest.fixture(scope="session")
def film() -> Phantom:
    return example.film()


@pytest.fixture(scope="session")
def found(film: Phantom) -> SpinePrediction:
    return example.prediction(film)


@pytest.fixture
def cascade() -> example.Cascade:
    return example.Cascade()


@pytest.fixture
def explorer(film: Phantom, found: SpinePrediction, cascade: example.Cascade) -> SpineExplorer:
    return SpineExplorer(film, found, film, cascade)


def trace(explorer: SpineExplorer, name: str) -> Any:
    (one,) = [t for t in explorer.figure.data if t.name == name]
    return one


def click(explorer: SpineExplorer, name: str, index: Any = 0, at: tuple[float, float] = (0, 0)) -> None:
    """What plotly calls when somebody clicks on a trace."""
    one = trace(explorer, name)
    points = SimpleNamespace(point_inds=[index], xs=[at[0]], ys=[at[1]])
    (handler,) = one._click_callbacks
    handler(one, points, None)


def test_it_starts_with_what_was_found(
    explorer: SpineExplorer, film: Phantom, found: SpinePrediction
) -> None:
    assert explorer.message.value == ""
    assert explorer.stage == 6
    assert np.array_equal(explorer.corners, found.corners)
    assert explorer.angles.an1 == found.angles().an1
    assert explorer.result is found
    assert repr(explorer) == f"SpineExplorer(stage 6 of 6, an1 {found.angles().an1:.1f}°)"
    expected = spine_view(Film.of(film), found, film, View(stage=6), title="corners 3")
    assert plain(explorer.figure) == plain(expected)


def test_its_live_figure_changes_in_place(explorer: SpineExplorer) -> None:
    before = explorer.figure.data
    for change in ({"stage": 2}, {"layers": ("errors",)}, {"invert": True}, {"level": 4}, {"gamma": 0.5}):
        for name, value in change.items():
            setattr(explorer, name, value)
        assert explorer.message.value == ""
        assert plain(explorer.figure) == plain(explorer.drawing())
    assert all(a is b for a, b in zip(before, explorer.figure.data, strict=True))


def test_its_snapshot_has_what_is_seen_and_nothing_else(explorer: SpineExplorer) -> None:
    explorer.layers = ("outlines", "levels")
    figure = explorer.snapshot()
    assert type(figure) is go.Figure
    names = [t.name for t in figure.data]
    assert {"outlines", "levels"} <= set(names)
    assert not {"TL", "errors", SURFACE, "way of the centres"} & set(names)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stage", 2),
        ("family", "clinical"),
        ("level", 11),
        ("corner", 4),
        ("window", (0.1, 0.9)),
        ("gamma", 1.5),
        ("invert", True),
        ("view", "projection"),
        ("mode", 2),
        ("sigmas", -1.0),
    ],
)
def test_controls_and_state_are_one(explorer: SpineExplorer, name: str, value: Any) -> None:
    control = getattr(explorer.controls, name)
    before = getattr(explorer, name)
    assert control.value == before
    control.value = value
    assert getattr(explorer, name) == value
    setattr(explorer, name, before)
    assert control.value == before
    assert explorer.message.value == ""


def test_layers_are_toggled(explorer: SpineExplorer, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    toggles = {toggle.description: toggle for toggle in explorer.controls.layers}
    monkeypatch.setattr(SpineExplorer, "redraw", lambda _: drawn.append(1))
    toggles["truth"].value = False
    assert "truth" not in explorer.layers
    explorer.layers = ("errors", "corners")
    assert [name for name, toggle in toggles.items() if toggle.value] == ["errors", "corners"]
    assert len(drawn) == 2


def test_going_through_stages_and_vertebrae(explorer: SpineExplorer) -> None:
    explorer.go_to_stage(-1)
    assert explorer.stage == 6
    explorer.go_to_stage(0)
    assert "start" in explorer.figure.layout.title.text
    for step, level in ((1, 0), (1, 1), (-1, 0), (-1, 16), (1, 0)):
        explorer.step_level(step)
        assert explorer.level == level
    explorer.controls.next.click()
    assert explorer.level == 1
    explorer.select("T12")
    assert explorer.level == 11
    explorer.select(None)
    explorer.step_level(-1)
    assert explorer.level == 16


def test_a_moved_corner_changes_angles_and_errors_at_once(explorer: SpineExplorer, film: Phantom) -> None:
    p, before = explorer.angles.p, explorer.angles.an1
    x, y = explorer.corners[p, 3]
    explorer.go_to_stage(1)
    explorer.move_corner(p, "BR", x, y + 9)
    assert explorer.stage == 6
    assert explorer.moves == 1
    assert explorer.angles.an1 == official_angles(explorer.corners, film.image.shape[0]).an1 != before
    assert "(1 moved)" in explorer.figure.layout.title.text
    assert tuple(np.stack([trace(explorer, "BR").x, trace(explorer, "BR").y], 1)[p]) == pytest.approx(
        (x, y + 9)
    )
    off = np.hypot(*(np.array([x, y + 9]) - film.corners[p, 3]))
    assert f"{off:.1f} px" in trace(explorer, "BR").text[p]
    assert explorer.to_frame()["corners off, px"].iloc[p] > 2
    assert repr(explorer).endswith(", 1 moved)")


def test_moves_are_taken_back(explorer: SpineExplorer, found: SpinePrediction) -> None:
    explorer.move_corner("T5", "TL", 100, 100)
    explorer.move_corner("T6", "TL", 100, 120)
    explorer.undo()
    assert tuple(explorer.corners[4, 0]) == (100, 100)
    assert np.array_equal(explorer.corners[5], found.corners[5])
    explorer.move_corner("L5", 3, 50, 60)
    explorer.controls.reset.click()
    assert np.array_equal(explorer.corners, found.corners)
    explorer.undo()
    assert explorer.moves == 0
    assert explorer.result is found


def test_what_was_moved_can_be_saved(explorer: SpineExplorer, tmp_path: Any) -> None:
    explorer.move_corner("T5", "TL", 100.5, 100)
    saved = SpinePrediction.load(explorer.result.save(tmp_path / "moved.json"))
    assert tuple(saved.corners[4, 0]) == (100.5, 100)
    assert saved.flags == explorer.result.flags != ()


def test_the_corners_given_out_are_copies(explorer: SpineExplorer, found: SpinePrediction) -> None:
    explorer.corners[:] = 0
    assert np.array_equal(explorer.corners, found.corners)


def test_a_moved_centre_lets_the_cascade_find_this_vertebra_again(
    explorer: SpineExplorer, cascade: example.Cascade, found: SpinePrediction, film: Phantom
) -> None:
    x, y = found.centres[7] + [6, -2]
    explorer.move_centre("T8", x, y)
    ((image, levels),) = cascade.asked
    assert image is film.image
    assert levels == [7]
    assert np.allclose(centres_of(explorer.corners)[7], [x, y])
    others = [k for k in range(17) if k != 7]
    assert np.array_equal(explorer.corners[others], found.corners[others])


def test_a_centre_stays_without_a_cascade(film: Phantom, found: SpinePrediction) -> None:
    explorer = SpineExplorer(film, found)
    with pytest.raises(InvalidInputError, match="a moved centre needs a cascade"):
        explorer.move_centre("T8", 10, 10)
    assert explorer.controls.view.options == ("film",)
    with pytest.raises(InvalidInputError, match="the shape model is the cascade's"):
        explorer.show_mode(0)
    assert explorer.view == "film"


# Clicks


def test_a_click_on_a_landmark_picks_it_and_the_next_one_moves_it(explorer: SpineExplorer) -> None:
    click(explorer, "TR", 5)
    assert (explorer.level, explorer.corner) == (5, 1)
    assert explorer.controls.corner.label == "TR"
    assert "TR of T6 picked" in explorer.figure.layout.title.text
    click(explorer, SURFACE, (40, 50), (120.25, 90.5))
    assert tuple(explorer.corners[5, 1]) == (120.25, 90.5)
    assert (explorer.level, explorer.corner) == (5, None)


def test_a_click_on_a_centre_moves_the_vertebra(explorer: SpineExplorer, cascade: example.Cascade) -> None:
    explorer.layers = ("centres",)
    click(explorer, "centres", 9)
    x, y = explorer.result.centres[9] + 3
    click(explorer, SURFACE, (1, 1), (x, y))
    assert len(cascade.asked) == 1
    assert np.allclose(centres_of(explorer.corners)[9], [x, y])


def test_a_click_beside_landmarks_selects_the_nearest_vertebra(explorer: SpineExplorer) -> None:
    x, y = explorer.result.centres[12]
    click(explorer, SURFACE, (1, 1), (x + 5, y + 2))
    assert (explorer.level, explorer.corner, explorer.moves) == (12, None, 0)


def test_picking_goes_to_the_last_stage_and_can_be_given_up(explorer: SpineExplorer) -> None:
    explorer.go_to_stage(2)
    explorer.pick("L1", "centre")
    assert (explorer.stage, explorer.level, explorer.corner) == (6, 12, 4)
    explorer.release()
    assert explorer.corner is None


def test_what_goes_wrong_in_a_click_is_seen(film: Phantom, found: SpinePrediction) -> None:
    explorer = SpineExplorer(film, found)
    explorer.pick(3, "centre")
    click(explorer, SURFACE, (1, 1), (50, 50))
    assert "InvalidInputError: a moved centre needs a cascade" in explorer.message.value
    explorer.release()
    assert explorer.message.value == ""


def test_clicks_are_heard_once_also_after_another_view(explorer: SpineExplorer) -> None:
    explorer.show_mode(1)
    explorer.view = "film"
    explorer.go_to_stage(3)
    explorer.go_to_stage(-1)
    for name in ("TL", "TR", "BL", "BR", "centres", SURFACE):
        assert len(trace(explorer, name)._click_callbacks) == 1


# The shape model, and the zoom


def test_modes_and_projection_take_the_figure_s_place(
    explorer: SpineExplorer, found: SpinePrediction
) -> None:
    model = example.shape_model()
    explorer.show_mode(1, -3)
    assert (explorer.mode, explorer.sigmas, explorer.view) == (1, -3.0, "modes")
    assert plain(explorer.figure) == plain(spine_modes(model, 1, -3))
    assert explorer.controls.modes.layout.display == "flex"
    explorer.view = "projection"
    assert plain(explorer.figure) == plain(spine_projection(model, found))
    explorer.view = "film"
    assert explorer.controls.modes.layout.display == "none"
    assert plain(explorer.figure) == plain(explorer.drawing())


def test_the_zoom_stays_while_landmarks_are_moved(explorer: SpineExplorer) -> None:
    explorer.figure.layout.xaxis.range, explorer.figure.layout.yaxis.range = [50, 90], [300, 200]
    explorer.move_corner("T5", "TL", 70, 220)
    assert list(explorer.figure.layout.xaxis.range) == [50, 90]
    assert list(explorer.snapshot().layout.yaxis.range) == [300, 200]
    explorer.show_mode(0)
    assert list(explorer.figure.layout.xaxis.range) == [0, 384]


# What is refused


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stage", 7, r"stage 7 is outside 0\.\.6"),
        ("level", 17, r"level 17 is outside 0\.\.16"),
        ("corner", 5, r"corner 5 is outside 0\.\.4"),
        ("mode", 99, r"mode 99 is outside 0\.\."),
        ("sigmas", 3.5, r"sigmas 3.5 is outside -3\.\.3"),
        ("sigmas", float("nan"), "sigmas nan is outside"),
        ("window", (0.9, 0.1), "expected 0 <= low < high <= 1"),
        ("gamma", -1.0, "expected 0.1 to 10"),
    ],
)
def test_a_state_outside_its_range_is_refused(
    explorer: SpineExplorer, name: str, value: Any, words: str
) -> None:
    before = getattr(explorer, name)
    with pytest.raises(InvalidInputError, match=words):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_names_that_do_not_exist_are_refused(explorer: SpineExplorer) -> None:
    with pytest.raises(UnknownNameError, match="unknown layer 'outline'; did you mean 'outlines'"):
        explorer.layers = ("outline",)
    with pytest.raises(UnknownNameError, match="unknown vertebra 'T13'"):
        explorer.select("T13")
    with pytest.raises(UnknownNameError, match="unknown corner 'centre'"):
        explorer.move_corner("T1", "centre", 1, 1)
    with pytest.raises(UnknownNameError, match="unknown landmark 'LT'"):
        explorer.pick("T1", "LT")
    with pytest.raises(traitlets.TraitError, match="'view' trait of a SpineExplorer"):
        explorer.view = "movie"
    with pytest.raises(
        InvalidInputError, match=r"vertebra 17 is outside 0\.\.16; or type a name such as 'T1'"
    ):
        explorer.select(17)


@pytest.mark.parametrize("place", [(-1, 5), (5, -1), (5000, 5), (5, 5000), (float("nan"), 5)])
def test_a_landmark_stays_inside_the_radiograph(
    explorer: SpineExplorer, place: tuple[float, float], found: SpinePrediction
) -> None:
    with pytest.raises(InvalidInputError, match="is outside the radiograph"):
        explorer.move_corner("T1", "TL", *place)
    assert explorer.result is found


def test_another_image_than_the_predicted_one_is_refused(found: SpinePrediction) -> None:
    with pytest.raises(InvalidInputError, match=r"the radiograph is \(100, 80\), the prediction is for"):
        SpineExplorer(np.zeros((100, 80)), found)


def test_a_radiograph_from_a_file_may_be_smaller_than_its_landmarks(
    film: Phantom, found: SpinePrediction, cascade: example.Cascade
) -> None:
    half = replace(from_array(film.image[::2, ::2].copy()), scale=0.5, size=found.size)
    explorer = SpineExplorer(half, found, cascade=cascade, display=Display(invert=True))
    assert explorer.invert
    assert explorer.message.value == ""
    assert explorer.figure.layout.images[0].sizex == film.image.shape[1]
    explorer.move_centre(3, *found.centres[3])
    assert cascade.asked[0][0] is half
