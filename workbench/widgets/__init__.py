"""Widgets: a state, one live figure, and a static snapshot of it.

A widget computes nothing with a model: it draws results that were computed before. Its state is in traits, which
refuse what does not fit; what goes wrong while it draws is shown above its figure.
"""

from workbench.widgets.masks import MaskExplorer
from workbench.widgets.stepper import EditStepper

__all__ = ["EditStepper", "MaskExplorer"]
