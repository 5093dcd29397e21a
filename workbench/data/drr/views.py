"""Films of the patient: from a pose to an image with its landmarks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from workbench.data.drr.beam import Beam, cast
from workbench.data.drr.bend import Bend, bend, draw_tilts
from workbench.data.drr.film import Film, develop, draw_film
from workbench.data.drr.patient import Patient, load_patient
from workbench.data.vertebrae import VERTEBRAE, Corners, flip_corners, visible
from workbench.errors import InvalidInputError

#: Height of a film in pixels; widths of tight crops of films of that height.
HEIGHT, WIDTHS = 704, (230, 384)

_STRAIGHT = (0.0,) * VERTEBRAE


@dataclass(frozen=True)
class Pose:
    """How the patient stands, is bent, and is framed.

    Attributes:
        rotation: Degrees about the long axis; positive brings the right side forward. At most 30.
        tilt: Degrees of leaning; positive brings the head back. At most 30.
        roll: Degrees in the film's plane, clockwise. At most 30.
        distance: Millimetres from the source to the spine, infinite for parallel rays. At least 600.
        added: Degrees by which each vertebra T1 to L5 is turned, clockwise as seen from the front: a scoliosis.
        above, below: Free film above T1 and below L2, as parts of the height between. The CT ends about 0.08 above
            and 0.06 below; beyond that its last slice goes on.
        width: Width of the film, px, or 0 for what the spine needs, within the range of tight crops.
        aside: Place of the spine's middle from the film's, as a part of the width.
        from_behind: Whether the film is shown as seen from behind: flipped.
    """

    rotation: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0
    distance: float = 1700.0
    added: tuple[float, ...] = _STRAIGHT
    above: float = 0.05
    below: float = 0.04
    width: int = 0
    aside: float = 0.0
    from_behind: bool = False

    def __post_init__(self) -> None:
        for name, limit in (("rotation", 30), ("tilt", 30), ("roll", 30), ("aside", 0.3)):
            if not abs(getattr(self, name)) <= limit:
                raise InvalidInputError(
                    f"{name} must lie in [-{limit}, {limit}], not {getattr(self, name)!r}"
                )
        if not self.distance >= 600:
            raise InvalidInputError(f"distance must be at least 600 mm, or infinite, not {self.distance!r}")
        if len(self.added) != VERTEBRAE or not np.isfinite(self.added).all():
            raise InvalidInputError(
                f"added must be 17 finite angles in degrees, T1 to L5, not {self.added!r}"
            )
        if not (0 <= self.above <= 0.5 and 0 <= self.below <= 0.5):
            raise InvalidInputError(
                f"above and below must lie in [0, 0.5], not {self.above!r}, {self.below!r}"
            )
        if not (self.width == 0 or 32 <= self.width <= HEIGHT):
            raise InvalidInputError(f"width must be 0 or from 32 to {HEIGHT} pixels, not {self.width!r}")


@dataclass(frozen=True)
class Drr:
    """A film and its landmarks.

    Attributes:
        image: Grey values, bones bright.
        corners: (17, 4, 2) in pixels; L3, L4 and L5 are NaN.
        spacing_mm: Millimetres between pixels at the depth of the spine.
        pose: How the patient was placed.
        film: How it was taken and shown.
        curve: The largest difference of two visible vertebrae's tilts on the film, degrees.
    """

    image: UInt8[np.ndarray, "height width"]
    corners: Corners
    spacing_mm: float
    pose: Pose
    film: Film
    curve: float


def project(
    pose: Pose | None = None, *, film: Film | None = None, seed: int = 0, patient: Patient | None = None
) -> Drr:
    """One film of the patient.

    Args:
        pose: How the patient stands; straight in front of the film unless told otherwise.
        film: How it is taken and shown.
        seed: Of the film's noise. The same arguments give the same film, bit by bit.
        patient: Another one than that of the manifest's entry ``chest-ct``.

    Raises:
        MissingDataError: the CT has not been fetched; the message says what to type.
        InvalidInputError: the added tilts would fold the film over itself.

    Example:
        >>> project(Pose(rotation=5, tilt=-3)).image.shape[0]
        704
    """
    pose, film, patient = pose or Pose(), film or Film(), patient or load_patient()
    beam = Beam(pose.rotation, pose.tilt, pose.distance)
    bent = bend(beam.project(patient.corners), np.array(pose.added))
    frame = _framed(bent, pose)
    points = bent.back(frame.film_points())
    attenuation = cast(patient, beam).at(beam.on_plane(points))
    image = develop(attenuation, frame.spacing, film, np.random.default_rng([seed, 1]))
    corners = frame.pixels(bent.corners)
    if pose.from_behind:
        image, corners = np.ascontiguousarray(image[:, ::-1]), flip_corners(corners, frame.width)
    return Drr(image, corners, frame.spacing, pose, film, _curve(corners))


def projections(count: int, *, seed: int = 0, scoliosis: bool = True) -> Iterator[Drr]:
    """Films of the patient in `count` poses, one after the other.

    Film number i depends on `seed` and i alone.

    Args:
        count: How many.
        seed: Another seed gives other poses.
        scoliosis: Whether spines are bent; without, they have the patient's own mild curve.

    Example:
        >>> images = [film.image for film in projections(20)]
    """
    if count < 0:
        raise InvalidInputError(f"count must not be negative, but is {count!r}")
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        pose = draw_pose(rng)
        if scoliosis:
            pose = replace(pose, added=tuple(draw_tilts(rng).tolist()))
        yield project(pose, film=draw_film(rng), seed=int(rng.integers(1 << 31)))


def draw_pose(rng: np.random.Generator) -> Pose:
    """A pose without scoliosis as films have it: a few degrees off in every direction, seen from either side."""
    return Pose(
        rotation=rng.uniform(-8, 8),
        tilt=rng.uniform(-8, 8),
        roll=rng.uniform(-4, 4),
        distance=math.inf if rng.random() < 0.2 else rng.uniform(1100, 1900),
        above=rng.uniform(0.03, 0.08),
        below=rng.uniform(0.02, 0.05),
        aside=rng.uniform(-0.1, 0.1),
        from_behind=bool(rng.random() < 0.5),
    )


@dataclass(frozen=True)
class _Frame:
    """A rectangle on the film's plane: pixel (0, 0) lies at `corner` mm after turning by `roll` degrees."""

    corner: tuple[float, float]
    roll: float
    spacing: float
    width: int

    def pixels(self, points: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Pixels of film points."""
        return np.asarray((points @ _turn(self.roll).T - np.array(self.corner)) / self.spacing)

    def film_points(self) -> Float[np.ndarray, "height width 2"]:
        """The film points of all pixels."""
        grid = np.stack(np.meshgrid(np.arange(self.width), np.arange(HEIGHT)), -1)
        return np.asarray((grid * self.spacing + np.array(self.corner)) @ _turn(self.roll))


def _framed(bent: Bend, pose: Pose) -> _Frame:
    """The frame that shows all visible vertebrae with the pose's margins."""
    points = bent.corners[visible(bent.corners)].reshape(-1, 2) @ _turn(pose.roll).T
    (left, top), (right, bottom) = points.min(0), points.max(0)
    height = bottom - top
    spacing = height * (1 + pose.above + pose.below) / (HEIGHT - 1)
    needed = round(1.6 * (right - left) / spacing)
    width = pose.width or min(max(needed, WIDTHS[0]), WIDTHS[1])
    x = (left + right) / 2 - (0.5 + pose.aside) * (width - 1) * spacing
    return _Frame((float(x), float(top - pose.above * height)), pose.roll, float(spacing), width)


def _turn(degrees: float) -> Float[np.ndarray, "2 2"]:
    a = math.radians(degrees)
    return np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])


def _curve(corners: Corners) -> float:
    shown = corners[visible(corners)]
    middle = (shown[:, 1] + shown[:, 3] - shown[:, 0] - shown[:, 2]) / 2
    return float(np.ptp(np.degrees(np.arctan2(middle[:, 1], middle[:, 0]))))
