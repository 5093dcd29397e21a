"""``workbench edit``: correct one wrong image, keep the correction as a small file, and put it into a model."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from workbench.cli import _edit_inputs as given
from workbench.cli._app import err, out
from workbench.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from workbench.editing import Edit, EditReport, EditResult

_DEFAULT = "make"

#: Editors by what --mask calls them.
_MASKS = {"learned": "learned-mask", "random": "random-mask", "gradient": "gradient-mask", "full": "ft"}


class EditGroup(TyperGroup):
    """Lets ``workbench edit MODEL …`` stand for ``workbench edit make MODEL …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `make` before what is no command, unless it looks like one that was mistyped."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            if near := get_close_matches(args[0], self.commands, n=1, cutoff=0.75):
                ctx.fail(
                    f"no command {args[0]!r}; did you mean {near[0]!r}? (a model of that name: edit make {args[0]} …)"
                )
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=EditGroup,
    no_args_is_help=True,
    help="Correct one wrong image. `workbench edit MODEL --image x.png --target LABEL` is short for `edit make`.",
)

Model = Annotated[str, typer.Argument(help="A name, see `workbench models`, or a file of weights.")]
Architecture = Annotated[
    str | None, typer.Option(help="For a file that does not say it: timm's name of the architecture.")
]
EditFile = Annotated[Path, typer.Argument(help="What `workbench edit` wrote.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]


@app.command()
def make(
    model: Model,
    image: Annotated[Path, typer.Option(help="The image that the model gets wrong.")],
    target: Annotated[str, typer.Option(help="Its right class: a name or an index.")],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The edit, as safetensors.")] = Path(
        "edit.safetensors"
    ),
    neighbours: Annotated[
        Path | None, typer.Option(help="Folder of other images of that class: are they right, too?")
    ] = None,
    protect: Annotated[
        Path | None, typer.Option(help="Folder of images whose predictions should stay: do they?")
    ] = None,
    editor: Annotated[
        str,
        typer.Option(help="See `workbench edit editors`; default: the learned mask, or the gradient mask."),
    ] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option("-s", metavar="KEY=VALUE", help="A setting of the editor; may be repeated."),
    ] = None,
    mask: Annotated[str, typer.Option(help="Short for an editor: learned, random, gradient or full.")] = "",
    hypernetwork: Annotated[str, typer.Option(help="For the learned mask: a name or a file.")] = "",
    sparsity: Annotated[
        float | None, typer.Option(help="Fraction of hidden units that stay as they are (0.9).")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="corrected or published")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size of the edit (2e-5).")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Steps after which it gives up (100).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of a random mask (0).")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Report, .html or .md; default: beside the edit.")
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False,
    architecture: Architecture = None,
    force: Force = False,
) -> None:
    """Edit a model so that it gets one image right; the model's own weights are not changed.

    Writes the edit and a report. Exit status 2 where the edit did not succeed; nothing is written then.
    """
    from workbench.data.own_images import read_case
    from workbench.editing import EditReport, EditRequest, choose_editor
    from workbench.models import load_model

    page = given.report_path(out_file, report, not no_report)
    given.check_outputs([out_file, *([page] if page else [])], [image, Path(model)], force)
    settings = _settings(
        setting or [],
        sparsity=sparsity,
        preset=preset,
        learning_rate=learning_rate,
        max_steps=max_steps,
        seed=seed,
    )
    vit = load_model(model, architecture)
    case = read_case(vit, image, target, neighbours, protect)
    choice = choose_editor(vit, _editor_name(editor, mask), hypernetwork, **settings)
    out.print(choice.why, soft_wrap=True)
    result = choice.editor.edit(EditRequest(case.image, case.target))
    out.print(result.outcome(), soft_wrap=True)
    if not result.succeeded:
        raise typer.Exit(2)
    edit = _signed(result, model, case.name, choice.entry.name)
    made = EditReport.of(vit, result, case, model_name=model, editor=choice.entry.name)
    _say(made)
    edit.save(out_file)
    out.print(f"wrote {_size(out_file)}, {edit.parameters:,} scalars", soft_wrap=True)
    if page is not None:
        _write_report(made, page)


@app.command()
def apply(
    model: Model,
    edit_file: EditFile,
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The edited model, as safetensors.")],
    architecture: Architecture = None,
    force: Force = False,
) -> None:
    """Write the edited model as a plain timm state dict.

    What the edit replaced is written beside it, as NAME.originals.safetensors; `revert` needs that file.
    """
    from workbench.editing import Edit, originals_path, timm_call, write_edited
    from workbench.models import load_model

    beside = originals_path(out_file)
    given.check_outputs([out_file, beside], [edit_file, Path(model)], force)
    edit, vit = Edit.load(edit_file), load_model(model, architecture)
    write_edited(vit, edit, out_file)
    out.print(f"wrote {_size(out_file)}, and what was replaced: {_size(beside)}", soft_wrap=True)
    out.print(f"in timm: {timm_call(vit, out_file)}", soft_wrap=True)


@app.command()
def revert(
    model_file: Annotated[Path, typer.Argument(help="What `workbench edit apply` wrote.")],
    edit_file: EditFile,
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The base model, as safetensors.")],
    force: Force = False,
) -> None:
    """Take an edit out of a model that `apply` wrote; the result is the base model, bit for bit."""
    from workbench.editing import Edit, originals_path, restore

    given.check_outputs([out_file], [model_file, originals_path(model_file), edit_file], force)
    edit = Edit.load(edit_file)
    restore(model_file, edit, out_file)
    out.print(f"wrote {_size(out_file)}, fingerprint {edit.base[:12]}… as before the edit", soft_wrap=True)


@app.command()
def compose(
    edit_files: Annotated[list[Path], typer.Argument(help="Two or more edits of one model.")],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="All of them as one edit, as safetensors.")],
    model: Annotated[str | None, typer.Option(help="Try them together in this model; needs --image.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="With --model: the image of each edit, in their order.")
    ] = None,
    architecture: Architecture = None,
    force: Force = False,
) -> None:
    """Put edits of one model together, and say which rows and columns more than one of them changes.

    With a model and the edited images it also says whether each image is still right, in both orders.
    """
    from workbench.editing import Edit, compose_all, overlap_table

    if len(edit_files) < 2:
        raise InvalidInputError(f"only {edit_files[0]} to compose; give two or more edits")
    if (model is None) != (not image):
        raise InvalidInputError("--model and --image go together: the model, and the image of each edit")
    given.check_outputs([out_file], edit_files, force)
    edits = [Edit.load(path) for path in edit_files]
    composed, shared = compose_all(edits), overlap_table(edits, [path.name for path in edit_files])
    _say_shared(shared)
    if model is not None and image:
        _try_orders(model, architecture, edits, image)
    elif not shared.empty:
        out.print("whether each still works: name the model and the edited images, --model and --image")
    composed.save(out_file)
    out.print(f"wrote {_size(out_file)}, {composed.parameters:,} scalars", soft_wrap=True)


@app.command()
def show(edit_file: EditFile) -> None:
    """Say what an edit file holds: base model, editor, target, and what it changes. No model is needed."""
    from workbench.cli._edit_show import print_edit
    from workbench.editing import Edit

    print_edit(edit_file, Edit.load(edit_file))


@app.command()
def editors() -> None:
    """List the editors: what each does and which settings it has."""
    from rich.table import Table

    from workbench.editing.editors import EDITORS

    table = Table("editor", "does", "settings", box=None, pad_edge=False)
    for entry in EDITORS.values():
        table.add_row(entry.name, entry.definition, ", ".join(entry.settings))
    out.print(table)


def _settings(assignments: list[str], **options: Any) -> dict[str, Any]:
    """Settings from -s and from options of their own, those that were given."""
    named = {name: value for name, value in options.items() if value is not None}
    found = given.parse_settings(assignments)
    if both := sorted(named.keys() & found.keys()):
        raise InvalidInputError(f"{both[0]} is given twice, as an option and with -s")
    return {**found, **named}


def _editor_name(editor: str, mask: str) -> str:
    if editor and mask:
        raise InvalidInputError(
            f"--editor {editor} and --mask {mask} both choose an editor; give one of them"
        )
    if mask and mask not in _MASKS:
        raise UnknownNameError("mask", mask, _MASKS)
    return editor or _MASKS.get(mask, "")


def _signed(result: EditResult, model: str, image: str, editor: str) -> Edit:
    """The edit, with what `show` says of it."""
    names = {"target_names": [result.target_name], "predicted": result.predicted_name(0)}
    facts = {"model": Path(model).name, "image": image, "editor": editor, **names}
    return replace(result.edit, info={**facts, **result.edit.info})


def _say(report: EditReport) -> None:
    from workbench.cli._edit_show import print_changes

    print_changes(report.result.edit)
    for sentence in report.sentences():
        out.print(sentence, soft_wrap=True)


def _write_report(report: EditReport, path: Path) -> None:
    from workbench.files import write_text
    from workbench.runs import write_edit_page

    if path.suffix == ".md":
        write_text(path, report.to_markdown())
    else:
        write_edit_page(report, path)
    out.print(f"wrote {path}", soft_wrap=True)


def _say_shared(shared: Any) -> None:
    from workbench.cli._edit_show import print_frame

    if shared.empty:
        out.print("no row or column is changed by more than one of them")
        return
    err.print(
        Text("warning: ", style="bold yellow")
        + Text("some rows or columns are changed by more than one edit"),
        soft_wrap=True,
    )
    print_frame(shared)


def _try_orders(model: str, architecture: str | None, edits: list[Edit], images: list[Path]) -> None:
    import torch

    from workbench.cli._edit_show import print_frame
    from workbench.data.own_images import read_for
    from workbench.editing import order_effect
    from workbench.models import load_model

    vit = load_model(model, architecture)
    effect = order_effect(vit, edits, torch.stack([read_for(vit, path) for path in images]))
    effect.insert(0, "image", [path.name for path in images])
    print_frame(effect)
    lost = effect[(effect["in order"] != effect["wanted"]) | (effect["reversed"] != effect["wanted"])]
    for name in lost["image"]:
        err.print(
            Text("warning: ", style="bold yellow") + Text(f"{name} is not right with all edits together"),
            soft_wrap=True,
        )


def _size(path: Path) -> str:
    return f"{path} ({path.stat().st_size / 1000:,.0f} kB)"
