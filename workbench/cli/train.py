"""``workbench train``: make the weights that the package ships, or your own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import train_spine
from workbench.cli._app import out

if TYPE_CHECKING:
    from workbench.checkpoints import Card
    from workbench.editing import MetaTrainingSettings
    from workbench.editing.editors.mend_training import MendTrainingSettings
    from workbench.editing.meta_training import ImageSource

app = typer.Typer(
    no_args_is_help=True, help="Train classifiers, hypernetworks, MEND networks and spine cascades."
)
app.command()(train_spine.spine)

Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder for weights, card, log and state; resumes from it.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Model = Annotated[str, typer.Option(help="Model whose edits it will guide: a name, see `workbench models`.")]
Pairs = Annotated[int, typer.Option(min=1, help="CutMix pairs a batch.")]
Images = Annotated[
    Path | None,
    typer.Option(help="Folder of images to mix, with subfolders; default: the emoji source styles."),
]


@app.command()
def classifier(
    out_dir: Out = Path("runs/classifier"),
    method: Annotated[str, typer.Option(help="last-blocks or linear-probe")] = "last-blocks",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over a new view of every drawing.")] = 14,
    seed: Seed = 0,
) -> None:
    """Tune the default backbone on the source emoji styles."""
    from workbench.checkpoints import Card, save_checkpoint, versions
    from workbench.data import emoji
    from workbench.data.emoji_population import source_epoch
    from workbench.data.failures import sensitive_listing
    from workbench.models.loading import build_backbone, classifier_from
    from workbench.models.tuning import TuningSettings, tune_classifier

    settings = TuningSettings(method=method, epochs=epochs, seed=seed)  # type: ignore[arg-type]  # checked inside
    model = build_backbone(num_classes=len(emoji.kinds())).eval()
    began = time.perf_counter()
    tensors = tune_classifier(
        model,
        lambda epoch: source_epoch(epoch, seed),
        settings,
        log=out_dir / "training.csv",
        state=out_dir / "state.pt",
    )
    card = Card(
        name="emoji_vit_s14",
        kind="classifier",
        description=f"DINOv2-initialised, saliency-tuned ViT-S/14; {method} tuned on four emoji styles",
        command=f"workbench train classifier --method {method} --epochs {epochs} --seed {seed}",
        seed=seed,
        settings=asdict(settings),
        extra={"class_names": list(emoji.kinds()), "styles": list(emoji.styles("source"))},
        versions=versions(),
        seconds=round(time.perf_counter() - began, 1),
    )
    halves = {name: value.half() for name, value in tensors.items()}
    trained = classifier_from(halves, card).eval()
    card = replace(card, extra={**card.extra, "sensitive": sensitive_listing(trained)})
    out.print(f"wrote {save_checkpoint(out_dir / 'classifier-emoji_vit_s14.safetensors', halves, card)}")


@app.command()
def hypernetwork(
    model: Model = "emoji_vit_s14",
    out_dir: Out = Path("runs/hypernetwork"),
    preset: Annotated[str, typer.Option(help="corrected or published")] = "corrected",
    iterations: Annotated[int, typer.Option(min=1, help="Batches of CutMix pairs (published: 7000).")] = 7000,
    schedule: Annotated[
        int | None,
        typer.Option(min=1, help="Iterations over which the learning rate falls to 0; default: all."),
    ] = None,
    pairs: Pairs = 8,
    inner_steps: Annotated[int, typer.Option(min=1, help="Weight steps of the mask search.")] = 5,
    outer_steps: Annotated[int, typer.Option(min=1, help="Mask steps of the mask search.")] = 10,
    price: Annotated[float, typer.Option(min=0, help="Price of the mask per sample.")] = 1 / 8,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of the hypernetwork.")] = 1e-4,
    depth: Annotated[int, typer.Option(min=1, help="Transformer blocks of the hypernetwork.")] = 3,
    images: Images = None,
    seed: Seed = 0,
) -> None:
    """Meta-train a mask hypernetwork; run again with the same folder to resume."""
    from workbench.editing import MetaTrainingSettings
    from workbench.editing.mask_search import SearchSettings

    changes = {} if schedule is None else {"schedule": schedule}
    settings = MetaTrainingSettings.preset(
        preset,
        **changes,
        iterations=iterations,
        pairs=pairs,
        learning_rate=learning_rate,
        depth=depth,
        seed=seed,
        search=SearchSettings(inner_steps=inner_steps, outer_steps=outer_steps, price=price),
    )
    command = (
        f"workbench train hypernetwork --model {model} --preset {preset} --iterations {iterations} "
        f"{'' if schedule is None else f'--schedule {schedule} '}--pairs {pairs} "
        f"--inner-steps {inner_steps} --outer-steps {outer_steps} --price {price:g} "
        f"--learning-rate {learning_rate:g} --depth {depth} --seed {seed}{_images(images)}"
    )
    out.print(f"wrote {_train_hypernetwork(model, settings, images, out_dir, command)}")


def _train_hypernetwork(
    name: str, settings: MetaTrainingSettings, images: Path | None, out_dir: Path, command: str
) -> Path:
    from workbench.checkpoints import save_checkpoint
    from workbench.editing import train_hypernetwork
    from workbench.models import load_model

    model = load_model(name)
    log = out_dir / "training.csv"
    source = _image_source(images, model, settings.pairs, settings.seed)
    trained = train_hypernetwork(model, source, settings, log=log, state=out_dir / "state.pt")
    description = f"where to edit {name}: masks over the hidden units of blocks {list(settings.blocks)}"
    card = _card(
        "hypernetwork", name, description, command, settings, log, _HYPERNETWORK_METRICS, trained.extra()
    )
    halves = {key: value.half() for key, value in trained.network.state_dict().items()}
    return save_checkpoint(out_dir / f"hypernetwork-{card.name}.safetensors", halves, card)


@app.command()
def mend(
    model: Model = "emoji_vit_s14",
    out_dir: Out = Path("runs/mend"),
    iterations: Annotated[int, typer.Option(min=1, help="Batches of CutMix pairs.")] = 1000,
    pairs: Pairs = 4,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the network's residual layers.")] = 128,
    edit_rate: Annotated[float, typer.Option(min=0, help="Step size that each matrix starts with.")] = 1e-3,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of the network.")] = 3e-4,
    images: Images = None,
    seed: Seed = 0,
) -> None:
    """Meta-train a MEND network, which turns gradients into edits; run again with the same folder to resume."""
    from workbench.editing.editors.mend_training import MendTrainingSettings

    settings = MendTrainingSettings(
        iterations=iterations,
        pairs=pairs,
        rank=rank,
        edit_rate=edit_rate,
        learning_rate=learning_rate,
        seed=seed,
    )
    command = (
        f"workbench train mend --model {model} --iterations {iterations} --pairs {pairs} --rank {rank} "
        f"--edit-rate {edit_rate:g} --learning-rate {learning_rate:g} --seed {seed}{_images(images)}"
    )
    out.print(f"wrote {_train_mend(model, settings, images, out_dir, command)}")


def _train_mend(
    name: str, settings: MendTrainingSettings, images: Path | None, out_dir: Path, command: str
) -> Path:
    from workbench.checkpoints import save_checkpoint
    from workbench.editing.editors.mend_training import train_mend
    from workbench.models import load_model

    model = load_model(name)
    log = out_dir / "training.csv"
    source = _image_source(images, model, settings.pairs, settings.seed)
    trained = train_mend(model, source, settings, log=log, state=out_dir / "state.pt")
    description = f"edits of {name} from one gradient, in blocks {list(settings.blocks)}"
    card = _card("mend", name, description, command, settings, log, _MEND_METRICS, trained.extra())
    return save_checkpoint(out_dir / f"mend-{card.name}.safetensors", trained.compact(), card)


def _images(folder: Path | None) -> str:
    """What a card's command says of images of one's own."""
    return "" if folder is None else f" --images {folder}"


def _card(
    kind: str,
    name: str,
    description: str,
    command: str,
    settings: MetaTrainingSettings | MendTrainingSettings,
    log: Path,
    metrics: Sequence[str],
    extra: dict[str, Any],
) -> Card:
    """The card of what was trained for a model."""
    from workbench.checkpoints import Card, versions

    return Card(
        name=Path(name).stem,
        kind=kind,
        description=description,
        command=command,
        seed=settings.seed,
        settings=asdict(settings),
        metrics=_last_rows(log, metrics),
        extra=extra,
        versions=versions(),
        seconds=_seconds(log),
    )


def _image_source(folder: Path | None, model: Any, pairs: int, seed: int) -> ImageSource:
    """Hosts and donors of `pairs` pairs: crops of images in a folder, or views of the emoji source styles."""
    from workbench.data.emoji_population import source_batch
    from workbench.data.folders import FolderCrops
    from workbench.models.preprocessing import input_size

    if folder is not None:
        crops = FolderCrops(folder, input_size(model), seed)
        return lambda iteration: crops.batch(iteration, 2 * pairs)
    size = input_size(model)
    return lambda iteration: source_batch(iteration, 2 * pairs, seed, size)


_HYPERNETWORK_METRICS = (
    "kl",
    "kl_start",
    "label_density",
    "mask_density",
    "bce",
    "label_specific",
    "mask_specific",
)
_MEND_METRICS = ("edit_loss_before", "edit_loss", "locality_loss", "right_before", "right", "kept")


def _last_rows(log: Path, wanted: Sequence[str], rows: int = 50) -> dict[str, float]:
    """Means over the last rows of a training log."""
    import pandas as pd

    tail = pd.read_csv(log).tail(rows)
    return {name: round(float(tail[name].mean()), 6) for name in wanted}


def _seconds(log: Path) -> float:
    import pandas as pd

    return round(float(pd.read_csv(log)["seconds"].sum()), 1)
