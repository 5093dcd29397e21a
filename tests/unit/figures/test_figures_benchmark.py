"""Figures of the editing benchmark: what they show, what they refuse, and the look that all figures share."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from workbench import figures
from workbench.errors import InvalidInputError
from workbench.figures import _theme
from workbench.figures._editors import _LOOKS, looks_of

EDITORS = ("learned-mask", "ft", "rome")
STYLES = ("openmoji", "emojione-monotone", "fluent-emoji-high-contrast", "fluent-emoji (views)")


@pytest.fixture
def cells() -> pd.DataFrame:
    """Sweeps of three editors in four styles."""
    rows = [
        {"style": style, "editor": editor, "position": p, "setting": f"strength {p}", "edits": 9}
        | {"gr": 0.4 + 0.1 * p, "gr_low": 0.3 + 0.1 * p, "gr_high": 0.5 + 0.1 * p}
        | {"lr": 0.9 - 0.1 * p - 0.05 * i, "lr_low": 0.8 - 0.1 * p, "lr_high": 0.95 - 0.1 * p}
        for style in STYLES
        for i, editor in enumerate(EDITORS)
        for p in range(5)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def areas() -> pd.DataFrame:
    """The first is the reference; the second cannot be told from it, the third is behind, the fourth ahead."""
    table = pd.DataFrame({"editor": ["learned-mask", "ft", "rome", "mend"], "area": [0.8, 0.79, 0.6, 0.9]})
    table = table.assign(area_low=table["area"] - 0.05, area_high=table["area"] + 0.05)
    table = table.assign(difference=0.8 - table["area"])
    return table.assign(difference_low=table["difference"] - 0.03, difference_high=table["difference"] + 0.03)


@pytest.fixture
def windows() -> pd.DataFrame:
    rows = [
        {"kind": kind, "blocks": [b, b + 1, b + 2], "area": 0.6 + 0.02 * b, "area_low": 0.5, "area_high": 0.9}
        for kind in ("attention", "feed-forward")
        for b in range(10)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def many() -> pd.DataFrame:
    rows = [
        {
            "way": way,
            "editor": editor,
            "count": n,
            "earlier": None if n == 1 else 0.9,
            "gr": 0.7,
            "lr": 1 - 0.01 * n,
        }
        for way in ("sequence", "sum", "batch")
        for editor in EDITORS
        for n in (1, 10, 50)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def differences() -> pd.DataFrame:
    rows = [
        {"sparsity": s}
        | {f"{q}{end}": 0.1 + d for q in ("gr", "lr") for end, d in (("", 0), ("_low", -1), ("_high", 1))}
        for s in (0.25, 0.95)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def drawn(
    cells: pd.DataFrame,
    areas: pd.DataFrame,
    windows: pd.DataFrame,
    many: pd.DataFrame,
    differences: pd.DataFrame,
) -> dict[str, Callable[[], go.Figure]]:
    held = np.eye(16, dtype=bool)
    return {
        "pareto_fronts": lambda: figures.pareto_fronts(cells),
        "pareto_areas": lambda: figures.pareto_areas(areas),
        "window_heatmap": lambda: figures.window_heatmap(windows, (7, 8, 9)),
        "sequential_curves": lambda: figures.sequential_curves(many),
        "density_curves": lambda: figures.density_curves(differences),
        "conflict_matrix": lambda: figures.conflict_matrix(held, held, ["x"] * 16),
    }


NAMES = (
    "pareto_fronts",
    "pareto_areas",
    "window_heatmap",
    "sequential_curves",
    "density_curves",
    "conflict_matrix",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_small_and_the_same_twice(name: str, drawn: dict[str, Callable[[], go.Figure]]) -> None:
    text = drawn[name]().to_json()
    assert text == drawn[name]().to_json()
    assert len(text) < 60_000
    json.loads(text)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_leaves_page_and_text_to_its_template(
    name: str, drawn: dict[str, Callable[[], go.Figure]]
) -> None:
    layout = drawn[name]().layout
    assert layout.template.layout.paper_bgcolor == _theme.CLEAR
    assert layout.paper_bgcolor is None
    assert layout.font.color is None
    assert not [note.text for note in layout.annotations if note.font.color is not None]
    assert layout.width is None
    assert 200 < layout.height <= 800


def test_fronts_have_a_panel_a_style_and_one_legend(cells: pd.DataFrame) -> None:
    figure = figures.pareto_fronts(cells, {"ft": "Fine-tuning"})
    lines = [trace for trace in figure.data if trace.name]
    assert len(lines) == len(STYLES) * len(EDITORS)
    assert [trace.name for trace in lines if trace.showlegend] == ["learned-mask", "Fine-tuning", "rome"]
    widths = {trace.name: trace.line.width for trace in lines}
    assert widths["learned-mask"] > widths["Fine-tuning"] == widths["rome"]
    headings = [note.text for note in figure.layout.annotations]
    assert all(any(style in heading for heading in headings) for style in STYLES)


def test_a_front_goes_through_its_sweep_with_intervals_on_hovering(cells: pd.DataFrame) -> None:
    one = cells[cells["style"] == "openmoji"].drop(columns="style")
    figure = figures.pareto_fronts(one)
    learned = next(trace for trace in figure.data if trace.name == "learned-mask")
    assert list(learned.x) == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8])
    assert list(learned.text) == [f"strength {p}" for p in range(5)]
    assert list(learned.customdata[0]) == pytest.approx([0.3, 0.5, 0.8, 0.95])
    assert len({axis for trace in figure.data for axis in [trace.xaxis]}) == 1


def test_areas_tell_what_cannot_be_told_apart(areas: pd.DataFrame) -> None:
    figure = figures.pareto_areas(areas, {"learned-mask": "Learned mask"})
    own, apart = [
        trace for trace in figure.data if trace.mode == "markers" and trace.marker.symbol is not None
    ]
    assert list(own.y) == ["mend", "Learned mask", "ft", "rome"]  # the largest area first
    assert dict(zip(apart.y, apart.marker.symbol, strict=True)) == {
        "mend": "circle",
        "ft": "circle-open",
        "rome": "circle",
    }
    assert list(apart.x) == pytest.approx([-0.1, 0.01, 0.2])


def test_areas_without_a_reference_have_one_panel(areas: pd.DataFrame) -> None:
    alone = areas[["editor", "area", "area_low", "area_high"]]
    assert {trace.xaxis for trace in figures.pareto_areas(alone).data} == {"x"}


def test_windows_stand_in_order_and_the_default_is_framed(windows: pd.DataFrame) -> None:
    figure = figures.window_heatmap(windows.sample(frac=1, random_state=0), (7, 8, 9))
    (heat,) = figure.data
    assert list(heat.x) == [f"{b}–{b + 2}" for b in range(10)]
    assert list(heat.y) == ["feed-forward", "attention"]
    assert np.asarray(heat.z)[0, 3] == pytest.approx(0.66)
    (frame,) = figure.layout.shapes
    assert frame.path == "M6.5,-0.5H7.5V0.5H6.5Z"
    assert not figures.window_heatmap(windows).layout.shapes


def test_curves_leave_out_what_is_undefined(many: pd.DataFrame) -> None:
    figure = figures.sequential_curves(many)
    first = [trace for trace in figure.data if trace.xaxis == "x"]
    assert len(first) == 9
    assert all(list(trace.x) == [10, 50] for trace in first)  # before the first edit there is no earlier one
    assert all(list(trace.x) == [1, 10, 50] for trace in figure.data if trace.xaxis == "x2")
    dashes = {trace.name: trace.line.dash for trace in first}
    assert dashes["ft, in a row"] == "solid"
    assert len({trace.line.dash for trace in first if trace.name.startswith("ft")}) == 3


def test_density_is_one_minus_sparsity(differences: pd.DataFrame) -> None:
    gr, lr = figures.density_curves(differences).data
    assert list(gr.x) == [0.05, 0.75] == list(lr.x)
    assert list(gr.error_y.array) == [1, 1]


def test_conflicts_count_what_worked_and_is_undone(texts: Callable[[go.Figure], str]) -> None:
    held = [[1, 0, 1], [1, 1, 1], [0, 0, 0]]  # the third never worked, so nothing undoes it
    figure = figures.conflict_matrix(held, np.full((3, 3), 0.25), ["a", "b", "c"])
    assert "1 of 6 times an edit is undone by another; 25% of units shared" in texts(figure)
    assert np.asarray(figure.data[0].z).tolist() == held
    assert np.isnan(np.asarray(figure.data[1].z).diagonal()).all()


def test_every_editor_of_the_registry_has_a_look_of_its_own() -> None:
    from workbench.editing.editors import EDITORS as registry

    looks = looks_of(list(registry))
    assert set(registry) <= set(_LOOKS), "give the new editor a look"
    assert len({(look.colour, look.mark) for look in looks.values()}) == len(looks)
    others = looks_of(["a", "b"])
    assert others["a"] != others["b"]


BAD: list[tuple[str, Any, str]] = [
    ("pareto_fronts", (pd.DataFrame(),), "0 rows and lacks editor"),
    ("pareto_areas", (pd.DataFrame({"editor": ["a"], "area": [1]}),), "lacks area_low, area_high"),
    ("window_heatmap", (pd.DataFrame({"kind": ["a"]}),), "lacks area, area_high, area_low, blocks"),
    ("sequential_curves", (pd.DataFrame({"way": ["a"]}),), "lacks editor, count, earlier, gr, lr"),
    ("density_curves", (pd.DataFrame({"sparsity": [0.5]}),), "lacks gr, gr_low"),
    ("conflict_matrix", ([[1]], [[1]], ["a"]), r"1 names, survival of shape \(1, 1\)"),
    ("conflict_matrix", ([[1, 0]], [[1, 0]], ["a", "b"]), r"both are \(n, n\)"),
]


@pytest.mark.parametrize(("name", "given", "message"), BAD)
def test_what_cannot_be_drawn_is_refused(name: str, given: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        getattr(figures, name)(*given)


def test_figures_do_not_change_their_tables(
    cells: pd.DataFrame, areas: pd.DataFrame, many: pd.DataFrame
) -> None:
    before = copy.deepcopy((cells, areas, many))
    figures.pareto_fronts(cells)
    figures.pareto_areas(areas)
    figures.sequential_curves(many)
    for old, new in zip(before, (cells, areas, many), strict=True):
        pd.testing.assert_frame_equal(old, new)
