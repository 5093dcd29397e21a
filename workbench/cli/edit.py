"""``workbench edit``: correct one wrong image and keep the correction as a small file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from workbench.cli._app import out
from workbench.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from workbench.editing import Where
    from workbench.editing.masks import TopK
    from workbench.editing.trajectory import EditTrajectory

_MASKS = ("learned", "random", "gradient", "full")


def edit(
    model: Annotated[str, typer.Argument(help="Model to edit: a name, see `workbench models`.")],
    image: Annotated[Path, typer.Option(help="The image that the model gets wrong.")],
    target: Annotated[str, typer.Option(help="Its right class: a name or an index.")],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The edit, as safetensors.")] = Path(
        "edit.safetensors"
    ),
    mask: Annotated[str, typer.Option(help="Where to edit: learned, random, gradient or full.")] = "learned",
    hypernetwork: Annotated[str | None, typer.Option(help="For --mask learned: a name or a file.")] = None,
    sparsity: Annotated[float, typer.Option(help="Fraction of hidden units that stay as they are.")] = 0.9,
    preset: Annotated[str, typer.Option(help="corrected or published")] = "corrected",
    learning_rate: Annotated[float, typer.Option(help="Step size of the edit.")] = 2e-5,
    max_steps: Annotated[int, typer.Option(help="Steps after which it gives up.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a random mask.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing edit file.")] = False,
) -> None:
    """Edit a model so that it gets one image right; the model's own weights are not changed.

    Exit status 2 where the edit did not succeed within its steps; nothing is written then.
    """
    from workbench.data.images import read_image
    from workbench.editing import Editor, EditRequest, EditSettings
    from workbench.models import load_model
    from workbench.models.preprocessing import class_names, input_size

    if out_file.exists() and not force:
        raise InvalidInputError(f"{out_file} exists; give another name with -o, or --force to overwrite it")
    vit = load_model(model)
    picture = read_image(image, size=input_size(vit))
    wanted = _class(target, class_names(vit))
    settings = EditSettings.from_preset(preset, learning_rate=learning_rate, max_steps=max_steps)
    where = _where(mask, hypernetwork or model, sparsity, seed, settings.topk)
    editor = Editor(vit, where, settings)
    trajectory = editor.edit(EditRequest(picture, wanted))
    _report(trajectory)
    if not trajectory.succeeded:
        raise typer.Exit(2)
    trajectory.edit.save(out_file)
    out.print(
        f"wrote {out_file} ({out_file.stat().st_size / 1000:.0f} kB, {trajectory.edit.parameters} scalars)"
    )


def _class(target: str, names: tuple[str, ...]) -> int:
    """A class by name, or by index where it is a number."""
    if target in names:
        return names.index(target)
    if target.isdecimal() and int(target) < len(names):
        return int(target)
    raise UnknownNameError("class", target, names, hint=f"or give an index, 0 to {len(names) - 1}")


def _where(mask: str, hypernetwork: str, sparsity: float, seed: int, topk: TopK) -> Where:
    from workbench.editing import FullMask, GradientMask, LearnedMask, MaskHypernetwork, RandomMask

    if mask == "learned":
        return LearnedMask(MaskHypernetwork.load(hypernetwork), sparsity, topk)
    if mask == "random":
        return RandomMask(sparsity, seed)
    if mask == "gradient":
        return GradientMask(sparsity)
    if mask == "full":
        return FullMask()
    raise UnknownNameError("mask", mask, _MASKS)


def _report(trajectory: EditTrajectory) -> None:
    out.print(trajectory.outcome())
    table = Table("address", "units changed", "length of the change", box=None, pad_edge=False)
    for address, part in trajectory.edit.to_frame().groupby("address"):
        total: Any = (part["norm"] ** 2).sum() ** 0.5
        table.add_row(str(address), str(len(part)), f"{total:.4f}")
    out.print(table)
