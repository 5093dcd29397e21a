"""Figures of an edit show the trajectory's own numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from torch import Tensor

from workbench.editing import EditTrajectory
from workbench.errors import InvalidInputError
from workbench.figures import class_probabilities, edit_course, edit_step, neighbours, weight_change

Texts = Callable[[go.Figure], str]


def line(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def test_the_edit_of_these_tests_has_something_to_show(trajectory: EditTrajectory) -> None:
    assert trajectory.evaluation is not None
    assert len(trajectory) == 5
    assert len(trajectory.evaluation.broken(-1)) > 0


def test_the_course_holds_losses_and_scores(trajectory: EditTrajectory) -> None:
    figure = edit_course(trajectory)
    frame = trajectory.to_frame()
    assert figure.data[0].y == pytest.approx(frame["loss"].to_numpy(), rel=1e-3)
    for name, column in (("p(target)", "target_probability"), ("SR", "sr"), ("GR", "gr"), ("LR", "lr")):
        assert line(figure, name).y == pytest.approx(frame[column].to_numpy(), abs=1e-4)
    assert trajectory.outcome() in figure.layout.title.text
    assert [s.y0 for s in figure.layout.shapes] == [1e-4]  # the stopping loss


def test_the_course_without_an_evaluation_has_no_scores(trajectory: EditTrajectory) -> None:
    figure = edit_course(replace(trajectory, evaluation=None))
    assert [trace.name for trace in figure.data[1:]] == ["p(target)"]


def test_undefined_scores_are_left_out(trajectory: EditTrajectory) -> None:
    assert trajectory.evaluation is not None
    scores = tuple(replace(s, gr=None) for s in trajectory.evaluation.scores)
    figure = edit_course(replace(trajectory, evaluation=replace(trajectory.evaluation, scores=scores)))
    assert "GR" not in [trace.name for trace in figure.data]


def test_a_marked_step_is_marked_in_both_panels(trajectory: EditTrajectory) -> None:
    figure = edit_course(trajectory, step=2)
    assert [s.x0 for s in figure.layout.shapes if s.x0 == s.x1] == [2, 2]
    dot = next(t for t in figure.data if t.mode == "markers")
    assert (dot.x[0], dot.y[0]) == (2, pytest.approx(float(trajectory.losses[2])))


def test_probabilities_keep_their_classes_from_step_to_step(trajectory: EditTrajectory) -> None:
    figures = [class_probabilities(trajectory, step, top=4) for step in range(5)]
    assert len({tuple(f.data[0].y) for f in figures}) == 1
    names = list(figures[0].data[0].y)
    assert trajectory.target_name in names
    for step, figure in enumerate(figures):
        expected = [trajectory.probabilities[step, trajectory.class_names.index(n)] for n in names]
        assert figure.data[0].x == pytest.approx(np.array(expected), abs=1e-4)
        before = [trajectory.probabilities[0, trajectory.class_names.index(n)] for n in names]
        assert figure.data[1].x == pytest.approx(np.array(before), abs=1e-4)


def test_weight_change_shows_where_and_how_far(trajectory: EditTrajectory) -> None:
    assert trajectory.row_change is not None
    figure = weight_change(trajectory, 2)
    shown = np.stack([t.z.ravel() for t in figure.data])
    assert np.array_equal(shown > 0, trajectory.row_change[2].numpy() > 0)
    scale = float(trajectory.row_change.max())
    assert shown == pytest.approx(100 * trajectory.row_change[2].numpy() / scale, abs=1.001)
    assert not np.stack([t.z for t in weight_change(trajectory, 0).data]).any()


def test_weight_change_needs_a_record(trajectory: EditTrajectory) -> None:
    with pytest.raises(
        InvalidInputError, match=r"did not keep its weight changes; call Editor.edit\(…, record=True\)"
    ):
        weight_change(replace(trajectory, row_change=None))


@pytest.mark.parametrize("draw", [class_probabilities, weight_change, edit_course, edit_step, neighbours])
def test_a_step_outside_the_edit_is_an_error(
    draw: Callable[..., go.Figure], trajectory: EditTrajectory
) -> None:
    for step in (5, -6):
        with pytest.raises(
            InvalidInputError, match=rf"step {step} is outside 0\.\.4: the edit took 4 updates"
        ):
            draw(trajectory, step)


def test_the_dashboard_says_what_the_image_was_and_is_taken_for(
    trajectory: EditTrajectory, texts: Texts
) -> None:
    text = texts(edit_step(trajectory, -1))
    assert "Step 4 of 4" in text
    assert f"wanted: <b>{trajectory.target_name}</b>" in text
    assert f"before: {trajectory.predicted_name(0)}" in text
    right = trajectory.predicted_name() == trajectory.target_name
    assert f"now: {trajectory.predicted_name()} {'✓' if right else '✗'}" in text


def test_the_dashboards_strips_add_up_to_the_change_of_each_matrix(trajectory: EditTrajectory) -> None:
    assert trajectory.row_change is not None
    strips = next(t for t in edit_step(trajectory, 3).data if t.type == "heatmap")
    whole = trajectory.row_change[3].norm(dim=1).numpy()
    assert np.linalg.norm(strips.z, axis=1) == pytest.approx(whole, rel=1e-4)


def test_every_step_has_the_same_traces(trajectory: EditTrajectory, group: Tensor, protected: Tensor) -> None:
    """So a live figure can be updated in place."""
    kinds = {
        tuple((t.type, t.name) for t in edit_step(trajectory, s, group, protected).data) for s in range(5)
    }
    assert len(kinds) == 1


def badges(figure: go.Figure) -> list[str]:
    return [
        text
        for t in figure.data
        if t.type == "scatter" and t.marker.symbol == "square"
        for text in t.text or ()
    ]


def test_neighbours_are_marked_as_the_evaluation_says(
    trajectory: EditTrajectory, group: Tensor, protected: Tensor, texts: Texts
) -> None:
    found = trajectory.evaluation
    assert found is not None
    for step in range(5):
        figure = neighbours(trajectory, step, group, protected, [f"n{i}" for i in range(6)])
        order = [2, 0, 1, 3, 4, 5]  # the edited image comes first
        right = ["✓" if i in found.fixed(step) else "✗" for i in order]
        assert badges(figure)[:6] == right
        broken = len(found.broken(step))
        assert badges(figure)[6:].count("✗") == broken
        assert f"<b>{len(found.fixed(step))} of 6 right</b>" in texts(figure)
        assert f"<b>{broken} of 6 changed</b>" in texts(figure)
        assert "<b>edited</b><br>n2" in texts(figure)


def test_protected_images_that_break_come_first_and_stay_in_place(
    trajectory: EditTrajectory, protected: Tensor
) -> None:
    figures = [neighbours(trajectory, step, None, protected) for step in range(5)]
    assert len({tuple(image.source for image in f.layout.images) for f in figures}) == 1
    assert badges(figures[-1])[0] == "✗"


def test_neighbours_need_an_evaluation_and_as_many_images(
    trajectory: EditTrajectory, group: Tensor, protected: Tensor
) -> None:
    with pytest.raises(InvalidInputError, match="neighbours need an evaluated edit and images"):
        neighbours(replace(trajectory, evaluation=None), -1, group)
    with pytest.raises(InvalidInputError, match="neighbours need an evaluated edit and images"):
        neighbours(trajectory)
    with pytest.raises(InvalidInputError, match="5 images of the group for 6 images"):
        neighbours(trajectory, -1, group[:5])
    with pytest.raises(InvalidInputError, match="1 titles for 6 images"):
        neighbours(trajectory, -1, group, titles=["a"])
    with pytest.raises(InvalidInputError, match="3 protected images for 6 images"):
        edit_step(trajectory, -1, None, protected[:3])
