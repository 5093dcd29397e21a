"""Labels in the AASCE layout as files of other programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from workbench.cli._spine_labels import open_phase
from workbench.data.aasce import AasceCase
from workbench.data.landmark_files import LabelledImage, write_coco, write_labelme, write_pts


def export_labels(root: Path, phase: str, folder: Path, to: str) -> int:
    """Write all labels of a phase as they stand, and return how many; every label is read before one is written."""
    cases = list(open_phase(root, phase))
    FORMATS[to](cases, folder)
    return len(cases)


def _labelme(cases: list[AasceCase], folder: Path) -> None:
    for case in cases:
        # LabelMe looks for the image beside the file, so the path leads there.
        path = os.path.relpath(case.image_path.resolve(), folder.resolve())
        write_labelme(folder / f"{Path(case.name).stem}.json", LabelledImage(path, case.corners, case.size))


def _coco(cases: list[AasceCase], folder: Path) -> None:
    write_coco(folder / "keypoints.json", [LabelledImage(c.name, c.corners, c.size) for c in cases])


def _pts(cases: list[AasceCase], folder: Path) -> None:
    for case in cases:
        write_pts(folder / f"{Path(case.name).stem}.pts", case.corners)


FORMATS: dict[str, Callable[[list[AasceCase], Path], None]] = {
    "labelme": _labelme,
    "coco": _coco,
    "pts": _pts,
}
