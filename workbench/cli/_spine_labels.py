"""Labelled spine radiographs for commands: a folder in the AASCE layout, with or without what is wrong in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from workbench.cli._app import err
from workbench.data.aasce import AascePhase, AasceProblem, AasceSet
from workbench.errors import InvalidInputError

#: So many problems are listed before the rest is only counted.
_LISTED = 10


def open_phase(root: Path, phase: str) -> AascePhase:
    """A phase of a folder in the AASCE layout; errors as in `AasceSet`, and `InvalidInputError` for an empty one."""
    found = AasceSet(root).phase(phase)
    if not len(found):
        raise InvalidInputError(f"phase {phase} of {root} names no image in filenames.csv")
    return found


def problem_table(problems: Sequence[AasceProblem]) -> Table:
    """One line a problem: row from 0, image, kind, in words."""
    table = Table("Row", "Image", "Kind", "Problem", box=None, pad_edge=False)
    for problem in problems:
        table.add_row(
            "" if problem.row is None else str(problem.row), problem.name, problem.kind, problem.text
        )
    return table


def sound_rows(phase: AascePhase, skip_problems: bool) -> list[int]:
    """Rows whose labels have no problems; nothing is mended.

    Raises:
        InvalidInputError: some have, and they are not to be skipped; or no row is left.
    """
    problems = [problem for problem in phase.problems() if problem.row is not None]
    bad = {problem.row for problem in problems}
    if bad and not skip_problems:
        first = "\n".join(f"  row {p.row}, {p.name}: {p.kind}: {p.text}" for p in problems[:_LISTED])
        more = f"\n  … and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise InvalidInputError(
            f"{len(bad)} of {len(phase)} images of phase {phase.name} have problems with their labels:\n{first}{more}\n"
            "Mend the files, or leave these images out with --skip-problems; to see all: workbench spine check"
        )
    rows = [row for row in range(len(phase)) if row not in bad]
    if not rows:
        raise InvalidInputError(
            f"every image of phase {phase.name} has problems with its labels; none is left"
        )
    if bad:
        err.print(problem_table(problems))
        err.print(f"left out {len(bad)} of {len(phase)} images of phase {phase.name}")
    return rows
