"""The bodies of the vertebrae in a labelled CT, and their corners in space.

A vertebra's label covers its arch and processes too; a film's landmarks belong to the body alone. The body is what
lies in front of the spinal canal and survives an opening, slice by slice. Corners are found in the body's own
frame: the end plates are planes laid through its rims, the sides are its outline as seen from the front. Each corner
lies at mid-depth, so that its projection is the mean of the front and the back rim. Source: specification,
sections 7.3 (8) and 7.5.

Points are (x, y, z) in mm: to the patient's left, to the feet, to the back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from workbench.errors import IntegrityError

Mask = Bool[np.ndarray, "depth row column"]
Axes = Float[np.ndarray, "3 3"]

#: Diameter of the disc that opens a body, mm: pedicles are thinner.
_OPENING = 6.0

#: Part of the half width from which the rims count towards an end plate, and where its rounded edge begins.
_RIM = (0.5, 0.9)

#: Where along a body's height its upper and its lower width are taken: near the rims, beside the waist.
_BANDS = ((0.05, 0.35), (0.65, 0.95))

_STEP = 0.5  # mm, of the grid on which a body is measured
_REACH = (36, 26, 22)  # mm to the left, back and down from its centre, more than half of any body


@dataclass(frozen=True)
class Body:
    """One vertebral body: its voxels in a box, axes (back, feet, left), and where the box lies.

    `start` is the index of the box's first voxel in the whole volume, `spacing` the voxel size in mm.
    """

    mask: Mask
    start: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def centre(self) -> Float[np.ndarray, " 3"]:
        """Mean of the voxels, (x, y, z) in mm."""
        index = np.array([part.mean() for part in np.nonzero(self.mask)]) + self.start
        return np.asarray((index * self.spacing)[::-1])


def body_of(
    vertebra: Mask, cord: Mask, spacing: tuple[float, float, float], start: tuple[int, int, int] = (0, 0, 0)
) -> Body:
    """The body of one vertebra: voxels in front of the canal, opened by 6 mm, largest piece.

    Args:
        vertebra: Its whole label in a box, axes (back, feet, left).
        cord: The label of the spinal cord in the same box.
        spacing: Voxel sizes in mm.
        start: Index of the box's first voxel.

    Raises:
        IntegrityError: nothing is left.
    """
    body = np.zeros_like(vertebra)
    disc = _disc(_OPENING / 2, spacing[0], spacing[2])
    for row in np.flatnonzero(vertebra.any((0, 2))):
        section = vertebra[:, row].copy()
        behind = np.flatnonzero(cord[:, row].any(1))
        if len(behind):  # a voxel more: the canal is wider than the cord
            section[max(behind[0] - 1, 0) :] = False
        body[:, row] = _largest(ndimage.binary_opening(section, disc))
    body = _largest(body)
    if not body.any():
        raise IntegrityError(
            "a vertebra of the CT has no body in front of the spinal cord; fetch the CT again"
        )
    return Body(body, start, spacing)


def axes_of(centres: Float[np.ndarray, "levels 3"], level: int) -> Axes:
    """Unit vectors left, back and down of a vertebra, one a row, from the run of the bodies' centres.

    Down follows the spine; left is the film's horizontal made perpendicular to it.
    """
    down = centres[min(level + 1, len(centres) - 1)] - centres[max(level - 1, 0)]
    down = down / np.linalg.norm(down)
    left = np.array([1.0, 0.0, 0.0]) - down[0] * down
    left = left / np.linalg.norm(left)
    return np.stack([left, np.cross(left, down), down])


def corners_of(body: Body, axes: Axes) -> Float[np.ndarray, "4 3"]:
    """Corners TL, TR, BL, BR of one body in space, mm, at mid-depth; `axes` as from `axes_of`."""
    solid = _straightened(body, axes)
    left, back, down = (_ticks(reach) for reach in _REACH)
    plates = [_plate(solid, first=first) for first in (True, False)]
    depth = float(np.average(back, weights=solid.sum((0, 2))))
    top, bottom = (plate[1] * depth + plate[2] for plate in plates)
    corners = []
    for plate, (low, high) in zip(plates, _BANDS, strict=True):
        band = (down > top + low * (bottom - top)) & (down < top + high * (bottom - top))
        for side in _sides(solid[:, :, band], left):
            local = np.array([side, depth, plate @ (side, depth, 1)])
            corners.append(body.centre + local @ axes)
    return np.stack(corners)


def _straightened(body: Body, axes: Axes) -> Bool[np.ndarray, "left back down"]:
    """The body on a grid along its own axes about its centre."""
    scale = np.array(body.spacing)
    first = np.array([_ticks(reach)[0] for reach in _REACH])
    offset = (body.centre + first @ axes)[::-1] / scale - body.start
    matrix = _STEP * axes[:, ::-1].T / scale[:, None]
    shape = tuple(len(_ticks(reach)) for reach in _REACH)
    values = np.pad(body.mask, 1).astype(np.float32)
    return np.asarray(ndimage.affine_transform(values, matrix, offset + 1, shape, order=1) > 0.5)


def _ticks(reach: float) -> Float[np.ndarray, " n"]:
    return np.arange(-reach, reach + _STEP / 2, _STEP)


def _plate(solid: Bool[np.ndarray, "left back down"], *, first: bool) -> Float[np.ndarray, " 3"]:
    """The end plate as ``down = (a, b, c) @ (left, back, 1)``, by least squares without the worst fifth."""
    index = solid.argmax(2) if first else solid.shape[2] - 1 - solid[:, :, ::-1].argmax(2)
    there = solid.any(2)
    left, back = (_ticks(_REACH[axis])[part] for axis, part in enumerate(np.nonzero(there)))
    down = _ticks(_REACH[2])[index[there]] + (-_STEP / 2 if first else _STEP / 2)
    left_end, right_end = left.min(), left.max()
    across = np.abs(2 * left - left_end - right_end) / (right_end - left_end)
    rim = (across > _RIM[0]) & (across < _RIM[1])
    terms, down = np.stack([left, back, np.ones_like(left)], 1)[rim], down[rim]
    kept = np.ones(len(down), dtype=bool)
    plane = np.zeros(3)
    for _ in range(4):
        plane = np.linalg.lstsq(terms[kept], down[kept], rcond=None)[0]
        error = np.abs(terms @ plane - down)
        kept = error <= np.percentile(error, 80)
    return plane


def _sides(
    band: Bool[np.ndarray, "left back rows"], ticks: Float[np.ndarray, " left"]
) -> tuple[float, float]:
    """Left and right end of the outline as seen from the front: the median over the band's rows."""
    outline = np.asarray(band.any(1))
    rows = np.flatnonzero(outline.any(0))
    left = np.median(ticks[outline.argmax(0)[rows]])
    right = np.median(ticks[len(ticks) - 1 - outline[::-1].argmax(0)[rows]])
    return float(left) - _STEP / 2, float(right) + _STEP / 2


def _disc(radius: float, first: float, second: float) -> Bool[np.ndarray, "a b"]:
    rows, columns = int(radius / first), int(radius / second)
    y = np.arange(-rows, rows + 1)[:, None] * first
    x = np.arange(-columns, columns + 1) * second
    return np.asarray(y**2 + x**2 <= radius**2)


def _largest(mask: np.ndarray) -> np.ndarray:
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)
