"""Drawn AP spine radiographs with exact corners: geometry, anatomy, film and display.

Source: specification, sections 7.2 to 7.4. They are phantoms: easier than films, and never to be named beside results
on real ones without saying so.
"""

from workbench.data.phantom.geometry import SpineGeometry, build, chain, draw_geometry
from workbench.data.phantom.render import Level, Phantom, phantom, render

#: Grows when pixels of `phantom` change; caches carry it.
PHANTOM_VERSION = 2

__all__ = [
    "PHANTOM_VERSION",
    "Level",
    "Phantom",
    "SpineGeometry",
    "build",
    "chain",
    "draw_geometry",
    "phantom",
    "render",
]
