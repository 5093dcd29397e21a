"""The published evaluation of editing on images on disk: reading what it needs, and reporting what it gave."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table
from torch import nn

from workbench.checkpoints import list_checkpoints, versions
from workbench.cli._edit_inputs import parse_settings
from workbench.data.disk_groups import LAYOUTS, DiskGroup, disk_groups
from workbench.data.failures import SENSITIVE_GAP
from workbench.data.folders import image_files as images_below
from workbench.data.imagenet import (
    INNER_FOLDERS,
    SENSITIVE_FOLDER,
    ClassFolders,
    ImageList,
    SensitiveImages,
    folder_classes,
    image_files,
)
from workbench.data.preprocess import Preprocess, preset
from workbench.data.scan import sensitive_images
from workbench.editing.editor import EDIT_PRESETS
from workbench.editing.editors import editor_entry
from workbench.editing.hypernetwork import MaskHypernetwork
from workbench.editing.protocol import MEASURES, ProtocolResult, PublishedProtocol, variants_of
from workbench.editing.row_log import RowLog
from workbench.editing.sweeps import setting_label
from workbench.errors import InvalidInputError, MissingDataError, UnknownNameError
from workbench.models import fingerprint, load_model

if TYPE_CHECKING:
    import pandas as pd

#: More rows than this are left to the CSV.
_SHOWN = 100


@dataclass(frozen=True)
class Choice:
    """What was asked for on the command line."""

    data: Path
    layout: str
    groups: tuple[str, ...]
    min_group: int
    sensitive: tuple[Path, ...]
    model: str
    architecture: str | None
    editor: str
    hypernetwork: str | None
    densities: tuple[float, ...]
    settings: tuple[str, ...]
    preset: str
    preprocess: str
    device: str
    limit: int | None


def measure(choice: Choice, rows: Path) -> tuple[dict[str, Any], ProtocolResult]:
    """Run the protocol, going on from the rows that are there; the report and the result.

    Raises:
        WorkbenchError: see `PublishedProtocol`, `disk_groups`, `load_model`; each message says what to type.
    """
    if choice.layout not in LAYOUTS:
        raise UnknownNameError("layout", choice.layout, LAYOUTS)
    given, folders = parse_settings(choice.settings), _protected_folders(choice)
    for name in given.keys() & {"preset", "hypernetwork"}:
        raise InvalidInputError(f"give --{name} instead of -s {name}=…")
    variants = variants_of(choice.editor, choice.densities, given)
    device = _device(choice.device)
    model: nn.Module = load_model(choice.model, choice.architecture).to(device)
    guide = _hypernetwork(choice, model)
    preprocess = preset(choice.preprocess, model)
    common = {**_with_images(given, preprocess), **_preset(choice)}
    if guide is not None:
        common["hypernetwork"] = guide
    show = sys.stderr.isatty()
    found = disk_groups(model, choice.layout, choice.data, preprocess, choice.groups, show)
    kept = [group for group in found if len(group) >= choice.min_group]
    if any(map(len, found)) and not kept:
        raise InvalidInputError(
            f"no group has {choice.min_group} failures, the largest has {max(map(len, found))}; lower --min-group"
        )
    protected, rule = _protected(folders, model, preprocess)
    protocol = PublishedProtocol(model, choice.editor, variants, common, protected, choice.limit)
    result = protocol.run(kept, RowLog(rows), progress=show)
    edited = {group.name for group in result.groups}
    report = {
        "name": "editing",
        "model": _model_facts(choice.model, model),
        "hypernetwork": None if guide is None else {"name": choice.hypernetwork, "digest": guide.digest()},
        "editor": choice.editor,
        "origin": editor_entry(choice.editor).origin,
        "preset": choice.preset,
        "settings": given,
        "preprocess": asdict(preprocess),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "layout": choice.layout,
        "protected": {"images": len(protected), "chosen": rule},
        "edits_a_group_at_most": choice.limit,
        "left_out": [_left_out(group) for group in found if group.name not in edited],
        "pooled": result.pooled(),
        "groups": result.by_group(),
        "edits": list(result.edits),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
    }
    return report, result


def frame(result: ProtocolResult) -> pd.DataFrame:
    """One row a group and variant, as the CSV has it; settings in columns of their own."""
    import pandas as pd

    rows = [{**row, **row["settings"]} for row in result.by_group()]
    settings = dict.fromkeys(name for variant in result.variants for name in variant)
    columns = ["group", *settings, "candidates", "failures", "edits", *MEASURES]
    return pd.DataFrame(rows)[columns]


def table(result: ProtocolResult) -> Table:
    """The groups, where they are not too many, and the two ways to pool them."""
    shown = Table(
        "Group", "Setting", "Edits", "SR", "GR", "GR published", "LR", "steps", box=None, pad_edge=False
    )
    for column in shown.columns[2:]:
        column.justify = "right"
    groups = result.by_group()
    for row in groups if len(groups) <= _SHOWN else ():
        shown.add_row(row["group"], _label(row["settings"]), str(row["edits"]), *_cells(row))
    for row in result.pooled():
        for pooling, what in (("macro", "mean of groups"), ("micro", "mean of edits")):
            shown.add_row(f"[bold]{what}", _label(row["settings"]), str(row["edits"]), *_cells(row[pooling]))
    return shown


def _label(settings: Mapping[str, Any]) -> str:
    if set(settings) == {"sparsity"}:
        return f"density {1 - settings['sparsity']:g}"
    return setting_label(settings)


def _cells(row: Mapping[str, float | None]) -> list[str]:
    forms = dict.fromkeys(MEASURES, ".3f") | {"steps": ".1f"}
    return ["–" if row[name] is None else format(row[name], form) for name, form in forms.items()]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"--device {name} cannot be used ({reason}); try cpu, or cuda where there is a GPU"
        ) from None
    return device


def _model_facts(name: str, model: Any) -> dict[str, Any]:
    config = model.pretrained_cfg or {}
    return {
        "name": name,
        "fingerprint": fingerprint(model),
        "architecture": config.get("architecture"),
        "mean": list(config.get("mean") or ()),
        "std": list(config.get("std") or ()),
    }


def _left_out(group: DiskGroup) -> dict[str, Any]:
    return {"group": group.name, "candidates": group.candidates, "failures": len(group)}


def _with_images(settings: Mapping[str, Any], preprocess: Preprocess) -> dict[str, Any]:
    """Settings with ``@FOLDER`` replaced by the images of the folder, as some editors want to know some."""
    return {
        name: torch.stack([preprocess(path) for path in images_below(value[1:])])
        if isinstance(value, str) and value.startswith("@")
        else value
        for name, value in settings.items()
    }


def _preset(choice: Choice) -> dict[str, str]:
    if choice.preset not in EDIT_PRESETS:
        raise UnknownNameError("preset", choice.preset, EDIT_PRESETS)
    if "preset" in editor_entry(choice.editor).settings:
        return {"preset": choice.preset}
    if choice.preset != "corrected":
        raise InvalidInputError(
            f"the editor {choice.editor} has no presets; leave --preset {choice.preset} out"
        )
    return {}


def _hypernetwork(choice: Choice, model: nn.Module) -> MaskHypernetwork | None:
    if "hypernetwork" not in editor_entry(choice.editor).settings:
        if choice.hypernetwork:
            raise InvalidInputError(
                f"the editor {choice.editor} takes no hypernetwork; leave --hypernetwork out"
            )
        return None
    name = choice.hypernetwork or choice.model
    if not choice.hypernetwork and name not in list_checkpoints("hypernetwork"):
        raise InvalidInputError(
            f"none of the shipped hypernetworks was trained on {choice.model}; give --hypernetwork FILE, from the "
            "published code (7000.pth) or from `workbench train hypernetwork`, or another --editor"
        )
    guide = MaskHypernetwork.load(name)
    guide.check_model(model)
    return guide


def _protected_folders(choice: Choice) -> tuple[Path, ...]:
    beside = choice.data / SENSITIVE_FOLDER
    if not choice.sensitive and not beside.is_dir():
        raise MissingDataError(
            f"there is no {beside} with images that edits should leave alone; give --sensitive FOLDER: one that "
            "holds such images, or class folders (ImageNet, ImageNet-R, ImageNet-Sketch) from which those are taken "
            f"that the model gets right with a gap below {SENSITIVE_GAP}"
        )
    for folder in choice.sensitive:
        if not folder.is_dir():
            raise MissingDataError(
                f"--sensitive {folder} is no folder; it should hold images or class folders"
            )
    return choice.sensitive or (beside,)


def _protected(folders: Sequence[Path], model: nn.Module, preprocess: Preprocess) -> tuple[ImageList, str]:
    """The protected images of all folders, and in words how they were chosen."""
    lists: list[ImageList] = []
    rules = set()
    for folder in folders:
        if image_files(folder):
            lists.append(SensitiveImages(folder, preprocess))
            rules.add("as given")
        else:
            classes = ClassFolders(folder, preprocess, folder_classes(model), INNER_FOLDERS).by_class()
            lists += sensitive_images(model, classes)
            rules.add(f"right, with a gap below {SENSITIVE_GAP}")
    found = lists[0].followed_by(lists[1:])
    if not len(found):
        raise InvalidInputError(
            f"of the images in {', '.join(map(str, folders))} the model gets none right with a gap below "
            f"{SENSITIVE_GAP}: none is sensitive; give more images"
        )
    return found, " | ".join(sorted(rules))
