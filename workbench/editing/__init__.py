"""Learning where to edit: masks over hidden units, the hypernetwork that gives them, edits and their evaluation."""

from workbench.editing.changes import AppendedUnits, Change, ChangeSequence, LowRankChange, WeightChange
from workbench.editing.cutmix import CutMix, cutmix
from workbench.editing.edit import AppliedEdit, Edit, applied
from workbench.editing.editor import Editor, EditRequest, EditSettings
from workbench.editing.hypernetwork import MaskHypernetwork, MaskNetwork
from workbench.editing.judging import Judge
from workbench.editing.masks import BinaryMask, SoftMasks
from workbench.editing.meta_training import MetaTrainingSettings, train_hypernetwork
from workbench.editing.metrics import EditScores, EvaluationSet, generalization, locality, reliability
from workbench.editing.space import EditSpace
from workbench.editing.trajectory import EditResult, EditTrajectory, StepEvaluation
from workbench.editing.where import FullMask, GradientMask, LearnedMask, RandomMask, Where

__all__ = [
    "AppendedUnits",
    "AppliedEdit",
    "BinaryMask",
    "Change",
    "ChangeSequence",
    "CutMix",
    "Edit",
    "EditRequest",
    "EditResult",
    "EditScores",
    "EditSettings",
    "EditSpace",
    "EditTrajectory",
    "Editor",
    "EvaluationSet",
    "FullMask",
    "GradientMask",
    "Judge",
    "LearnedMask",
    "LowRankChange",
    "MaskHypernetwork",
    "MaskNetwork",
    "MetaTrainingSettings",
    "RandomMask",
    "SoftMasks",
    "StepEvaluation",
    "WeightChange",
    "Where",
    "applied",
    "cutmix",
    "generalization",
    "locality",
    "reliability",
    "train_hypernetwork",
]
