"""How a cascade is built and trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from workbench.errors import InvalidInputError, UnknownNameError

Constrain = Literal["shape", "offset", "none"]

_CHOICES = {
    "constrain": ("shape", "offset", "none"),
    "clamp": ("box", "ellipsoid"),
    "corner_pca": ("level", "joint"),
    "points": ("centres", "corners"),
}

_POSITIVE = (
    "centre_stages",
    "batch",
    "corner_batch",
    "global_steps",
    "point_steps",
    "crop_steps",
    "patch_steps",
)


@dataclass(frozen=True)
class CascadeSettings:
    """How a cascade is built and trained. All of it is a design of ours: the paper's numbers could not be read.

    Args:
        points: What the first step moves: ``"centres"`` (then a second step finds corners), or all ``"corners"`` at
            once, without a second step (an ablation).
        centre_stages: Stages of the first step; the first looks at the whole frame, the others at patches.
        corner_stages: Stages of the second step; the first looks at the whole vertebra, the others at its corners.
        constrain: ``"shape"``: every shape of the first step stays in the shape model; ``"offset"``: every move stays
            in a model of that stage's moves; ``"none"``: neither (an ablation).
        clamp: How far coefficients may go, see `ShapeModel.clamp`.
        centre_variance: Share of the variance that the first step's model keeps.
        corner_variance: Share of the variance that the vertebra's model keeps.
        corner_pca: ``"level"``: a model of one vertebra; ``"joint"``: after each stage of the second step all corners
            are also brought into a joint model.
        joint_components: Modes of the joint model.
        free_last: Let the last stage of the second step leave the vertebra's model.
        neighbours: Let the second step look at neighbouring vertebrae.
        tilt_weight: Weight of the error of the mid-lines, which the angles are made of, in the second step's loss.
        batch: Radiographs a training step of the first step.
        corner_batch: Radiographs a training step of the second, seventeen vertebrae each.
        global_steps: Training steps of the first stage.
        point_steps: Training steps of each further stage of the first step.
        crop_steps: Training steps of the second step's first stage.
        patch_steps: Training steps of each further stage of the second step.
        learning_rate: AdamW's, with a short warm-up and then a cosine to zero.
        weight_decay: AdamW's.
        calibration: Share of the radiographs that is held out: later stages start where held-out ones were left.
        seed: Seed of everything random.
    """

    points: Literal["centres", "corners"] = "centres"
    centre_stages: int = 4
    corner_stages: int = 3
    constrain: Constrain = "shape"
    clamp: Literal["box", "ellipsoid"] = "box"
    centre_variance: float = 0.999
    corner_variance: float = 0.999
    corner_pca: Literal["level", "joint"] = "level"
    joint_components: int = 20
    free_last: bool = False
    neighbours: bool = True
    tilt_weight: float = 1.0
    batch: int = 32
    corner_batch: int = 16
    global_steps: int = 2000
    point_steps: int = 900
    crop_steps: int = 2500
    patch_steps: int = 1500
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    calibration: float = 0.12
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UnknownNameError(name, getattr(self, name), known)
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.corner_stages < 0:
            raise InvalidInputError(f"corner_stages is {self.corner_stages}; it must be at least 0")
        for name in ("centre_variance", "corner_variance"):
            if not 0 < getattr(self, name) <= 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; expected a share, 0 < {name} <= 1")
        if not 0 < self.calibration < 1:
            raise InvalidInputError(
                f"calibration is {self.calibration}; expected a share, 0 < calibration < 1"
            )

    @property
    def corner_stage_count(self) -> int:
        """Stages of the second step that there are: none where the first one moves corners."""
        return self.corner_stages if self.points == "centres" else 0

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, for a card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CascadeSettings:
        """Settings of a card; raises `UnknownNameError` for a name that is none."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise UnknownNameError("setting", name, known)
        return replace(cls(), **values)
