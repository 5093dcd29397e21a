"""``workbench train spine``: a landmark cascade, on phantoms or on radiographs in the AASCE layout."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli._app import out
from workbench.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np

    from workbench.spine.cascade import SpineCascade
    from workbench.spine.network import CascadeNetwork
    from workbench.spine.samples import Samples
    from workbench.spine.settings import CascadeSettings

_STEPS = ("global_steps", "point_steps", "crop_steps", "patch_steps")


def spine(
    out_dir: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for weights, card, log and state; resumes from it.")
    ] = Path("runs/spine"),
    data: Annotated[
        Path | None,
        typer.Option(help="Folder in the AASCE layout; default: phantoms, drawn when first needed."),
    ] = None,
    phase: Annotated[str, typer.Option(help="With --data: which phase.")] = "training",
    skip_problems: Annotated[
        bool, typer.Option("--skip-problems", help="With --data: leave images out whose labels are doubtful.")
    ] = False,
    count: Annotated[int, typer.Option(min=8, help="How many phantoms.")] = 2400,
    level: Annotated[str, typer.Option(help="Phantoms: clean, hard or mixed.")] = "mixed",
    constrain: Annotated[
        str, typer.Option(help="What stays in the shape model: shape, offset or none.")
    ] = "shape",
    points: Annotated[str, typer.Option(help="What the first step moves: centres or corners.")] = "centres",
    scale: Annotated[float, typer.Option(help="Factor on the numbers of training steps.")] = 1.0,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", "-p", metavar="KEY=VALUE", help="Any setting of the cascade; may be repeated."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="File is spine-NAME.safetensors; default: phantom, with --data aasce.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
) -> None:
    """Train a cascade that finds vertebrae; run again with the same folder to resume."""
    from workbench.runs.parameters import parse_assignments

    name = name or ("phantom" if data is None else "aasce")
    if Path(name).name != name:
        raise InvalidInputError(
            f"{name!r} cannot be the name of a cascade; give a plain word, such as phantom"
        )
    chosen = {
        "constrain": constrain,
        "points": points,
        "seed": str(seed),
        **parse_assignments(parameters or ()),
    }
    settings = _scaled(_settings(chosen), scale)
    options = [f"--scale {scale:g}", *(f"-p {assignment}" for assignment in parameters or ())]
    if data is None:
        source, samples = [f"--count {count} --level {level}"], _phantoms(count, level)
        what = f"{count} {level} phantoms"
    else:
        skipping = " --skip-problems" if skip_problems else ""
        source, samples = [f"--data {data} --phase {phase}{skipping}"], _labelled(data, phase, skip_problems)
        what = f"{len(samples)} radiographs of phase {phase} in the AASCE layout"
    chosen_words = [f"--constrain {constrain} --points {points} --seed {seed} --name {name}"]
    command = " ".join(["workbench train spine", *source, *chosen_words, *options])
    out.print(f"wrote {_train(samples, settings, out_dir, name, what, command)}", soft_wrap=True)


def _settings(chosen: dict[str, str]) -> CascadeSettings:
    """Settings from texts; raises `UnknownNameError` or `InvalidInputError`."""
    from workbench.spine.settings import CascadeSettings

    defaults = {field.name: field.default for field in fields(CascadeSettings)}
    values = {}
    for key, text in chosen.items():
        if key not in defaults:
            raise UnknownNameError("setting", key, defaults)
        values[key] = _typed(key, text, defaults[key])
    return CascadeSettings(**values)


def _typed(key: str, text: str, like: Any) -> Any:
    kind = type(like)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise InvalidInputError(f"{key} is {text!r}; expected true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise InvalidInputError(f"{key} is {text!r}; expected {wanted}") from None


def _scaled(settings: CascadeSettings, scale: float) -> CascadeSettings:
    if not 0 < scale < float("inf"):
        raise InvalidInputError(f"--scale is {scale}; expected a factor above 0")
    return replace(settings, **{step: max(1, round(getattr(settings, step) * scale)) for step in _STEPS})


def _phantoms(count: int, level: str) -> Samples:
    from workbench.spine.samples import phantom_samples

    return phantom_samples("train", count, level, progress=sys.stderr.isatty())  # type: ignore[arg-type]  # checked inside


def _labelled(root: Path, phase_name: str, skip_problems: bool) -> Samples:
    from workbench.cli._spine_labels import open_phase, sound_rows
    from workbench.spine.samples import Samples

    phase = open_phase(root, phase_name)
    return Samples.of(_read(phase, sound_rows(phase, skip_problems)))


def _read(phase: Sequence[Any], rows: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from tqdm.auto import tqdm

    for row in tqdm(rows, desc="radiographs", disable=not sys.stderr.isatty()):
        case = phase[row]
        film = case.read()
        yield film.pixels, film.from_original(case.corners)


def _train(
    samples: Samples, settings: CascadeSettings, out_dir: Path, name: str, what: str, command: str
) -> Path:
    from workbench.checkpoints import Card, versions
    from workbench.spine.cascade import SpineCascade
    from workbench.spine.training import train_cascade

    log = out_dir / "training.csv"
    network = train_cascade(samples, settings, log, out_dir / "state.pt", progress=sys.stderr.isatty())
    cascade = SpineCascade(network, name=name)
    card = Card(
        name=name,
        kind="spine",
        description=f"Cascade of {settings.centre_stages} + {settings.corner_stage_count} stages, trained on {what}",
        command=command,
        seed=settings.seed,
        settings=settings.to_dict(),
        metrics=_held_out_metrics(_as_saved(network, cascade), samples),
        extra={"trained_on": what},
        versions=versions(),
        seconds=_seconds(log),
    )
    return cascade.save(out_dir / f"spine-{name}.safetensors", card)


def _as_saved(network: CascadeNetwork, cascade: SpineCascade) -> SpineCascade:
    """The cascade with weights rounded as the file has them: that is what users will run."""
    rounded = {name: value.float() for name, value in cascade.tensors().items()}
    return type(cascade)(type(network).of_tensors(network.settings, rounded), name=cascade.name)


def _held_out_metrics(cascade: SpineCascade, samples: Samples) -> dict[str, Any]:
    """NMSE and mean distance in the frame after each stage, on the part that was held out for calibration."""
    from workbench.spine.metrics import mean_distance, nmse
    from workbench.spine.training import split

    part, _ = split(samples, cascade.network.settings)
    truth, sizes = part.corners.double().numpy(), part.sizes.numpy()
    stages = cascade.trace_frames(part.images)
    return {
        "held_out": len(part),
        "nmse": [float(f"{nmse(stage, truth, sizes):.4g}") for stage in stages],
        "mean_frame_px": [round(mean_distance(stage, truth), 3) for stage in stages],
    }


def _seconds(log: Path) -> float:
    """Seconds of training in all, of runs that were cut short too."""
    with log.open(encoding="utf-8", newline="") as file:
        return round(sum(float(row.get("seconds") or 0) for row in csv.DictReader(file)), 1)
