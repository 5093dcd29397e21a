"""Widgets: their figure follows their state, their controls follow it both ways, and failures are seen."""

from __future__ import annotations

import json
from typing import Any

import ipywidgets
import plotly.graph_objects as go
import pytest
import torch
import traitlets
from torch import Tensor

from workbench.editing import EditTrajectory
from workbench.editing.masks import SoftMasks
from workbench.errors import InvalidInputError
from workbench.figures import edit_step, mask_comparison, mask_heatmap
from workbench.widgets import EditStepper, MaskExplorer, _explorer
from workbench.widgets._explorer import Explorer, show


def plain(figure: go.Figure) -> Any:
    """A figure as plain values, without the identifiers that live figures give their traces."""
    values = json.loads(go.Figure(figure.data, figure.layout).to_json())
    for trace in values["data"]:
        trace.pop("uid", None)
    return values


def same(a: go.Figure, b: go.Figure) -> bool:
    return bool(plain(a) == plain(b))


def control(widget: Explorer, kind: type) -> Any:
    return next(child for child in widget.children[0].children if isinstance(child, kind))


def test_a_widget_has_one_live_figure(stepper: EditStepper, explorer: MaskExplorer) -> None:
    for widget in (stepper, explorer):
        live = [child for child in widget.children if isinstance(child, go.FigureWidget)]
        assert live == [widget.figure]
        assert type(widget.snapshot()) is go.Figure


def test_the_live_figure_follows_every_step(
    stepper: EditStepper, trajectory: EditTrajectory, images: Tensor
) -> None:
    traces = stepper.figure.data
    titles = [f"n{i}" for i in range(6)]
    for step in (1, 4, 2, 0):
        stepper.go_to(step)
        expected = edit_step(trajectory, step, images[:6], images[6:], titles)
        assert same(stepper.snapshot(), expected)
        assert same(stepper.figure, expected)
    assert all(a is b for a, b in zip(traces, stepper.figure.data, strict=True))  # updated in place


def test_stepping_stays_inside_the_edit(stepper: EditStepper) -> None:
    stepper.back()
    assert stepper.step == 0
    stepper.forward()
    assert stepper.step == 1
    stepper.go_to(-1)
    stepper.forward()
    assert stepper.step == 4
    for step in (5, -6):
        with pytest.raises(InvalidInputError, match=r"step -?\d is outside 0\.\.4: the edit took 4 updates"):
            stepper.go_to(step)
    with pytest.raises(traitlets.TraitError, match="'step' trait of an EditStepper instance expected an int"):
        stepper.step = "three"
    assert stepper.step == 4


@pytest.mark.parametrize("kind", [ipywidgets.IntSlider, ipywidgets.Play])
def test_the_steppers_controls_and_state_are_one(stepper: EditStepper, kind: type) -> None:
    knob = control(stepper, kind)
    assert (knob.min, knob.max, knob.value) == (0, 4, 0)
    knob.value = 3
    assert stepper.step == 3
    assert "Step 3 of 4" in stepper.figure.layout.title.text
    stepper.go_to(1)
    assert knob.value == 1


def test_sliders_draw_on_release_only(stepper: EditStepper, explorer: MaskExplorer) -> None:
    assert control(stepper, ipywidgets.IntSlider).continuous_update is False
    assert control(explorer, ipywidgets.FloatSlider).continuous_update is False


def test_moving_a_widget_computes_no_gradient_and_runs_no_model(
    stepper: EditStepper, explorer: MaskExplorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a widget computed something")

    monkeypatch.setattr(torch.autograd, "grad", forbidden)
    monkeypatch.setattr(torch.nn.Module, "__call__", forbidden)
    stepper.go_to(3)
    explorer.compare(1)
    assert stepper.message.value == explorer.message.value == ""


def test_a_stepper_refuses_images_that_were_not_evaluated(trajectory: EditTrajectory, images: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="5 images of the group for 6 images"):
        EditStepper(trajectory, images[:5])


def test_a_stepper_needs_no_neighbours(trajectory: EditTrajectory) -> None:
    stepper = EditStepper(trajectory)
    stepper.go_to(2)
    assert same(stepper.figure, edit_step(trajectory, 2))


def test_the_explorer_shows_the_mask_at_its_state(
    explorer: MaskExplorer, soft: SoftMasks, images: Tensor
) -> None:
    explorer.look_at(1)
    explorer.sparsity = 0.5
    mask = SoftMasks(soft.values[1:2], soft.space).binarize(0.5)
    assert torch.equal(explorer.mask().bits, mask.bits)
    expected = mask_heatmap(mask, "Mask of bee", [(images[1], "bee")])
    assert same(explorer.figure, expected)
    explorer.compare(2)
    other = SoftMasks(soft.values[2:], soft.space).binarize(0.5)
    pictures = [(images[1], "bee"), (images[2], "crab")]
    assert same(explorer.figure, mask_comparison(mask, other, ("bee", "crab"), "bee and crab", pictures))
    explorer.compare(None)
    assert same(explorer.figure, expected)


def test_the_explorers_controls_and_state_are_one(explorer: MaskExplorer) -> None:
    slider = control(explorer, ipywidgets.FloatSlider)
    first, second = (c for c in explorer.children[0].children if isinstance(c, ipywidgets.Dropdown))
    slider.value, first.value, second.value = 0.25, 2, 1
    assert (explorer.sparsity, explorer.image, explorer.other) == (0.25, 2, 1)
    explorer.compare(None)
    explorer.sparsity = 0.75
    assert (slider.value, second.value) == (0.75, None)


def test_the_explorer_refuses_what_is_not_there(
    explorer: MaskExplorer, soft: SoftMasks, images: Tensor
) -> None:
    with pytest.raises(InvalidInputError, match=r"sparsity 1.0 is outside \[0, 1\)"):
        explorer.sparsity = 1.0
    with pytest.raises(InvalidInputError, match=r"image 3 is outside 0\.\.2: there are 3 images"):
        explorer.look_at(3)
    with pytest.raises(InvalidInputError, match=r"other -1 is outside 0\.\.2"):
        explorer.compare(-1)
    with pytest.raises(InvalidInputError, match="3 masks, 2 images and 3 titles; give one of each an image"):
        MaskExplorer(soft, images[:2], ["a", "b", "c"])
    with pytest.raises(InvalidInputError, match=r"sparsity 90.0 is outside .*for 90 % type 0.9"):
        MaskExplorer(soft, images[:3], ["a", "b", "c"], sparsity=90)


def test_an_unknown_keyword_is_an_error(soft: SoftMasks, images: Tensor, trajectory: EditTrajectory) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'sparsety'"):
        MaskExplorer(soft, images[:3], ["a", "b", "c"], sparsety=0.5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        EditStepper(trajectory, speed=3)  # type: ignore[call-arg]


def test_a_repr_is_short(stepper: EditStepper, explorer: MaskExplorer) -> None:
    stepper.go_to(2)
    assert repr(stepper) == "EditStepper(step 2 of 4)"
    assert repr(explorer) == "MaskExplorer('ant', sparsity 0.90)"
    explorer.compare(1)
    assert repr(explorer) == "MaskExplorer('ant' beside 'bee', sparsity 0.90)"


def test_a_failure_in_a_callback_is_seen_and_goes_away(
    explorer: MaskExplorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plain(explorer.figure)
    with monkeypatch.context() as broken:
        broken.setattr(
            MaskExplorer,
            "snapshot",
            lambda _: (_ for _ in ()).throw(RuntimeError("<b>the disk</b> is on fire")),
        )
        explorer.look_at(1)
    assert "RuntimeError: &lt;b&gt;the disk&lt;/b&gt; is on fire" in explorer.message.value
    assert plain(explorer.figure) == before
    explorer.look_at(2)
    assert explorer.message.value == ""


def answer(widget: Explorer) -> None:
    """What a page sends when it has drawn the figure."""
    widget.figure._js2py_traceDeltas = {"trace_deltas": [], "trace_edit_id": 0}


def test_a_page_that_is_drawing_is_not_disturbed_and_catches_up(explorer: MaskExplorer) -> None:
    before = plain(explorer.figure)
    explorer._repr_mimebundle_()
    explorer.look_at(1)
    assert plain(explorer.figure) == before
    assert not same(explorer.snapshot(), explorer.figure)
    answer(explorer)
    assert explorer.figure.layout.autosize is True
    explorer.figure.layout.autosize = None
    assert same(explorer.snapshot(), explorer.figure)
    explorer.look_at(2)
    assert same(explorer.snapshot(), explorer.figure)


def test_a_page_that_never_answers_is_waited_for_in_vain_only_for_a_while(
    explorer: MaskExplorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    explorer._repr_mimebundle_()
    monkeypatch.setattr(_explorer, "_PATIENCE", 0.0)
    explorer.look_at(1)
    assert same(explorer.snapshot(), explorer.figure)


def test_the_width_stays_the_page_s(explorer: MaskExplorer) -> None:
    explorer._repr_mimebundle_()
    answer(explorer)
    explorer.look_at(1)
    assert explorer.figure.layout.autosize is True


def test_showing_sends_only_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    widget = go.FigureWidget()
    first = go.Figure([go.Bar(y=[1, 2]), go.Bar(y=[3, 4])], {"title": {"text": "one"}})
    show(widget, first)
    sent: list[Any] = []
    monkeypatch.setattr(type(widget), "_send_update_msg", lambda _, **message: sent.append(message))
    show(widget, first)
    assert sent == []
    show(widget, go.Figure([go.Bar(y=[1, 2]), go.Bar(y=[3, 5])], {"title": {"text": "one"}}))
    assert sent == [{"restyle_data": {"y": [[3, 5]]}, "relayout_data": {}, "trace_indexes": [1]}]


def test_showing_another_kind_of_figure_replaces_the_traces() -> None:
    widget = go.FigureWidget()
    show(widget, go.Figure([go.Bar(y=[1, 2])], {"title": {"text": "one"}}))
    after = go.Figure([go.Scatter(y=[1]), go.Bar(y=[3])], {"xaxis": {"range": [0, 1]}})
    show(widget, after)
    assert same(widget, after)
