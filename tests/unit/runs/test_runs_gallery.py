"""The gallery and the notebook pages, read back from their HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import plotly.graph_objects as go
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from workbench.errors import InvalidInputError
from workbench.runs import headline, run_notebook, write_gallery
from workbench.runs.notebooks import NotebookRun
from workbench.runs.outputs import GALLERY_TAG, PLOTLY_MIME, figures_of, headline_of, title_of
from workbench.runs.pages import figure_html, write_notebook_page


class Page(HTMLParser):
    """What a page holds: its scripts with their attributes, what it would load, its links and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._open = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        values = dict(attrs)
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif values.get("src") or tag == "link":
            self.loads.append(values.get("src") or values.get("href") or "")
        if tag == "script":
            self.scripts.append((values, ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)
        elif self._open != "style":
            self.text += data

    @property
    def figures(self) -> list[dict[str, Any]]:
        return [
            json.loads(text)
            for attributes, text in self.scripts
            if attributes.get("type") == "application/json"
        ]

    @property
    def copies_of_plotly(self) -> int:
        return sum(
            text.count("plotly.js v") for attributes, text in self.scripts if not attributes.get("type")
        )


def figure_output(figure: go.Figure) -> NotebookNode:
    return new_output("display_data", data={PLOTLY_MIME: json.loads(figure.to_json())})


def bar(name: str) -> NotebookNode:
    return figure_output(go.Figure(go.Bar(y=[1, 2], name=name)))


@pytest.fixture
def executed() -> NotebookNode:
    """An executed notebook with two figures, a widget and headline numbers."""
    numbers = headline({"locality": 0.87346, "a <i> label": None})._repr_mimebundle_()
    widget = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "text/plain": "Explorer()",
    }
    return new_notebook(
        cells=[
            new_markdown_cell("# Where to *edit* <b>"),
            new_markdown_cell("Which units change? <script>alert(1)</script>"),
            new_code_cell("import this"),
            new_code_cell("first()", outputs=[bar("</script><b>first")]),
            new_code_cell("second()", outputs=[bar("second")]),
            new_code_cell("numbers()", outputs=[new_output("execute_result", data=numbers)]),
            new_code_cell("widget()", outputs=[new_output("display_data", data=widget)]),
        ]
    )


@pytest.fixture
def run(executed: NotebookNode, tmp_path: Path) -> NotebookRun:
    path = tmp_path / "out" / "where.ipynb"
    path.parent.mkdir()
    nbformat.write(executed, path)
    return NotebookRun("where", path, {"style": "<noto>", "seed": 3}, headline_of(executed), 12.3)


def test_reads_title_numbers_and_figures(executed: NotebookNode) -> None:
    assert title_of(executed) == "Where to *edit* <b>"
    assert headline_of(executed) == {"locality": 0.87346, "a <i> label": None}
    shown = figures_of(executed)
    assert [figure.figure["data"][0]["name"] for figure in shown] == ["</script><b>first", "second"]
    assert [figure.caption[:11] for figure in shown] == ["Which units", ""]


def test_tagged_cells_stand_for_the_notebook(executed: NotebookNode) -> None:
    executed.cells[4].metadata["tags"] = [GALLERY_TAG]
    assert [figure.figure["data"][0]["name"] for figure in figures_of(executed)] == ["second"]


def test_gallery_holds_figures_numbers_and_captions(run: NotebookRun) -> None:
    path = write_gallery([run], run.path.parent, title="A <title>")
    page = Page(path)
    assert path == run.path.parent / "index.html"
    assert [figure["data"][0]["name"] for figure in page.figures] == ["</script><b>first", "second"]
    for words in (
        "A <title>",
        "Where to *edit* <b>",
        "Which units change?",
        "0.873",
        "a <i> label",
        "<noto>",
    ):
        assert words in page.text
    assert not [text for _, text in page.scripts if "alert(1)" in text]


def test_gallery_needs_no_network_and_carries_plotly_once(run: NotebookRun) -> None:
    page = Page(write_gallery([run, run], run.path.parent))
    assert page.loads == []
    assert page.copies_of_plotly == 1
    assert len(page.figures) == 4


def test_links_of_the_gallery_lead_to_files(run: NotebookRun, tmp_path: Path) -> None:
    page = Page(write_gallery([run], tmp_path))
    files = [link for link in page.links if not link.startswith("#")]
    assert sorted(files) == ["out/where.html", "out/where.ipynb"]
    assert all((tmp_path / link).is_file() for link in files)


def test_gallery_without_figures_has_no_scripts(run: NotebookRun) -> None:
    nbformat.write(new_notebook(cells=[new_markdown_cell("No heading")]), run.path)
    page = Page(write_gallery([run], run.path.parent))
    assert page.scripts == []
    assert "where" in page.text


def test_gallery_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="a gallery needs at least one executed notebook, got none"):
        write_gallery([], tmp_path)


def test_notebook_page_is_whole_and_offline(run: NotebookRun) -> None:
    target = write_notebook_page(run.path, run.path.with_suffix(".html"))
    page = Page(target)
    assert page.loads == []
    assert page.copies_of_plotly == 1
    assert [figure["data"][0]["name"] for figure in page.figures] == ["</script><b>first", "second"]
    assert "Explorer()" in page.text
    assert "0.873" in page.text
    assert not re.search(
        r"<script[^>]*src=|import\(|@import|require\.min\.js|mathjax", own_markup(target), re.I
    )


def own_markup(path: Path) -> str:
    """A page without plotly.js, whose text names sites that it does not load."""
    return re.sub(r"<script>.*?plotly\.js v.*?</script>", "", path.read_text(encoding="utf-8"), flags=re.S)


def test_figure_markup_survives_anything_in_the_figure() -> None:
    figure = {"data": [{"text": "</script><!-- <script>"}], "layout": {"height": 320}, "config": {"x": 1}}
    html = figure_html(figure)
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert json.loads(text) == {"data": figure["data"], "layout": figure["layout"]}
    assert html.count("</script") == 1
    assert "height: 320px" in html


def test_from_running_to_gallery(make_notebook: Callable[..., Path], tmp_path: Path) -> None:
    """A figure shown by a cell in a real kernel arrives in the gallery as data, not as a second plotly.js."""
    show = "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[count], name=text))"
    folder = make_notebook("tiny", ("markdown", "A caption"), ("code", show))
    run = run_notebook("tiny", {"text": "mine"}, tmp_path / "out", folder=folder, progress=False)
    assert run.path.stat().st_size < 100_000
    page = Page(write_gallery([run], tmp_path / "out"))
    assert [figure["data"][0]["name"] for figure in page.figures] == ["mine"]
    assert "A caption" in page.text
    assert page.copies_of_plotly == 1
