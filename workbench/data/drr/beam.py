"""The beam: a projection of the patient's planes onto a film, and of points in space beside it.

All planes are parallel, so a plane's shadow is the plane itself, scaled and shifted: the sum over planes is formed
on the plane through the middle of the spine by two one-dimensional interpolations a plane, for any place of the
source. Looking at that plane from the source, film pixels are found on it by a straight line. Source: specification,
section 7.5 (source 1.8 m away, or parallel rays).

Film points are (x, y) in mm on a plane perpendicular to the central ray through the middle of the spine; x to the
patient's left, y to the feet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from workbench.data.drr.patient import Patient

_STEP = 0.5  # mm between the samples of the shadow

Points = Float[np.ndarray, "*points 2"]


@dataclass(frozen=True)
class Beam:
    """Where the source stands.

    Attributes:
        rotation: Degrees by which the patient is turned about the long axis; positive brings the right side forward.
        tilt: Degrees by which the patient leans; positive brings the head back.
        distance: Millimetres from the source to the middle of the spine; infinite for parallel rays.
    """

    rotation: float = 0.0
    tilt: float = 0.0
    distance: float = 1700.0

    @property
    def turn(self) -> Float[np.ndarray, "3 3"]:
        """The matrix from the patient's (x, y, z) to the film's."""
        a, b = math.radians(self.rotation), math.radians(self.tilt)
        about_y = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
        return np.asarray(about_x @ about_y)

    def project(self, points: Float[np.ndarray, "*points 3"]) -> Points:
        """Film points of points in space."""
        seen = points @ self.turn.T
        return np.asarray(seen[..., :2] / (1 + seen[..., 2:] / self.distance))

    def on_plane(self, film: Points) -> Points:
        """Where the rays to film points meet the patient's plane through the middle of the spine."""
        ray = np.concatenate([film / self.distance, np.ones_like(film[..., :1])], -1) @ self.turn
        start = film @ self.turn[:2]
        return np.asarray(start[..., :2] - ray[..., :2] * (start[..., 2:] / ray[..., 2:]))


@dataclass(frozen=True)
class Shadow:
    """Attenuation summed along the rays (no unit), float32 (rows, columns), on the patient's middle plane.

    `first` is where the first sample lies, (x, y) in mm.
    """

    values: Float[np.ndarray, "rows columns"]
    first: tuple[float, float]

    def at(self, points: Points) -> Float[np.ndarray, "*points"]:
        """Values at points (x, y) in mm, by cubic interpolation; beyond the edge its last value."""
        places = (points - np.array(self.first)) / _STEP
        coordinates = np.moveaxis(places[..., ::-1], -1, 0)
        return np.asarray(ndimage.map_coordinates(self.values, coordinates, order=3, mode="nearest"))


def cast(patient: Patient, beam: Beam) -> Shadow:
    """The shadow that the patient casts, on the plane through the middle of the spine."""
    rows, columns = patient.planes.shape[1:]
    x0, y0, z0 = patient.first
    dx, dy, dz = patient.step
    x = np.arange(x0, x0 + (columns - 1) * dx, _STEP)
    y = np.arange(y0, y0 + (rows - 1) * dy, _STEP)
    normal = beam.turn[2]
    total = np.zeros((len(y), len(x)), dtype=np.float32)
    for index, plane in enumerate(patient.planes):
        z = z0 + index * dz
        scale = 1 + z / (beam.distance * normal[2])
        along_y = (y * scale + z * normal[1] / normal[2] - y0) / dy
        along_x = (x * scale + z * normal[0] / normal[2] - x0) / dx
        total += _sampled(_sampled(plane, along_y, 0), along_x, 1)
    slant = np.hypot(*np.meshgrid(x / beam.distance + normal[0], y / beam.distance + normal[1]))
    total *= (dz * np.sqrt(normal[2] ** 2 + slant**2) / normal[2]).astype(np.float32)
    return Shadow(total, (x0, y0))


def _sampled(plane: Float[np.ndarray, "a b"], places: Float[np.ndarray, " n"], axis: int) -> np.ndarray:
    """Linear interpolation along one axis at fractional indices; beyond the edge its last value."""
    last = plane.shape[axis] - 1
    places = places.clip(0, last)
    low = np.minimum(places.astype(int), max(last - 1, 0))
    part = (places - low).astype(np.float32)
    part = part[:, None] if axis == 0 else part[None]
    before, after = plane.take(low, axis), plane.take(np.minimum(low + 1, last), axis)
    after -= before
    after *= part
    after += before
    return after
