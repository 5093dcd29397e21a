"""The controls of the spine explorer, in groups that wrap on narrow pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets
import traitlets

from workbench.data.vertebrae import CORNERS, LEVELS
from workbench.figures import SPINE_LAYERS

_NARROW, _WIDE = {"width": "auto"}, {"width": "330px"}


class SpineControls:
    """Sliders, choices and buttons, linked to an explorer's traits by `link`.

    Args:
        stages: How many stages there are.
        modes: How many modes the shape model has; 0 for none, then nothing of it is offered.
    """

    def __init__(self, stages: int, modes: int) -> None:
        self.stage = ipywidgets.IntSlider(
            stages - 1, min=0, max=stages - 1, description="stage", continuous_update=False, layout=_WIDE
        )
        self.family = _choice(("official", "clinical", "none"), "angles")
        self.view = _choice(("film", "modes", "projection") if modes else ("film",), "show")
        self.level = ipywidgets.Dropdown(options=[("–", None), *_numbered(LEVELS)], description="vertebra")
        self.corner = ipywidgets.Dropdown(
            options=[("–", None), *_numbered((*CORNERS, "centre"))], description="pick"
        )
        for choice in (self.level, self.corner):
            choice.layout = {"width": "160px"}
        self.previous, self.next = _button("◀", "previous vertebra"), _button("▶", "next vertebra")
        self.undo, self.reset = (
            _button("undo", "take back the last move"),
            _button("reset", "take back all moves"),
        )
        self.window = ipywidgets.FloatRangeSlider(
            value=(0, 1), min=0, max=1, step=0.01, description="window", continuous_update=False, layout=_WIDE
        )
        self.gamma = ipywidgets.FloatSlider(
            1.0, min=0.3, max=3, step=0.1, description="gamma", continuous_update=False, layout=_WIDE
        )
        self.invert = ipywidgets.ToggleButton(False, description="invert", layout=_NARROW)
        self.mode = ipywidgets.IntSlider(
            0, min=0, max=max(0, modes - 1), description="mode", continuous_update=False, layout=_WIDE
        )
        self.sigmas = ipywidgets.FloatSlider(
            2.0, min=-3, max=3, step=0.1, description="σ", continuous_update=False, layout=_WIDE
        )
        self.layers = [
            ipywidgets.ToggleButton(False, description=name, layout=_NARROW) for name in SPINE_LAYERS
        ]
        self.modes = _group(self.mode, self.sigmas)
        self._writing = False

    def rows(self) -> list[ipywidgets.Widget]:
        """Everything, in the order in which it stands above the figure."""
        return [
            _group(self.view, self.stage, self.family),
            _group(self.level, self.previous, self.next, self.corner, self.undo, self.reset),
            _group(self.window, self.gamma, self.invert),
            _group(ipywidgets.Label("layers"), *self.layers),
            self.modes,
        ]

    def link(self, explorer: traitlets.HasTraits) -> None:
        """Make controls and traits one."""
        for name in (
            "stage",
            "family",
            "view",
            "level",
            "corner",
            "window",
            "gamma",
            "invert",
            "mode",
            "sigmas",
        ):
            traitlets.link((explorer, name), (getattr(self, name), "value"))
        for toggle in self.layers:
            toggle.observe(lambda _: self._read_layers(explorer), "value")
        explorer.observe(self._write_layers, "layers")
        explorer.observe(self._show_what_counts, "view")
        self._write_layers({"new": explorer.layers})  # type: ignore[attr-defined]
        self._show_what_counts({"new": explorer.view})  # type: ignore[attr-defined]

    def _read_layers(self, explorer: Any) -> None:
        if not self._writing:
            explorer.layers = tuple(toggle.description for toggle in self.layers if toggle.value)

    def _write_layers(self, change: Any) -> None:
        """Set all toggles; they are not read in between."""
        self._writing = True
        for toggle in self.layers:
            toggle.value = toggle.description in change["new"]
        self._writing = False

    def _show_what_counts(self, change: Any) -> None:
        self.modes.layout.display = "flex" if change["new"] == "modes" else "none"


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, i) for i, name in enumerate(names)]


def _choice(options: Sequence[str], description: str) -> ipywidgets.ToggleButtons:
    choice = ipywidgets.ToggleButtons(options=options, description=description)
    choice.style.button_width = "88px"
    choice.style.description_width = "50px"
    return choice


def _button(text: str, tooltip: str) -> ipywidgets.Button:
    return ipywidgets.Button(description=text, tooltip=tooltip, layout=_NARROW)


def _group(*parts: ipywidgets.Widget) -> ipywidgets.HBox:
    return ipywidgets.HBox(parts, layout={"flex_flow": "row wrap", "align_items": "center", "width": "100%"})
