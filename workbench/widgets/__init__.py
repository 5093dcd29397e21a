"""Widgets: a state, one live figure, and a static snapshot of it.

A widget draws results that were computed before; only a vertebra whose centre is moved is looked at again by its
cascade. Its state is in traits, which refuse what does not fit; what goes wrong while it draws is shown above its
figure.
"""

from workbench.widgets.masks import MaskExplorer
from workbench.widgets.spine import SpineExplorer
from workbench.widgets.stepper import EditStepper

__all__ = ["EditStepper", "MaskExplorer", "SpineExplorer"]
