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


@app.command()
def editing(
    data: Annotated[Path, typer.Option(help="Folder of the images, laid out as --groups says.")],
    out_file: Annotated[
        Path, typer.Option("--out", "-o", help="JSON file; a CSV and the rows go beside it.")
    ] = Path("editing.json"),
    layout: Annotated[
        str,
        typer.Option(
            "--groups",
            help="natural: <true>_<wrong>/*; pug: PUG ImageNet by light; folders: <class>/*, as of ImageNet.",
        ),
    ] = "natural",
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="GROUP", help="Only this group; may be repeated.")
    ] = None,
    min_group: Annotated[int, typer.Option(min=1, help="Leave out groups with fewer failures.")] = 1,
    sensitive: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Images that edits should leave alone, or class folders to choose them from; may be repeated. "
            "Default: Sensitive-Images in --data.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A name, see `workbench models`, or a file: .npz, .safetensors, .pth.")
    ] = "vit_base_patch16_224.augreg_in21k_ft_in1k",
    architecture: Annotated[
        str | None, typer.Option(help="timm's name of a file's architecture, where the file does not say it.")
    ] = None,
    editor: Annotated[str, typer.Option(help="Any editor of the registry.")] = "learned-mask",
    hypernetwork: Annotated[
        str | None,
        typer.Option(help="For learned-mask: a name, .safetensors, or .pth of the published code."),
    ] = None,
    density: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of hidden units that may change; may be repeated. Default: 0.75 0.5 0.25 0.1 0.05."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "-s",
            metavar="KEY=VALUE",
            help="A setting of the editor; may be repeated. @FOLDER stands for the images of a folder.",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="corrected or published")] = "corrected",
    preprocess: Annotated[
        str, typer.Option(help="repo, as the published code, or timm, as the model")
    ] = "repo",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    limit: Annotated[int | None, typer.Option(min=1, help="Edits of a group at most; default: all.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the JSON file if it is there.")] = False,
) -> None:
    """The published evaluation of editing on images on disk; run again with the same file to resume."""
    from workbench.cli import _editing_benchmark as measure
    from workbench.files import write_json, write_text

    if out_file.exists() and not force:
        raise InvalidInputError(f"{out_file} exists; give another name with -o, or --force to replace it")
    choice = measure.Choice(
        data=data,
        layout=layout,
        groups=tuple(only or ()),
        min_group=min_group,
        sensitive=tuple(sensitive or ()),
        model=model,
        architecture=architecture,
        editor=editor,
        hypernetwork=hypernetwork,
        densities=tuple(density or ()),
        settings=tuple(setting or ()),
        preset=preset,
        preprocess=preprocess,
        device=device,
        limit=limit,
    )
    report, result = measure.measure(choice, out_file.with_name(f"{out_file.stem}-edits.jsonl"))
    write_json(out_file, report)
    write_text(out_file.with_suffix(".csv"), measure.frame(result).to_csv(index=False))
    out.print(measure.table(result))
    out.print(
        f"{len(result.edits)} edits in {len(result.groups)} groups; {len(report['left_out'])} groups left out"
    )
    out.print(f"wrote {out_file} and {out_file.with_suffix('.csv')}", soft_wrap=True)


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
