"""Pages that open from disk: executed notebooks as HTML, and what all pages need to draw figures."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from markupsafe import Markup
from nbformat import NotebookNode

from workbench.files import write_text
from workbench.runs.outputs import PLOTLY_MIME, figures_of

PAGES = Path(__file__).parent

_USUAL_HEIGHT = 440  # pixels, for figures that set none

# What a page can show, best first; widgets are left out, for they need a kernel.
_SHOWN_TYPES = (
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/latex",
    "text/plain",
)


def figure_html(figure: dict[str, Any]) -> Markup:
    """The HTML of one plotly figure; the page's script draws it (`drawing_scripts`)."""
    # Inside <script> nothing is unescaped, and only `<` could end it.
    text = json.dumps({key: figure[key] for key in ("data", "layout", "frames") if key in figure})
    text = text.replace("<", "\\u003c")
    height = int(figure.get("layout", {}).get("height") or _USUAL_HEIGHT)
    return Markup(
        f'<div class="figure"><div class="plot" style="height: {height}px"></div>'
        f'<script type="application/json">{text}</script></div>'
    )


@cache
def drawing_scripts() -> dict[str, Markup]:
    """The two scripts that draw the figures of a page: ``plotly_js`` (4.8 MB) and ``figures_js``."""
    from plotly.offline import get_plotlyjs

    return {"plotly_js": Markup(get_plotlyjs()), "figures_js": page_part("figures.js")}


def page_part(name: str) -> Markup:
    """The text of a file beside this module, safe to put into a page as it is."""
    return Markup((PAGES / name).read_text(encoding="utf-8"))


def write_notebook_page(source: str | Path, target: str | Path) -> Path:
    """Export an executed notebook as one HTML file that needs no server and no network.

    Figures stay interactive. Widgets, which need a kernel, show what they print instead.

    Args:
        source: an executed notebook.
        target: the HTML file to write; replaced if it exists.

    Example:
        >>> write_notebook_page("runs/demo/00_tour.ipynb", "runs/demo/00_tour.html")
        PosixPath('runs/demo/00_tour.html')
    """
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    notebook = nbformat.read(source, as_version=4)
    resources: dict[str, Any] = {"metadata": {"name": Path(source).stem}}
    if figures_of(notebook):
        resources |= drawing_scripts()
    exporter = HTMLExporter(
        config=Config({"NbConvertBase": {"display_data_priority": list(_SHOWN_TYPES)}}),
        extra_template_paths=[str(PAGES)],
        template_file="notebook.html.j2",
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(_with_figures_as_html(notebook), resources=resources)
    return write_text(target, body)


def _with_figures_as_html(notebook: NotebookNode) -> NotebookNode:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if PLOTLY_MIME in output.get("data", {}):
                output.data["text/html"] = figure_html(output.data[PLOTLY_MIME])
    return notebook
