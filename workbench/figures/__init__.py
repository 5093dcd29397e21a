"""Figures: pure functions from a result to a plotly figure.

No function here changes what it is given, shows anything, or computes with a model. Figures are transparent and read
well on light and dark pages; images travel in them as small PNGs or WebPs.

Example:
    >>> import workbench as wb
    >>> masks = wb.MaskHypernetwork.load("emoji_vit_s14")(model, failure.image)
    >>> wb.figures.mask_heatmap(masks.binarize(sparsity=0.9))
"""

from workbench.figures._pictures import png_uri
from workbench.figures._radiograph import Display
from workbench.figures._spine_layers import LAYERS as SPINE_LAYERS
from workbench.figures.conflicts import conflict_matrix
from workbench.figures.course import class_probabilities, edit_course, weight_change
from workbench.figures.dashboard import edit_step, neighbours
from workbench.figures.edit_outcome import change_lengths, judged_images
from workbench.figures.images import cutmix_pairs, image_grid
from workbench.figures.masks import density_per_matrix, mask_comparison, mask_heatmap, nested_masks
from workbench.figures.overlap import MaskOverlap, iou_matrix, mask_overlap
from workbench.figures.pareto import pareto_areas, pareto_fronts
from workbench.figures.population import accuracy_by_style, failure_group_sizes
from workbench.figures.sequential import density_curves, sequential_curves
from workbench.figures.spine_angles import spine_clinical, spine_cobb
from workbench.figures.spine_errors import spine_agreement, spine_detection, spine_level_errors
from workbench.figures.spine_gallery import spine_gallery
from workbench.figures.spine_modes import spine_modes, spine_projection
from workbench.figures.spine_overlay import spine_overlay
from workbench.figures.spine_stages import spine_stage, spine_stage_errors
from workbench.figures.spine_table import spine_angle_table, spine_quality, spine_table
from workbench.figures.spine_view import View, spine_view
from workbench.figures.training import training_curves
from workbench.figures.window_search import window_heatmap

__all__ = [
    "SPINE_LAYERS",
    "Display",
    "MaskOverlap",
    "View",
    "accuracy_by_style",
    "change_lengths",
    "class_probabilities",
    "conflict_matrix",
    "cutmix_pairs",
    "density_curves",
    "density_per_matrix",
    "edit_course",
    "edit_step",
    "failure_group_sizes",
    "image_grid",
    "iou_matrix",
    "judged_images",
    "mask_comparison",
    "mask_heatmap",
    "mask_overlap",
    "neighbours",
    "nested_masks",
    "pareto_areas",
    "pareto_fronts",
    "png_uri",
    "sequential_curves",
    "spine_agreement",
    "spine_angle_table",
    "spine_clinical",
    "spine_cobb",
    "spine_detection",
    "spine_gallery",
    "spine_level_errors",
    "spine_modes",
    "spine_overlay",
    "spine_projection",
    "spine_quality",
    "spine_stage",
    "spine_stage_errors",
    "spine_table",
    "spine_view",
    "training_curves",
    "weight_change",
    "window_heatmap",
]
