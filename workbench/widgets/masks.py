"""A widget to look at the masks of several images: at any sparsity, alone or two at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import plotly.graph_objects as go
import traitlets

from workbench.errors import InvalidInputError
from workbench.figures import mask_comparison, mask_heatmap
from workbench.widgets._explorer import Explorer

if TYPE_CHECKING:
    from workbench.editing import BinaryMask, SoftMasks


class MaskExplorer(Explorer):
    """Masks over blocks, matrices and hidden units, with a sparsity slider and a choice of images.

    The state is in three traits, which can be set from code as well as by hand: `sparsity` in [0, 1), `image` and
    `other`, positions of images (`other` may be None).

    Args:
        soft_masks: One soft mask an image.
        images: The images, (n, 3, H, W), in [0, 1].
        titles: Names of the images.
        sparsity: Fraction of units that stay as they are, at first.

    Raises:
        InvalidInputError: not one image and one title a mask; later, a state outside its range.

    Example:
        >>> explorer = MaskExplorer(masks, images, titles=["crab", "ant"])
        >>> explorer.compare(1)
        >>> explorer.snapshot()
    """

    sparsity = traitlets.Float(0.9, help="fraction of units that stay as they are, in [0, 1)")
    image = traitlets.Int(0, help="position of the image whose mask is shown")
    other = traitlets.Int(None, allow_none=True, help="position of the image to compare with, or None")

    def __init__(
        self, soft_masks: SoftMasks, images: Sequence[Any], titles: Sequence[str], sparsity: float = 0.9
    ) -> None:
        if not len(soft_masks) == len(images) == len(titles) >= 1:
            raise InvalidInputError(
                f"{len(soft_masks)} masks, {len(images)} images and {len(titles)} titles; give one of each an image"
            )
        self.soft_masks, self.images, self.titles = soft_masks, images, tuple(titles)
        options = [(title, i) for i, title in enumerate(self.titles)]
        slider = ipywidgets.FloatSlider(
            sparsity, min=0, max=0.99, step=0.01, description="sparsity", continuous_update=False
        )
        first = ipywidgets.Dropdown(options=options, value=0, description="image")
        second = ipywidgets.Dropdown(
            options=[("nothing", None), *options], value=None, description="compare with"
        )
        second.style.description_width = "initial"
        super().__init__([slider, first, second], sparsity=sparsity)
        for name, control in (("sparsity", slider), ("image", first), ("other", second)):
            traitlets.link((self, name), (control, "value"))
        self.observe(self.redraw, ["sparsity", "image", "other"])

    def look_at(self, image: int) -> None:
        """Show the mask of another image."""
        self.image = image

    def compare(self, other: int | None) -> None:
        """Show two masks on one map; None goes back to one."""
        self.other = other

    def mask(self, image: int | None = None) -> BinaryMask:
        """The binary mask of an image (of the one shown by default) at the sparsity shown."""
        from workbench.editing import SoftMasks

        position = self.image if image is None else image
        one = SoftMasks(
            self.soft_masks.values[position : position + 1], self.soft_masks.space, self.soft_masks.origin
        )
        return one.binarize(self.sparsity)

    def snapshot(self) -> go.Figure:
        """What is shown now, as a static figure."""
        shown = (self.images[self.image], self.titles[self.image])
        if self.other is None:
            return mask_heatmap(self.mask(), title=f"Mask of {shown[1]}", pictures=[shown])
        other = (self.images[self.other], self.titles[self.other])
        names = (shown[1], other[1])
        return mask_comparison(
            self.mask(), self.mask(self.other), names, f"{names[0]} and {names[1]}", [shown, other]
        )

    def __repr__(self) -> str:
        beside = "" if self.other is None else f" beside {self.titles[self.other]!r}"
        return f"MaskExplorer({self.titles[self.image]!r}{beside}, sparsity {self.sparsity:.2f})"

    @traitlets.validate("sparsity")
    def _check_sparsity(self, proposal: Any) -> float:
        from workbench.editing.masks import check_sparsity

        return check_sparsity(proposal["value"])

    @traitlets.validate("image", "other")
    def _check_position(self, proposal: Any) -> int | None:
        value = proposal["value"]
        if value is not None and not 0 <= value < len(self.titles):
            raise InvalidInputError(
                f"{proposal['trait'].name} {value} is outside 0..{len(self.titles) - 1}: "
                f"there are {len(self.titles)} images"
            )
        return value
