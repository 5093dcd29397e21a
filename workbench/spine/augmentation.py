"""Random views of radiographs: moved, turned, scaled, flipped; lighter, darker, inverted, noisy, with bars over them.

Ranges follow the group's later code where they are known (shift 2 %, scale 2 %, ±10°, gamma 0.5–1.5) and go further
where radiographs of other sources do. Source: specification, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.spine.frames import FRAME
from workbench.spine.views import Pyramid, whole_frame

_MIRRORED = [1, 0, 3, 2]

#: Cut views are enlarged by up to e to this power.
_ENLARGED = 0.5


@dataclass(frozen=True)
class AugmentationSettings:
    """How far random views go.

    Args:
        shift: Standard deviation of the shift, as a fraction of the frame's height.
        scale: Standard deviation of the logarithm of the scale.
        turn: Standard deviation of the rotation in degrees.
        flip: Share of views that are flipped left to right.
        stretch: Standard deviation of the logarithm of the height by the width.
        cut: Share of views that are enlarged so that the lowest vertebrae, or the uppermost, fall outside.
        gamma: Largest factor by which the greys' exponent differs from one, either way.
        contrast: Largest relative change of contrast.
        brightness: Largest shift of the greys.
        field: Largest amplitude of two slow waves across the frame that make a part of it lighter or darker.
        noise: Largest standard deviation of noise added to the greys.
        blur: Share of draws whose views are all seen at half their resolution.
        invert: Share of views shown inverted.
        bars: Share of views with one or two bars over them.
    """

    shift: float = 0.02
    scale: float = 0.08
    turn: float = 3.0
    flip: float = 0.5
    stretch: float = 0.04
    cut: float = 0.25
    gamma: float = 2.0
    contrast: float = 0.4
    brightness: float = 0.15
    field: float = 0.2
    noise: float = 0.05
    blur: float = 0.2
    invert: float = 0.1
    bars: float = 0.2


@dataclass(frozen=True)
class RandomViews:
    """One random view of each of n images.

    Args:
        forward: (n, 2, 3): where a point of the image lies in the view.
        backward: (n, 2, 3): the other way.
        flipped: (n,), whether left and right have changed places.
        greys: (n, 5): exponent, contrast, brightness, noise, inverted (0 or 1).
        waves: (n, 2, 4): amplitude, waves per pixel along x and y, phase.
        bars: (n, 2, 6): centre x and y, half-length, half-width (0: no bar), angle, grey.
        softness: Factor on the spacing at which images are sampled.
        generator: For the noise.
    """

    forward: Float[Tensor, "n 2 3"]
    backward: Float[Tensor, "n 2 3"]
    flipped: Tensor
    greys: Float[Tensor, "n 5"]
    waves: Float[Tensor, "n 2 4"]
    bars: Float[Tensor, "n 2 6"]
    softness: float
    generator: torch.Generator

    @classmethod
    def draw(
        cls, count: int, generator: torch.Generator, settings: AugmentationSettings | None = None
    ) -> RandomViews:
        """Views of `count` images."""
        settings = settings or AugmentationSettings()
        flipped = torch.rand(count, generator=generator) < settings.flip
        forward = _affine(count, flipped, generator, settings)
        return cls(
            forward,
            _inverse(forward),
            flipped,
            _greys(count, generator, settings),
            _waves(count, generator, settings),
            _bars(count, generator, settings),
            2.0 if float(torch.rand(1, generator=generator)) < settings.blur else 1.0,
            generator,
        )

    def corners(self, corners: Float[Tensor, "n 17 4 2"]) -> Float[Tensor, "n 17 4 2"]:
        """Where the corners lie in the views, and in the order they have there."""
        moved = transform(self.forward, corners)
        return torch.where(self.flipped[:, None, None, None], moved[:, :, _MIRRORED], moved)

    def sample(
        self, pyramid: Pyramid, points: Float[Tensor, "n ... 2"], spacing: float
    ) -> Float[Tensor, "n ..."]:
        """What the views show at points of the frame; see `Pyramid.sample`."""
        values = pyramid.sample(transform(self.backward, points), spacing * self.softness)
        shape = (-1,) + (1,) * (values.ndim - 1)
        exponent, contrast, brightness, noise, inverted = (g.reshape(shape) for g in self.greys.unbind(1))
        values = self._with_bars(values, points)
        values = torch.where(inverted > 0, 1 - values, values)
        values = values.clamp(1e-4, 1).pow(exponent)
        values = (values - 0.5) * contrast + 0.5 + brightness + self._light(points)
        grain = torch.randn(values.shape, generator=self.generator)
        return (values + noise * grain).clamp(0, 1)

    def _light(self, points: Tensor) -> Tensor:
        """What the waves add at points."""
        added = torch.zeros(points.shape[:-1])
        for wave in self.waves.unbind(1):
            amplitude, x, y, phase = (w.reshape((-1,) + (1,) * (points.ndim - 2)) for w in wave.unbind(1))
            added += amplitude * torch.sin(x * points[..., 0] + y * points[..., 1] + phase)
        return added

    def _with_bars(self, values: Tensor, points: Tensor) -> Tensor:
        some = self.bars[:, :, 3].amax(1) > 0
        if not some.any():
            return values
        values = values.clone()
        chosen, where = values[some], points[some]
        for bar in self.bars[some].unbind(1):
            x, y, length, width, angle, grey = (
                b.reshape((-1,) + (1,) * (where.ndim - 2)) for b in bar.unbind(1)
            )
            dx, dy = where[..., 0] - x, where[..., 1] - y
            along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
            chosen = torch.where((along.abs() < length) & (across.abs() < width), grey, chosen)
        values[some] = chosen
        return values


@dataclass(frozen=True)
class PlainViews:
    """Images as they are, where a stage expects views."""

    def corners(self, corners: Tensor) -> Tensor:
        """The corners as they are."""
        return corners

    def sample(self, pyramid: Pyramid, points: Tensor, spacing: float) -> Tensor:
        """What the images show at points of the frame."""
        return pyramid.sample(points, spacing)


Views = RandomViews | PlainViews


def augment(
    images: Float[Tensor, "n 1 704 384"],
    corners: Float[Tensor, "n 17 4 2"],
    generator: torch.Generator,
    size: tuple[int, int] = FRAME,
    settings: AugmentationSettings | None = None,
) -> tuple[Float[Tensor, "n 1 _h _w"], Float[Tensor, "n 17 4 2"]]:
    """Random views of whole images, for networks that look at the whole frame.

    Args:
        images: In [0, 1].
        corners: In pixels of the frame.
        generator: Everything random comes from it.
        size: Height and width of the views; they show the whole frame.
        settings: How far they go.

    Returns:
        The views, (n, 1, *size), and their corners, still in pixels of the frame.
    """
    views = RandomViews.draw(len(images), generator, settings)
    pyramid = Pyramid.of((images[:, 0] * 255).round().to(torch.uint8))
    return show(views, pyramid, size), views.corners(corners)


def show(views: Views, pyramid: Pyramid, size: tuple[int, int]) -> Float[Tensor, "n 1 _h _w"]:
    """The whole frame of each view as an image of `size` (height, width)."""
    points = whole_frame(*size).expand(len(pyramid), *size, 2)
    return views.sample(pyramid, points, FRAME[0] / size[0])[:, None]


def transform(affine: Float[Tensor, "n 2 3"], points: Float[Tensor, "n ... 2"]) -> Float[Tensor, "n ... 2"]:
    """Points moved by one affine map an image."""
    flat = points.flatten(1, -2)
    return (flat @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]).reshape(points.shape)


def _affine(
    count: int, flipped: Tensor, generator: torch.Generator, settings: AugmentationSettings
) -> Tensor:
    normal = torch.randn(5, count, generator=generator).clamp(-2.5, 2.5)
    turn, scale = normal[0] * math.radians(settings.turn), (normal[1] * settings.scale).exp()
    stretch = (normal[4] * settings.stretch / 2).exp()
    mirror = 1 - 2 * flipped.float()
    cos, sin = scale * turn.cos(), scale * turn.sin()
    across, down = mirror / stretch, stretch  # first stretched, then turned
    linear = torch.stack(
        [torch.stack([cos * across, -sin * down], -1), torch.stack([sin * across, cos * down], -1)], 1
    )
    middle = torch.tensor([(FRAME[1] - 1) / 2, (FRAME[0] - 1) / 2])
    offset = middle + normal[2:4].T * settings.shift * FRAME[0] - linear @ middle
    return _cut(torch.cat([linear, offset[:, :, None]], 2), generator, settings)


def _cut(affine: Tensor, generator: torch.Generator, settings: AugmentationSettings) -> Tensor:
    """Enlarge some views by up to two thirds, with the upper edge kept in place, or (one in three) the lower one."""
    uniform = torch.rand(3, len(affine), generator=generator)
    factor = torch.where(uniform[0] < settings.cut, (_ENLARGED * uniform[1]).exp(), torch.ones(len(affine)))
    edge = torch.where(uniform[2] < 1 / 3, FRAME[0] - 1.0, 0.0)
    fixed = torch.stack([torch.full_like(edge, (FRAME[1] - 1) / 2), edge], 1)
    linear = affine[:, :, :2] * factor[:, None, None]
    offset = fixed + factor[:, None] * (affine[:, :, 2] - fixed)
    return torch.cat([linear, offset[:, :, None]], 2)


def _inverse(affine: Tensor) -> Tensor:
    linear = torch.linalg.inv(affine[:, :, :2])
    return torch.cat([linear, -linear @ affine[:, :, 2:]], 2)


def _greys(count: int, generator: torch.Generator, settings: AugmentationSettings) -> Tensor:
    uniform = torch.rand(5, count, generator=generator)
    spread = 2 * uniform - 1
    return torch.stack(
        [
            (spread[0] * math.log(settings.gamma)).exp(),
            1 + spread[1] * settings.contrast,
            spread[2] * settings.brightness,
            uniform[3] ** 2 * settings.noise,  # mostly little
            (uniform[4] < settings.invert).float(),
        ],
        1,
    )


def _waves(count: int, generator: torch.Generator, settings: AugmentationSettings) -> Tensor:
    """Two waves, each up to one and a half periods over the frame's height."""
    uniform = torch.rand(count, 2, 4, generator=generator)
    slow = 2 * math.pi * 1.5 / FRAME[0]
    return torch.stack(
        [
            uniform[..., 0] ** 2 * settings.field,
            (2 * uniform[..., 1] - 1) * slow,
            (2 * uniform[..., 2] - 1) * slow,
            2 * math.pi * uniform[..., 3],
        ],
        -1,
    )


def _bars(count: int, generator: torch.Generator, settings: AugmentationSettings) -> Tensor:
    """One or two bars on some images: bright as metal or lead, or dark as a gap."""
    uniform = torch.rand(count, 2, 7, generator=generator)
    drawn = torch.rand(count, 1, generator=generator) < settings.bars
    present = drawn & (torch.stack([torch.ones(count), uniform[:, 1, 6]], 1) > 0.5)
    return torch.stack(
        [
            uniform[..., 0] * FRAME[1],
            uniform[..., 1] * FRAME[0],
            FRAME[0] * (0.03 + 0.3 * uniform[..., 2]),
            FRAME[0] * (0.003 + 0.012 * uniform[..., 3]) * present,
            math.pi * uniform[..., 4],
            torch.where(uniform[..., 5] < 0.2, 0.0, 0.6 + 0.4 * uniform[..., 5]),
        ],
        -1,
    )
