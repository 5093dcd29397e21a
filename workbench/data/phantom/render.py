"""Radiographs of a spine that does not exist, with exact corners: layers of attenuation, then film, then display.

Source: specification, section 7.4.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from workbench.data.phantom.display import cut, develop, expose, store
from workbench.data.phantom.geometry import Mix, SpineGeometry, draw_geometry
from workbench.data.phantom.occluders import add_metal, add_overlay, choose_occluders
from workbench.data.phantom.scene import ROWS, draw_scene
from workbench.data.phantom.skeleton import draw_skeleton
from workbench.data.phantom.soft import draw_soft
from workbench.data.phantom.vertebra import draw_vertebrae
from workbench.data.vertebrae import Corners
from workbench.errors import UnknownNameError

Level = Literal["clean", "hard"]


@dataclass(frozen=True, eq=False)
class Phantom:
    """One drawn radiograph and its truth.

    Args:
        image: Grey levels (704, W), W from 230 to 384.
        corners: Corners TL, TR, BL, BR of T1 to L5 in pixels, (17, 4, 2).
        geometry: The spine in mm, turned as in the image.
        mm_per_pixel: Size of a pixel.
        level: ``"clean"`` or ``"hard"``.
        occluders: Names of what covers the spine or spoils the film.
        seed: The number the randomness came from; 0 where a generator was given.
    """

    image: UInt8[np.ndarray, "704 width"]
    corners: Corners
    geometry: SpineGeometry
    mm_per_pixel: float
    level: Level
    occluders: tuple[str, ...] = ()
    seed: int = 0


def phantom(index: int, *, set_name: str = "train", level: Level = "clean", mix: Mix = "aasce") -> Phantom:
    """The phantom of a number in a named set: the same arguments give the same bits.

    Args:
        index: Number in the set, from 0.
        set_name: Sets of different names share no image.
        level: ``"clean"``, or ``"hard"`` with implants, markers, loose crops, inversion and low dose.
        mix: Curves as in scoliosis clinics (``"aasce"``) or mostly straight (``"screening"``).

    Raises:
        UnknownNameError: a level or mix that is not known.

    Example:
        >>> phantom(0, set_name="demo").image.shape[0]
        704
    """
    _check_level(level)
    digest = hashlib.sha256(f"{set_name}/{index}/{level}/{mix}".encode()).digest()
    seed = int.from_bytes(digest[:8], "little") >> 1
    rng = np.random.default_rng(seed)
    drawn = render(draw_geometry(rng, mix=mix), rng, level)
    return Phantom(
        drawn.image, drawn.corners, drawn.geometry, drawn.mm_per_pixel, level, drawn.occluders, seed
    )


def render(geometry: SpineGeometry, rng: np.random.Generator, level: Level = "clean") -> Phantom:
    """Draw the radiograph of a spine.

    Args:
        geometry: The spine in mm; it is turned by up to 4° first.
        rng: Source of all randomness.
        level: ``"clean"`` or ``"hard"``.

    Raises:
        UnknownNameError: a level that is not known.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> render(draw_geometry(rng), rng).corners.shape
        (17, 4, 2)
    """
    _check_level(level)
    names = choose_occluders(rng, hard=level == "hard")
    scene = draw_scene(geometry, rng, loose="loose crop" in names, strong=level == "hard")
    total = draw_soft(scene, rng, cut(rng, "smooth", ROWS // 2, (scene.columns + 1) // 2))
    texture = cut(rng, "bone", ROWS, scene.columns)
    draw_vertebrae(total, scene, rng, texture)
    total += draw_skeleton(scene, rng, texture)
    add_metal(total, scene, rng, names)
    film = expose(total, scene, rng, low_dose="low dose" in names)
    grey = add_overlay(develop(film, scene, rng), scene, rng, names)
    corners = scene.pixels(scene.geometry.corners)
    return Phantom(store(grey, rng), corners, scene.geometry, scene.pitch, level, names)


def _check_level(level: str) -> None:
    if level not in ("clean", "hard"):
        raise UnknownNameError("level", level, ["clean", "hard"])
