"""The look that all figures share: readable on a light and on a dark page, and with any colour vision.

Pages are transparent and text is a grey of equal contrast (4.3) on white and on JupyterLab's dark background. All of
it sits in the figure's template, so that a page that knows its own colours can put them there instead.
"""

from __future__ import annotations

import plotly.graph_objects as go

#: Okabe and Ito's colours, told apart with any colour vision, and a violet that stands out from all of them.
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PINK, VIOLET = "#56B4E9", "#CC79A7", "#A64DCB"

TEXT = "#737984"
GREY = "#8b9099"
FAINT = "rgba(128, 132, 140, 0.16)"
LINE = "rgba(128, 132, 140, 0.30)"
CLEAR = "rgba(0, 0, 0, 0)"

#: What a colour means, wherever it appears.
RIGHT, WRONG = BLUE, RED

SMALL = 11  # points, for captions and notes; axes and legends have 12, text 13

_AXIS = {
    "gridcolor": LINE,
    "linecolor": LINE,
    "zeroline": False,
    "ticks": "",
    "tickfont": {"size": 12},
    "title": {"font": {"size": 12}, "standoff": 6},
}

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": {"family": "Inter, system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": TEXT},
        "colorway": [BLUE, RED, GREEN, PINK, ORANGE, SKY],
        "title": {"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 12},
                  "font": {"size": 16}},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {"bgcolor": "#24282e", "bordercolor": "#24282e", "font": {"color": "#ffffff", "size": 12}},
        "annotationdefaults": {"showarrow": False, "font": {"size": SMALL}},
        "imagedefaults": {"xanchor": "left", "yanchor": "top", "sizing": "contain", "layer": "below"},
        "margin": {"l": 56, "r": 16, "t": 56, "b": 44},
        "hovermode": "closest",
    }
)  # fmt: skip


def title_text(title: str, note: str = "") -> str:
    """A bold title with a quieter note behind it."""
    return f"<b>{title}</b>" + (f"   <span style='font-size:13px'>{note}</span>" if note else "")
