"""Figures: pure functions from a result to a plotly figure.

No function here changes what it is given, shows anything, or computes with a model. Figures are transparent and read
well on light and dark pages; images travel in them as small PNGs.

Example:
    >>> import workbench as wb
    >>> masks = wb.MaskHypernetwork.load("emoji_vit_s14")(model, failure.image)
    >>> wb.figures.mask_heatmap(masks.binarize(sparsity=0.9))
"""

from workbench.figures.course import class_probabilities, edit_course, weight_change
from workbench.figures.dashboard import edit_step, neighbours
from workbench.figures.images import cutmix_pairs, image_grid
from workbench.figures.masks import density_per_matrix, mask_comparison, mask_heatmap, nested_masks
from workbench.figures.overlap import MaskOverlap, iou_matrix, mask_overlap
from workbench.figures.population import accuracy_by_style, failure_group_sizes
from workbench.figures.training import training_curves

__all__ = [
    "MaskOverlap",
    "accuracy_by_style",
    "class_probabilities",
    "cutmix_pairs",
    "density_per_matrix",
    "edit_course",
    "edit_step",
    "failure_group_sizes",
    "image_grid",
    "iou_matrix",
    "mask_comparison",
    "mask_heatmap",
    "mask_overlap",
    "neighbours",
    "nested_masks",
    "training_curves",
    "weight_change",
]
