"""`workbench benchmark editing` on small copies of the published layouts, with a small ViT of 1000 classes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from workbench.cli import app
from workbench.data.preprocess import preset
from workbench.editing import EditRequest, MaskHypernetwork, MaskNetwork, applied
from workbench.editing import protocol as protocol_module
from workbench.editing.editors import EDITORS, make_editor
from workbench.editing.space import EditSpace
from workbench.models import fingerprint, load_model, logits_of

#: Quick edits that differ between densities, some of which do not succeed.
QUICK = ("-s", "learning_rate=5e-4", "-s", "max_steps=3", "--density", "0.5", "--density", "0.05")
DENSITIES = (0.5, 0.05)


def draw(path: Path, seed: int) -> Path:
    """Coarse coloured noise, so that predictions differ between images."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((44, 40), Image.Resampling.NEAREST).save(path)
    return path


def small_vit() -> nn.Module:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=1000)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim >= 2 and name.endswith("weight"):
                value.copy_(1.5 * noise / value[0].numel() ** 0.5)
            elif not name.endswith("norm.weight"):
                value.add_(0.05 * noise)
    return model.eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, hypernetwork and images: two groups of failures, one of which has one, and a group without any."""
    folder = tmp_path_factory.mktemp("benchmark")
    model = small_vit()
    save_file(model.state_dict(), folder / "vit.safetensors")
    network = MaskNetwork(EditSpace.of(model), depth=1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    MaskHypernetwork(network, EditSpace.of(model)).save_published(folder / "7000.pth")
    data = folder / "data"
    for i in range(4):
        draw(data / "890_430" / f"{i}.png", i)
    draw(data / "61_58" / "alone.png", 10)
    right = draw(folder / "right.png", 11)
    (true,) = predicted(load_model(folder / "vit.safetensors"), [right]).tolist()
    assert true not in (890, 61)
    (data / f"{true}_5").mkdir()
    right.rename(data / f"{true}_5" / "right.png")
    for i in range(6):
        draw(data / "Sensitive-Images" / f"{i}.JPEG", 20 + i)
    return folder


def predicted(model: nn.Module, paths: list[Path]) -> Tensor:
    return logits_of(model, torch.stack([preset("repo", model)(path) for path in paths])).argmax(1)


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` to work in, with a cache of its own."""
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def run(*options: str) -> Result:
    command = [
        "benchmark",
        "editing",
        "--data",
        "data",
        "-o",
        "out.json",
        "--model",
        "vit.safetensors",
        *options,
    ]
    return CliRunner().invoke(app, command)


def succeeded(*options: str) -> dict[str, Any]:
    result = run(*options)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return json.loads(Path("out.json").read_text())


def error_of(*options: str) -> str:
    result = run(*options)
    assert result.exit_code == 1, f"{result.output}\n{result.exception!r}"
    assert not Path("out.json").exists()
    return result.stderr


LEARNED = ("--hypernetwork", "7000.pth", *QUICK)


def plainly(model: nn.Module, edit: Any, paths: list[Path]) -> Tensor:
    """Predictions of the whole edited model, without caches or tails."""
    with applied(model, edit):
        return predicted(model, paths)


@pytest.mark.parametrize("name", ["corrected", "published"])
def test_rows_are_those_of_a_plain_evaluation(place: Path, name: str) -> None:
    report = succeeded(*LEARNED, "--preset", name)
    model = load_model(place / "vit.safetensors")
    guide = MaskHypernetwork.load(place / "7000.pth")
    sensitive = sorted(Path("data/Sensitive-Images").iterdir())
    before = predicted(model, sensitive)
    wanted = []
    for group, target in (("61_58", 61), ("890_430", 890)):
        files = sorted(Path("data", group).iterdir())
        images = torch.stack([preset("repo", model)(path) for path in files])
        for density in DENSITIES:
            editor = make_editor(
                "learned-mask",
                model,
                hypernetwork=guide,
                sparsity=1 - density,
                preset=name,
                learning_rate=5e-4,
                max_steps=3,
            )
            for i, file in enumerate(files):
                result = editor.edit(EditRequest(images[i], target))
                right = plainly(model, result.edit, files) == target
                others = [bool(right[j]) for j in range(len(files)) if j != i]
                wanted.append(
                    {
                        "group": group,
                        "image": file.name,
                        "settings": {"sparsity": 1 - density},
                        "sr": float(right[i]),
                        "gr": sum(others) / len(others) if others else None,
                        "gr_published": (int(right.sum()) - 1) / len(files) if others else None,
                        "lr": float((plainly(model, result.edit, sensitive) == before).double().mean()),
                        "steps": result.steps,
                        "succeeded": result.succeeded,
                        "parameters": result.edit.parameters,
                    }
                )
    assert report["edits"] == wanted
    assert len({row["lr"] for row in wanted}) > 2, "locality tells nothing apart here"
    assert {row["gr"] for row in wanted} - {0.0, None}, "generalization tells nothing apart here"


def test_groups_are_pooled_both_ways_and_undefined_is_null(place: Path) -> None:
    report = succeeded(*LEARNED)
    edits = pd.DataFrame(report["edits"])
    edits["density"] = [round(1 - row["sparsity"], 6) for row in edits["settings"]]
    means = edits.groupby(["density", "group"])[["sr", "lr"]].mean()
    for density, pooled in zip(DENSITIES, report["pooled"], strict=True):
        assert pooled["settings"] == {"sparsity": 1 - density}
        assert (pooled["groups"], pooled["edits"]) == (2, 5)
        assert pooled["macro"]["lr"] == pytest.approx(means.loc[density, "lr"].mean())
        assert pooled["micro"]["lr"] == pytest.approx(edits[edits["density"] == density]["lr"].mean())
        large = edits[(edits["density"] == density) & (edits["group"] == "890_430")]
        assert (
            pooled["macro"]["gr"] == pooled["micro"]["gr"] == pytest.approx(large["gr"].astype(float).mean())
        )
    alone = next(row for row in report["groups"] if row["group"] == "61_58")
    assert (alone["gr"], alone["gr_published"]) == (None, None)
    assert (alone["candidates"], alone["failures"], alone["edits"]) == (1, 1, 1)
    (left_out,) = report["left_out"]
    assert (left_out["candidates"], left_out["failures"]) == (1, 0)

    table = pd.read_csv("out.csv")
    assert list(table["group"]) == ["61_58"] * 2 + ["890_430"] * 2
    assert list(table["sparsity"]) == [0.5, 0.95] * 2
    assert table["gr"].isna().tolist() == [True, True, False, False]
    assert table["lr"].tolist() == [row["lr"] for row in report["groups"]]


def test_the_report_says_what_was_measured(place: Path) -> None:
    report = succeeded(*LEARNED, "--preset", "published")
    model = load_model("vit.safetensors")
    assert report["model"]["fingerprint"] == fingerprint(model)
    assert report["model"]["architecture"] == "vit_tiny_patch16_224"
    assert report["hypernetwork"]["digest"] == MaskHypernetwork.load("7000.pth").digest()
    assert report["preset"] == "published"
    assert report["preprocess"] == {"name": "repo", "resize": 37, "crop": 32, "interpolation": "bilinear"}
    assert report["protected"] == {"images": 6, "chosen": "as given"}
    assert report["settings"] == {"learning_rate": 5e-4, "max_steps": 3}
    assert (report["editor"], report["device"]) == ("learned-mask", "cpu")


def test_the_table_has_groups_and_both_means(place: Path) -> None:
    output = run(*LEARNED).stdout
    assert "GR published" in output
    assert output.count("890_430") == output.count("61_58") == len(DENSITIES)
    assert output.count("mean of groups") == output.count("mean of edits") == len(DENSITIES)
    assert "density 0.05" in output
    assert "10 edits in 2 groups; 1 groups left out" in output


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> list[EditRequest]:
    """The requests that editors were really asked for."""
    asked: list[EditRequest] = []
    plain = make_editor

    def counting(name: str, model: nn.Module, **settings: Any) -> Any:
        method = plain(name, model, **settings)

        class Counting:
            def edit(self, request: EditRequest) -> Any:
                asked.append(request)
                return method.edit(request)

        return Counting()

    monkeypatch.setattr(protocol_module, "make_editor", counting)
    return asked


def test_a_killed_run_goes_on(place: Path, edited: list[EditRequest]) -> None:
    whole = succeeded(*LEARNED)
    assert len(edited) == 10
    rows = Path("out-edits.jsonl")
    lines = rows.read_text().splitlines(keepends=True)
    assert len(lines) == 10
    rows.write_text("".join(lines[:6]) + lines[6][: len(lines[6]) // 2])  # killed while it wrote the seventh
    Path("out.json").unlink()
    edited.clear()
    assert succeeded(*LEARNED) == whole
    assert len(edited) == 4
    edited.clear()
    assert succeeded(*LEARNED, "--force") == whole
    assert not edited


def test_an_interrupted_run_keeps_what_it_has(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    plain = protocol_module.generalization

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:  # called twice an edit
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(protocol_module, "generalization", interrupted)
    assert run(*LEARNED).exit_code == 130
    assert len(Path("out-edits.jsonl").read_text().splitlines()) == 3
    assert not Path("out.json").exists()


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (("--preset", "published"), 1),
        (("-s", "stop_loss=0.5"), 1),
        (("--preprocess", "timm"), 1),
        (("--editor", "random-mask"), 1),
        (("--density", "0.1"), 1 / 3),
        (("--limit", "2"), 0),
        (("--only", "890_430"), 0),
        (("--min-group", "2"), 0),
    ],
)
def test_rows_are_used_again_only_where_they_are_the_same(
    place: Path, edited: list[EditRequest], change: tuple[str, ...], again: float
) -> None:
    succeeded(*LEARNED)
    edited.clear()
    options = LEARNED[2:] if "random-mask" in change else LEARNED
    report = succeeded(*options, *change, "--force")
    assert len(edited) == again * len(report["edits"])


def test_new_weights_images_and_guides_are_measured_anew(place: Path, edited: list[EditRequest]) -> None:
    succeeded(*LEARNED)
    edited.clear()
    draw(Path("data/61_58/alone.png"), 99)
    succeeded(*LEARNED, "--force")
    assert len(edited) == 2  # this group only
    edited.clear()
    draw(Path("data/Sensitive-Images/0.JPEG"), 98)
    succeeded(*LEARNED, "--force")
    assert len(edited) == 10


def test_edits_of_a_group_can_be_limited_and_groups_chosen(place: Path) -> None:
    report = succeeded(*LEARNED, "--limit", "2", "--only", "890_430")
    assert [(row["group"], row["failures"], row["edits"]) for row in report["groups"]] == [
        ("890_430", 4, 2)
    ] * 2
    assert report["left_out"] == []


def test_editors_without_a_mask_take_their_own_sweep(place: Path) -> None:
    report = succeeded("--editor", "ft", "-s", "max_steps=2", "--limit", "1", "--only", "61_58")
    assert [row["settings"] for row in report["groups"]] == [
        {"learning_rate": rate} for rate in (1e-6, 5e-6, 2e-5)
    ]
    assert report["hypernetwork"] is None
    assert list(pd.read_csv("out.csv")["learning_rate"]) == [1e-6, 5e-6, 2e-5]
    fixed = succeeded(
        "--editor", "ft", "-s", "learning_rate=1e-4", "--limit", "1", "--only", "61_58", "--force"
    )
    assert [row["settings"] for row in fixed["groups"]] == [{}]


def test_an_editor_may_be_given_images_of_a_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No editor of the registry must have any; one stands in that asks for some."""
    entry = EDITORS["ft"]
    seen: list[Tensor] = []

    def build(model: nn.Module, memory: Tensor, max_steps: int = 2) -> Any:
        seen.append(memory)
        return entry(model, max_steps=max_steps)

    monkeypatch.setitem(EDITORS, "ft", replace(entry, build=build, sweep=({},)))
    report = succeeded("--editor", "ft", "-s", "memory=@data/890_430", "--limit", "1", "--only", "61_58")
    assert seen[0].shape == (4, 3, 32, 32)
    assert report["settings"] == {"memory": "@data/890_430"}


@pytest.fixture
def class_folders(place: Path) -> Path:
    """Images in folders of three classes, one of them called by its WordNet id, some of which the model gets right."""
    model = load_model("vit.safetensors")
    paths = [draw(Path("pool") / f"{i}.png", 100 + i) for i in range(12)]
    said = predicted(model, paths)
    right = int(said.mode().values)
    names = {0: "n01440764", 7: "7"}
    for i, path in enumerate(paths):
        mine = right if i % 3 == 0 and said[i] == right else (0, 7)[i % 2]
        folder = Path("classes") / names.get(mine, str(mine))
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    return Path("classes")


def test_class_folders_are_grouped_by_prediction(place: Path, class_folders: Path) -> None:
    report = succeeded(
        *LEARNED, "--groups", "folders", "--data", "classes", "--sensitive", "data/890_430", "--limit", "1"
    )
    model = load_model("vit.safetensors")
    pairs = set()
    for folder in class_folders.iterdir():
        true = 0 if folder.name == "n01440764" else int(folder.name)
        pairs |= {(true, c) for c in predicted(model, sorted(folder.iterdir())).tolist() if c != true}
    assert len(pairs) > 2
    assert {row["group"] for row in report["groups"]} == {f"{true}_{wrong}" for true, wrong in pairs}
    assert report["layout"] == "folders"


def test_sensitive_images_are_chosen_by_the_rule(place: Path) -> None:
    model = load_model("vit.safetensors")
    paths = [draw(Path("pool") / f"{i}.png", 200 + i) for i in range(30)]
    top = logits_of(model, torch.stack([preset("repo", model)(path) for path in paths])).softmax(1).topk(2)
    gaps = top.values[:, 0] - top.values[:, 1]
    for path, true in zip(paths, top.indices[:, 0].tolist(), strict=True):
        Path("known", str(true)).mkdir(parents=True, exist_ok=True)
        path.rename(Path("known", str(true), path.name))
    wanted = int((gaps < 0.05).sum())
    assert 0 < wanted < 30
    report = succeeded(*LEARNED, "--sensitive", "known", "--limit", "1")
    assert report["protected"] == {"images": wanted, "chosen": "right, with a gap below 0.05"}
    both = succeeded(
        *LEARNED, "--sensitive", "known", "--sensitive", "data/Sensitive-Images", "--limit", "1", "--force"
    )
    assert both["protected"]["images"] == wanted + 6


def test_pug_by_light_and_character_where_several_classes_are_right(place: Path) -> None:
    model = load_model("vit.safetensors")
    rows = ["filename,world_name,character_name,character_label,scene_light"]
    for i in range(6):
        light = ("Blue", "White")[i % 2]
        path = draw(Path("pug/Desert") / f"{i}_{light}.png", 300 + i)
        rows.append(f"Desert/{path.name},Desert,Wolf_01,Wolf,{light}")
    Path("pug/labels_pug_imagenet.csv").write_text("\n".join(rows) + "\n")
    said = predicted(model, sorted(Path("pug/Desert").iterdir())).tolist()
    classes = [269, said[0]]  # the first image is right, by the second of the classes
    Path("pug/class_to_imagenet_idx.json").write_text(json.dumps({"Wolf": classes}))
    sensitive = ("--sensitive", "data/Sensitive-Images")
    report = succeeded(*LEARNED, "--groups", "pug", "--data", "pug", *sensitive)
    failures = {light: sum(c not in classes for c in said[i::2]) for i, light in enumerate(("Blue", "White"))}
    assert failures["Blue"] < 3
    found = {row["group"]: row["failures"] for row in report["groups"]}
    assert found == {f"{light}/Wolf": count for light, count in failures.items() if count}
    named = run(*LEARNED, "--groups", "pug", "--data", "pug", *sensitive, "--only", "Blu/Wolf", "--force")
    assert "unknown group 'Blu/Wolf'; did you mean 'Blue/Wolf'?" in named.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--groups", "naturl"), "unknown layout 'naturl'; did you mean 'natural'?"),
        (("--only", "890_431"), "unknown group '890_431'; did you mean '890_430'?"),
        (("--data", "absent"), "there is no absent/Sensitive-Images"),
        (("--data", "absent", "--sensitive", "data/61_58"), "there is no folder absent"),
        (("--sensitive", "absent"), "--sensitive absent is no folder"),
        (("--sensitive", "empty"), "empty holds no class folders with images"),
        (("--min-group", "9"), "no group has 9 failures, the largest has 4; lower --min-group"),
        (("--editor", "learnd-mask"), "unknown editor 'learnd-mask'; did you mean 'learned-mask'?"),
        (("--editor", "random-mask"), "the editor random-mask takes no hypernetwork"),
        (("--hypernetwork", "absent.pth"), "no file at absent.pth"),
        (("--hypernetwork", "wide.pth"), "is for a model of width 48 with 7 hidden units"),
        (("--preset", "publishd"), "unknown preset 'publishd'; did you mean 'published'?"),
        (("--preprocess", "tim"), "unknown preprocessing 'tim'; did you mean 'timm'?"),
        (("--device", "tpu7"), "--device tpu7 cannot be used (Invalid device string: 'tpu7'); try cpu"),
        (("--density", "1.5"), "density 1.5 is outside (0, 1]"),
        (("-s", "sparsity=0.9"), "give densities instead of a sparsity"),
        (
            ("-s", "max_step=3"),
            "unknown setting of the editor learned-mask 'max_step'; did you mean 'max_steps'?",
        ),
        (("-s", "preset=published"), "give --preset instead of -s preset"),
        (("-s", "max_steps"), "cannot read -s 'max_steps': expected key=value"),
        (("--model", "absent.safetensors"), "no file at absent.safetensors"),
        (("--architecture", "vit_small_patch16_224"), "does not fit vit_small_patch16_224"),
    ],
)
def test_what_cannot_be_measured(place: Path, options: tuple[str, ...], message: str) -> None:
    Path("empty").mkdir()
    space = EditSpace((7, 8, 9), 7, 48)
    MaskHypernetwork(MaskNetwork(space, depth=1), space).save_published("wide.pth")
    text = error_of(*LEARNED, *options)
    assert message in text
    assert text.startswith("error: ")
    assert not Path("out-edits.jsonl").exists()


def test_no_hypernetwork_for_the_model(place: Path) -> None:
    text = error_of()
    assert (
        "none of the shipped hypernetworks was trained on vit.safetensors; give --hypernetwork FILE" in text
    )


def test_editors_without_densities_or_presets(place: Path) -> None:
    assert "ft has no mask, so it has no density" in error_of("--editor", "ft", "--density", "0.5")


@pytest.mark.parametrize("damage", ["890_430/2.png", "Sensitive-Images/3.JPEG"])
def test_an_image_that_cannot_be_read_is_named(place: Path, damage: str) -> None:
    path = Path("data", damage)
    path.write_bytes(path.read_bytes()[:60])
    text = error_of(*LEARNED)
    assert f"{path} is damaged or was cut short" in text or f"{path} is not an image" in text


def test_groups_that_hold_nothing_to_edit(place: Path) -> None:
    for name in ("890_430", "61_58"):
        shutil.rmtree(Path("data", name))
    assert "the model gets every image of these groups right" in error_of(*LEARNED)
    Path("data", "3_4").mkdir()
    assert "the group folder data/3_4 holds no image files" in error_of(*LEARNED)


def test_a_model_of_fewer_classes(place: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=100)
    save_file(model.state_dict(), "small.safetensors")
    assert "the group 890_430 is of class 890, but the model has 100 classes" in error_of(
        *LEARNED, "--model", "small.safetensors", "--only", "890_430"
    )


def test_results_are_not_overwritten_unasked(place: Path) -> None:
    Path("out.json").write_text("precious")
    result = run(*LEARNED)
    assert result.exit_code == 1
    assert "out.json exists; give another name with -o, or --force to replace it" in result.stderr
    assert Path("out.json").read_text() == "precious"
