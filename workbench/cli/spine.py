"""``workbench spine``: landmarks and angles of radiographs, phantoms to try, and label files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from workbench.cli._app import err, out
from workbench.errors import InvalidInputError, UnknownNameError, WorkbenchError

if TYPE_CHECKING:
    from workbench.cli._spine_files import Job
    from workbench.data.aasce import NewCase
    from workbench.spine.cascade import SpineCascade
    from workbench.spine.results import SpinePrediction

app = typer.Typer(
    no_args_is_help=True, help="Spine radiographs: landmarks and Cobb angles, phantoms, labels."
)

_LEVELS = ("clean", "hard")

Folder = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
Root = Annotated[Path, typer.Argument(help="Folder in the AASCE layout, with data/ and labels/.")]


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, TIFF or DICOM files, or folders of them.")],
    folder: Folder,
    cascade: Annotated[
        str, typer.Option(help="A shipped cascade by name, or a .safetensors file.")
    ] = "phantom",
    flip: Annotated[
        bool,
        typer.Option("--flip/--no-flip", help="Average with the mirrored image: steadier, twice the time."),
    ] = True,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Draw a picture of each result.")
    ] = True,
    allow_colour: Annotated[
        bool, typer.Option("--allow-colour", help="Take colour images as grey ones.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Find 17 vertebrae and the angles between them; research use, not for diagnosis.

    Writes NAME.json, NAME.csv and NAME.png for each image, and angles.csv for all. Exit status 1 where some image
    could not be used; the others are written all the same.
    """
    from workbench.cli._spine_angles import angle_table, write_angles
    from workbench.cli._spine_files import ANGLES, plan
    from workbench.spine.cascade import SpineCascade

    jobs = plan(images, folder, overlay=overlay, force=force)
    model = SpineCascade.load(cascade)
    found: dict[str, SpinePrediction] = {}
    failed: dict[Path, str] = {}
    for job in _progress(jobs):
        try:
            found[job.name] = _predict(model, job, flip, allow_colour)
        except WorkbenchError as error:
            failed[job.image] = str(error)
    if found:
        write_angles(folder / f"{ANGLES}.csv", found)
        out.print(angle_table(found))
        out.print(f"wrote {folder}. Research use, not for diagnosis.", soft_wrap=True)
    for image, message in failed.items():
        err.print(
            Text("error: ", style="bold red") + Text(f"{image}: {message}", style="red"), soft_wrap=True
        )
    if failed:
        raise typer.Exit(1)


def _progress(jobs: list[Job]) -> Iterator[Job]:
    from tqdm.auto import tqdm

    yield from tqdm(jobs, desc="radiographs", disable=len(jobs) < 2 or not sys.stderr.isatty())


def _predict(model: SpineCascade, job: Job, flip: bool, allow_colour: bool) -> SpinePrediction:
    from workbench.cli._spine_angles import write_levels
    from workbench.cli._spine_overlay import write_overlay
    from workbench.data.radiographs import read_radiograph

    film = read_radiograph(job.image, allow_colour=allow_colour)
    prediction = model.predict(film, flip_average=flip)
    if "png" in job.outputs:
        write_overlay(job.outputs["png"], film, prediction)
    write_levels(job.outputs["csv"], prediction)
    prediction.save(job.outputs["json"])
    return prediction


@app.command()
def phantom(
    folder: Folder,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    level: Annotated[str, typer.Option(help="clean or hard")] = "clean",
    set_name: Annotated[str, typer.Option("--set", help="Sets of other names hold other phantoms.")] = "demo",
    phase: Annotated[str, typer.Option(help="Phase of the layout to write.")] = "training",
) -> None:
    """Draw radiographs with known landmarks and write them in the AASCE layout.

    What else is known of each (tilts, wedges, curve type, size of a pixel) is in labels/PHASE/facts.json.
    """
    from workbench.data.aasce import write_aasce

    if level not in _LEVELS:
        raise UnknownNameError("level", level, _LEVELS)
    out.print(f"wrote {write_aasce(folder, phase, _phantoms(count, level, set_name))}", soft_wrap=True)


def _phantoms(count: int, level: str, set_name: str) -> Iterator[NewCase]:
    from tqdm.auto import tqdm

    from workbench.data import phantom as drawn
    from workbench.data.aasce import NewCase
    from workbench.spine.angles import official_angles

    for index in tqdm(range(count), desc="phantoms", disable=not sys.stderr.isatty()):
        one = drawn.phantom(index, set_name=set_name, level=level)  # type: ignore[arg-type]  # checked before
        angles = official_angles(one.corners, one.image.shape[0])
        facts = {
            "set": set_name,
            "index": index,
            "seed": one.seed,
            "level": one.level,
            "mm_per_pixel": one.mm_per_pixel,
            "kind": one.geometry.kind,
            "side": one.geometry.side,
            "tilts": one.geometry.tilts.tolist(),
            "wedges": one.geometry.wedges.tolist(),
            "branch": angles.branch,
            "occluders": list(one.occluders),
        }
        name = f"{set_name}-{level}-{index:04d}.jpg"
        yield NewCase(name, one.image, one.corners, (angles.an1, angles.an2, angles.an3), facts)


@app.command()
def check(
    root: Root, phase: Annotated[str | None, typer.Option(help="One phase only; default: all.")] = None
) -> None:
    """Look for labels that cannot be right; exit status 1 where there are some. Nothing is mended."""
    from workbench.cli._spine_labels import open_phase, problem_table
    from workbench.data.aasce import AasceSet

    total = 0
    for name in [phase] if phase else AasceSet(root).phases:
        found = open_phase(root, name)
        problems = found.problems()
        total += len(problems)
        images = len({problem.row for problem in problems if problem.row is not None})
        out.print(f"{name}: {len(found)} images, {images} with problems")
        if problems:
            out.print(problem_table(problems))
    if total:
        raise typer.Exit(1)


@app.command()
def export(
    root: Root,
    folder: Folder,
    to: Annotated[str, typer.Option("--to", help="labelme, coco or pts")],
    phase: Annotated[str, typer.Option(help="Which phase.")] = "training",
) -> None:
    """Write the labels of a folder in the AASCE layout for other programs, in pixels of the images, as they stand."""
    from workbench.cli._spine_export import FORMATS, export_labels

    if to not in FORMATS:
        raise UnknownNameError("format", to, FORMATS)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInputError(f"{folder} is not empty; give a new folder with -o")
    out.print(f"wrote {export_labels(root, phase, folder, to)} labels to {folder}", soft_wrap=True)
