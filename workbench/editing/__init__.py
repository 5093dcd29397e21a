"""Learning where to edit: masks over hidden units, the hypernetwork that gives them, edits and their evaluation."""

from workbench.editing.changes import AppendedUnits, Change, ChangeSequence, LowRankChange, WeightChange
from workbench.editing.conflicts import ConflictMatrix, compose_all, conflict_matrix
from workbench.editing.cutmix import CutMix, cutmix
from workbench.editing.edit import AppliedEdit, Edit, applied
from workbench.editing.editor import Editor, EditRequest, EditSettings
from workbench.editing.editors.choice import EditorChoice, choose_editor
from workbench.editing.hypernetwork import MaskHypernetwork, MaskNetwork
from workbench.editing.judging import Judge
from workbench.editing.masks import BinaryMask, SoftMasks
from workbench.editing.meta_training import MetaTrainingSettings, train_hypernetwork
from workbench.editing.metrics import EditScores, EvaluationSet, generalization, locality, reliability
from workbench.editing.orders import order_effect, overlap_table
from workbench.editing.pareto import front_area, front_areas, hypervolume, pareto_front, sweep_means, verdict
from workbench.editing.report import EditReport, change_table
from workbench.editing.sequences import SequenceStep, edit_in_sequence, mask_of, on_edited_model
from workbench.editing.space import EditSpace
from workbench.editing.state_files import originals_path, restore, timm_call, write_edited
from workbench.editing.stopping import LocalityStop
from workbench.editing.sweeps import measure_edit, measure_sweeps
from workbench.editing.trajectory import EditResult, EditTrajectory, StepEvaluation
from workbench.editing.where import FullMask, GradientMask, LearnedMask, RandomMask, Where

__all__ = [
    "AppendedUnits",
    "AppliedEdit",
    "BinaryMask",
    "Change",
    "ChangeSequence",
    "ConflictMatrix",
    "CutMix",
    "Edit",
    "EditReport",
    "EditRequest",
    "EditResult",
    "EditScores",
    "EditSettings",
    "EditSpace",
    "EditTrajectory",
    "Editor",
    "EditorChoice",
    "EvaluationSet",
    "FullMask",
    "GradientMask",
    "Judge",
    "LearnedMask",
    "LocalityStop",
    "LowRankChange",
    "MaskHypernetwork",
    "MaskNetwork",
    "MetaTrainingSettings",
    "RandomMask",
    "SequenceStep",
    "SoftMasks",
    "StepEvaluation",
    "WeightChange",
    "Where",
    "applied",
    "change_table",
    "choose_editor",
    "compose_all",
    "conflict_matrix",
    "cutmix",
    "edit_in_sequence",
    "front_area",
    "front_areas",
    "generalization",
    "hypervolume",
    "locality",
    "mask_of",
    "measure_edit",
    "measure_sweeps",
    "on_edited_model",
    "order_effect",
    "originals_path",
    "overlap_table",
    "pareto_front",
    "reliability",
    "restore",
    "sweep_means",
    "timm_call",
    "train_hypernetwork",
    "verdict",
    "write_edited",
]
