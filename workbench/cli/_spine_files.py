"""Which radiographs a command is given and what it will write: all of it is settled before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import InvalidInputError, MissingDataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")

#: The table of all images; no image may have this name.
ANGLES = "angles"


@dataclass(frozen=True)
class Job:
    """One radiograph and the files that are made of it.

    Args:
        image: The radiograph.
        name: What its files are called.
        outputs: The files by kind: "json", "csv" and, with an overlay, "png".
    """

    image: Path
    name: str
    outputs: dict[str, Path]


def plan(inputs: Sequence[Path], folder: Path, *, overlay: bool, force: bool) -> list[Job]:
    """What to read and to write.

    Args:
        inputs: Files, and folders of them.
        folder: Where to write.
        overlay: Whether pictures are wanted.
        force: Whether files that are there may be replaced; an input never is.

    Raises:
        MissingDataError: a file or folder is not there, or a folder holds no radiograph.
        InvalidInputError: two inputs of the same name, or a file to be written is there already.
    """
    images = list(dict.fromkeys(image for given in inputs for image in _images(given)))
    kinds = ("json", "csv", "png") if overlay else ("json", "csv")
    jobs = []
    for image in images:
        name = stem_of(image)
        jobs.append(Job(image, name, {kind: folder / f"{name}.{kind}" for kind in kinds}))
    _check_names(jobs)
    _check_outputs(jobs, folder, force)
    return jobs


def stem_of(image: Path) -> str:
    """A file's name without the suffix of an image; others, as in ``1.2.840.10008``, belong to the name."""
    return image.stem if image.suffix.lower() in SUFFIXES else image.name


def _images(given: Path) -> Iterator[Path]:
    if not given.is_dir():
        if not given.exists():
            raise MissingDataError(f"there is no file {given}; check the path (working folder: {Path.cwd()})")
        yield given
        return
    found = sorted(path for path in given.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not found:
        raise MissingDataError(
            f"{given} holds no radiograph; expected files that end in {', '.join(SUFFIXES)}"
        )
    yield from found


def _check_names(jobs: Sequence[Job]) -> None:
    seen: dict[str, Path] = {}
    for job in jobs:
        name = job.name.casefold()  # some file systems take A.png and a.png for one
        if name in seen:
            raise InvalidInputError(
                f"{seen[name]} and {job.image} would both be written as {job.name}.json; rename one, or predict them "
                "into different folders"
            )
        seen[name] = job.image
    if ANGLES in seen:
        raise InvalidInputError(
            f"{seen[ANGLES]} would be written over {ANGLES}.csv, the table of all; rename it"
        )


def _check_outputs(jobs: Sequence[Job], folder: Path, force: bool) -> None:
    outputs = [folder / f"{ANGLES}.csv", *(path for job in jobs for path in job.outputs.values())]
    inputs = {job.image.resolve() for job in jobs}
    if same := [path for path in outputs if path.resolve() in inputs]:
        raise InvalidInputError(
            f"{same[0]} is one of the inputs and would be replaced; choose another folder with -o"
        )
    there = [path for path in outputs if path.exists()]
    if there and not force:
        more = f" and {len(there) - 1} more files" if len(there) > 1 else ""
        raise InvalidInputError(f"{there[0]}{more} exist already; give another folder with -o, or --force")
