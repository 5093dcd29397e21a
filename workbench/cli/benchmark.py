"""``workbench benchmark``: measure what was trained."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from workbench.cli._app import out
from workbench.errors import InvalidInputError

if TYPE_CHECKING:
    from workbench.spine.cascade import SpineCascade

app = typer.Typer(no_args_is_help=True, help="Measure what was trained, into one JSON file and one table.")


@app.callback()
def _group() -> None:
    """Keeps `spine` a command of its own while the group has no other."""


@app.command()
def spine(
    out_file: Annotated[Path, typer.Option("--out", "-o", help="JSON file; predictions are kept beside it.")],
    cascade: Annotated[
        str, typer.Option(help="A shipped cascade by name, or a .safetensors file.")
    ] = "phantom",
    data: Annotated[
        Path | None, typer.Option(help="Folder in the AASCE layout; default: phantoms of the set test.")
    ] = None,
    phase: Annotated[str, typer.Option(help="With --data: which phase.")] = "test",
    skip_problems: Annotated[
        bool, typer.Option("--skip-problems", help="With --data: leave images out whose labels are doubtful.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, help="How many phantoms.")] = 200,
    level: Annotated[str, typer.Option(help="Phantoms: clean, hard or mixed.")] = "clean",
    flip: Annotated[
        bool,
        typer.Option("--flip/--no-flip", help="Average with the mirrored image: steadier, twice the time."),
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the JSON file if it is there.")] = False,
) -> None:
    """Landmark and angle errors of a cascade after every stage; run again with the same file to resume."""
    from workbench.cli import _spine_benchmark as measure
    from workbench.files import write_json
    from workbench.spine.cascade import SpineCascade

    if out_file.exists() and not force:
        raise InvalidInputError(f"{out_file} exists; give another name with -o, or --force to replace it")
    model = SpineCascade.load(cascade)
    cases = (
        measure.phantom_cases(count, level)
        if data is None
        else measure.labelled_cases(data, phase, skip_problems)
    )
    folder = out_file.with_name(f"{out_file.stem}-predictions")
    evaluations = measure.by_stage(cases, measure.predict_all(model, cases, folder, flip))
    report = measure.report(cases, evaluations)
    write_json(out_file, {**_facts(model, flip), **report})
    _print(report)
    out.print(f"wrote {out_file}", soft_wrap=True)


def _facts(model: SpineCascade, flip: bool) -> dict[str, Any]:
    from workbench.checkpoints import versions
    from workbench.cli._spine_benchmark import weights_digest

    return {
        "name": "spine",
        "cascade": model.name,
        "weights": weights_digest(model),
        "flip": flip,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
    }


def _print(report: dict[str, Any]) -> None:
    table = Table(
        "Stage", "NMSE", "OR20 %", "OR40 %", "mean px", "SMAPE %", "CMAE °", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, stage in report["stages"].items():
        rest = [stage[key] for key in ("or20", "or40", "mean_px", "smape", "cmae")]
        table.add_row(name, _number(stage["nmse"], ".2e"), *(_number(value, ".2f") for value in rest))
    out.print(f"{report['data']}: {report['images']} images", soft_wrap=True)
    if report["doubtful_labels"]:
        out.print(f"{report['doubtful_labels']} of them have doubtful labels; see workbench spine check")
    out.print(table)
    out.print(f"Angles are compared with the {report['angle_truth']}.")
    if report["against_angles_csv"]:
        out.print(
            f"Against angles.csv, last stage: SMAPE {_number(report['against_angles_csv']['smape'], '.2f')} %"
        )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
