"""`workbench edit` on a small model in a file: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import own_model
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from workbench.cli import app
from workbench.cli._edit_inputs import parse_settings
from workbench.data.own_images import read_for
from workbench.editing import Edit, applied
from workbench.errors import InvalidInputError
from workbench.models import fingerprint, load_model, logits_of

RunCommand = Callable[..., Result]

#: The small model has six blocks and random weights: other blocks and larger steps than by default.
MAKE = ("edit", "model.safetensors", "--image", "wrong.png", "-s", "blocks=2,3", "--learning-rate", "2e-3")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edit")
    own_model.write(folder)
    return folder


@pytest.fixture
def folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own, with the files in it."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def command(folder: Path) -> RunCommand:
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(map(str, arguments)))


@pytest.fixture
def ranked(folder: Path) -> list[str]:
    return own_model.ranked(folder)


@pytest.fixture
def made(command: RunCommand, ranked: list[str]) -> Edit:
    """An edit of wrong.png, in fix.safetensors."""
    result = command(*MAKE, "--target", ranked[1], "-o", "fix.safetensors", "--no-report")
    assert result.exit_code == 0, result.output
    return Edit.load("fix.safetensors")


def error_of(result: Result, code: int = 1) -> str:
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stderr


def names(folder: Path) -> set[str]:
    """What is in the working folder beside the files that were put there."""
    return {path.name for path in folder.iterdir() if not path.is_symlink()}


def test_an_edit_is_reported_and_written_beside_its_page(
    command: RunCommand, folder: Path, ranked: list[str]
) -> None:
    result = command(
        *MAKE, "--target", ranked[1], "--neighbours", "near", "--protect", "far", "-o", "fix.safetensors"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("no hypernetwork was trained on this model, so gradient-mask:")
    assert f"edited {ranked[0]!r} to {ranked[1]!r} in" in result.stdout
    assert "blocks.2.mlp.fc1  rows" in result.stdout
    for score in ("SR 1.000", "GR ", "LR "):
        assert f"\n{score}" in result.stdout
    assert names(folder) == {"fix.safetensors", "fix.html"}
    assert "Neighbours and protected images" in (folder / "fix.html").read_text(encoding="utf-8")
    model = load_model(folder / "model.safetensors")
    with applied(model, Edit.load("fix.safetensors")):
        found = logits_of(model, read_for(model, folder / "wrong.png")[None]).argmax()
    assert own_model.CLASSES[int(found)] == ranked[1]


def test_the_report_may_be_markdown_or_none(command: RunCommand, folder: Path, ranked: list[str]) -> None:
    assert command(*MAKE, "--target", ranked[1], "--report", "r.md").exit_code == 0
    assert (folder / "r.md").read_text(encoding="utf-8").startswith("# wrong.png: edited ")
    assert command(*MAKE, "--target", ranked[1], "-o", "b.safetensors", "--no-report").exit_code == 0
    assert names(folder) == {"edit.safetensors", "r.md", "b.safetensors"}
    result = command(*MAKE, "--target", ranked[1], "-o", "c.safetensors", "--report", "r.pdf")
    assert "--report r.pdf must end in .html or .md" in error_of(result)


def test_any_editor_of_the_registry_with_its_settings(
    command: RunCommand, folder: Path, ranked: list[str]
) -> None:
    result = command(
        "edit", "make", "model.safetensors", "--image", "wrong.png", "--target", ranked[1], "--editor", "ft-linf",
        "-s", "blocks=[1, 2]", "-s", "clamp=0.05", "-s", "learning_rate=0.005", "--no-report",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    edit = Edit.load("edit.safetensors")
    assert edit.info["settings"]["clamp"] == 0.05
    assert {address.split(".")[1] for address in edit.changes} == {"1", "2"}


def test_an_edit_that_gives_up_exits_with_two_and_writes_nothing(
    command: RunCommand, folder: Path, ranked: list[str]
) -> None:
    result = command(*MAKE[:-1], "1e-9", "--target", ranked[1], "--max-steps", "2")
    assert result.exit_code == 2
    assert "not edited within 2 steps" in result.stdout
    assert names(folder) == set()


def test_what_is_right_already_is_not_edited(command: RunCommand, folder: Path, ranked: list[str]) -> None:
    message = error_of(command(*MAKE, "--target", ranked[0]))
    assert f"the model already takes wrong.png for {ranked[0]!r} (probability " in message
    assert names(folder) == set()


@pytest.mark.parametrize("there", ["edit.safetensors", "edit.html"])
def test_nothing_is_overwritten_without_force(
    command: RunCommand, folder: Path, ranked: list[str], there: str
) -> None:
    (folder / there).write_text("precious")
    message = error_of(command(*MAKE, "--target", ranked[1]))
    assert f"{there} exists; give another name with -o, or --force" in message
    assert (folder / there).read_text() == "precious"
    assert names(folder) == {there}
    assert command(*MAKE, "--target", ranked[1], "--force").exit_code == 0
    assert (folder / there).stat().st_size > 1000


def test_an_input_is_never_overwritten(command: RunCommand, folder: Path, made: Edit) -> None:
    before = (folder / "model.safetensors").read_bytes()
    result = command(
        "edit", "apply", "model.safetensors", "fix.safetensors", "-o", "model.safetensors", "--force"
    )
    assert "model.safetensors is one of the inputs and would be replaced" in error_of(result)
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--target", "bea"),
            "unknown class 'bea'; did you mean 'bee'? Known: ant, bee, cat, dog. Or give an index",
        ),
        (("--target", "7"), "unknown class '7'"),
        (("--target", "bee", "--image", "none.png"), "there is no image file none.png"),
        (("--target", "bee", "--image", "text.png"), "text.png is not an image that can be read"),
        (("--target", "bee", "--neighbours", "empty"), "empty holds no images"),
        (("--target", "bee", "--protect", "nowhere"), "nowhere is not a folder"),
        (("--target", "bee", "--editor", "ft-linv"), "unknown editor 'ft-linv'; did you mean 'ft-linf'?"),
        (("--target", "bee", "-s", "sparsety=1"), "unknown setting of the editor gradient-mask 'sparsety'"),
        (("--target", "bee", "-s", "sparsity"), "cannot read -s 'sparsity': expected key=value"),
        (("--target", "bee", "-s", "seed=1", "--seed", "1"), "seed is given twice, as an option and with -s"),
        (("--target", "bee", "--mask", "best"), "unknown mask 'best'"),
        (("--target", "bee", "--mask", "full", "--editor", "ft"), "both choose an editor; give one of them"),
        (("--target", "bee", "--mask", "learned"), "no hypernetwork was trained on this model"),
        (("--target", "bee", "--sparsity", "1.5"), "sparsity"),
    ],
)
def test_wrong_input_is_one_message_and_leaves_nothing(
    command: RunCommand, folder: Path, ranked: list[str], options: tuple[str, ...], message: str
) -> None:
    (folder / "text.png").write_text("this is text")
    (folder / "empty").mkdir()
    target = ranked[1] if options[1] == "bee" else options[1]
    assert message in error_of(command(*MAKE, "--target", target, *options[2:]))
    assert names(folder) == {"text.png", "empty"}


@pytest.mark.parametrize("damage", ["nan", "cut", "missing"])
def test_damaged_models_are_refused(command: RunCommand, folder: Path, damage: str) -> None:
    path = folder / "damaged.safetensors"
    message = "no file at damaged.safetensors"
    if damage == "nan":
        state = load_file(folder / "model.safetensors")
        state["blocks.3.mlp.fc1.weight"][0, 0] = float("nan")
        save_file(state, path)
        message = "values that are not finite in blocks.3.mlp.fc1.weight"
    elif damage == "cut":
        path.write_bytes((folder / "model.safetensors").read_bytes()[:-100])
        message = "not a complete safetensors file"
    result = command(
        "edit", path.name, "--image", "wrong.png", "--target", "bee", "--architecture", "test_vit"
    )
    assert message in error_of(result)
    assert names(folder) <= {path.name}


def test_apply_and_revert_give_the_base_back(command: RunCommand, folder: Path, made: Edit) -> None:
    applied_to = command("edit", "apply", "model.safetensors", "fix.safetensors", "-o", "fixed.safetensors")
    assert applied_to.exit_code == 0, applied_to.output
    assert (
        'timm.create_model("test_vit", num_classes=4, img_size=160, dynamic_img_size=True'
        in applied_to.stdout
    )
    assert fingerprint(load_model("fixed.safetensors")) != made.base
    back = command("edit", "revert", "fixed.safetensors", "fix.safetensors", "-o", "base.safetensors")
    assert back.exit_code == 0, back.output
    assert made.base[:12] in back.stdout
    restored, original = load_file("base.safetensors"), load_file("model.safetensors")
    assert restored.keys() == original.keys()
    assert all(torch.equal(restored[name], original[name]) for name in restored)


@pytest.mark.parametrize("there", ["fixed.safetensors", "fixed.originals.safetensors"])
def test_apply_overwrites_neither_of_its_files(
    command: RunCommand, folder: Path, made: Edit, there: str
) -> None:
    (folder / there).write_text("precious")
    result = command("edit", "apply", "model.safetensors", "fix.safetensors", "-o", "fixed.safetensors")
    assert f"{there} exists" in error_of(result)
    assert names(folder) == {"fix.safetensors", there}


@pytest.mark.parametrize("damage", ["cut", "nan", "other"])
def test_damaged_edits_are_refused(command: RunCommand, folder: Path, made: Edit, damage: str) -> None:
    path = folder / "damaged.safetensors"
    if damage == "cut":
        path.write_bytes((folder / "fix.safetensors").read_bytes()[:-100])
        message = "not a complete safetensors file"
    elif damage == "nan":
        tensors = load_file(folder / "fix.safetensors")
        next(value for value in tensors.values() if value.is_floating_point()).fill_(float("nan"))
        save_file(tensors, path)
        message = "values that are not finite"
    else:
        save_file({"a": torch.zeros(1)}, path)
        message = "is a safetensors file but not an edit"
    for arguments in (
        ("apply", "model.safetensors", path.name, "-o", "out.safetensors"),
        ("show", path.name),
        ("compose", "fix.safetensors", path.name, "-o", "out.safetensors"),
    ):
        assert message in error_of(command("edit", *arguments))
    assert names(folder) == {"fix.safetensors", path.name}


def test_an_edit_of_another_model_is_refused(command: RunCommand, folder: Path, made: Edit) -> None:
    state = load_file(folder / "model.safetensors")
    state["head.bias"] += 1
    save_file(state, folder / "another.safetensors")
    result = command(
        "edit", "apply", "another.safetensors", "fix.safetensors", "-o", "out.safetensors",
        "--architecture", "test_vit",
    )  # fmt: skip
    assert f"this edit was made on a model with fingerprint {made.base[:12]}…" in error_of(result)
    assert names(folder) == {"fix.safetensors", "another.safetensors"}


@pytest.fixture
def second(command: RunCommand, folder: Path) -> str:
    """An edit of other.png in second.safetensors, of other rows or the same ones."""
    model = load_model(folder / "model.safetensors")
    target = int(logits_of(model, read_for(model, folder / "other.png")[None])[0].argsort()[-2])
    result = command(
        *MAKE[:3], "other.png", *MAKE[4:], "--target", target, "-o", "second.safetensors", "--no-report",
        "--sparsity", "0.5",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return "second.safetensors"


def test_compose_reports_shared_rows_and_both_orders(
    command: RunCommand, folder: Path, made: Edit, second: str
) -> None:
    arguments = ("edit", "compose", "fix.safetensors", second, "-o", "both.safetensors")
    result = command(
        *arguments, "--model", "model.safetensors", "--image", "wrong.png", "--image", "other.png"
    )
    assert result.exit_code == 0, result.output
    assert "warning: some rows or columns are changed by more than one edit" in result.stderr
    assert "fix.safetensors  second.safetensors  blocks.2.mlp.fc1" in result.stdout
    header = next(line for line in result.stdout.splitlines() if "p reversed" in line)
    assert header.split()[:3] == ["image", "wanted", "alone"]
    assert next(line for line in result.stdout.splitlines() if line.startswith("other.png"))
    both = Edit.load("both.safetensors")
    assert both.base == made.base
    assert [info["image"] for info in both.info["composed"]] == ["wrong.png", "other.png"]
    without = command(*arguments, "--force")
    assert "whether each still works: name the model and the edited images" in without.stdout


def test_compose_warns_of_an_image_that_is_not_right_any_more(
    command: RunCommand, folder: Path, made: Edit
) -> None:
    """The edit and its opposite leave the base model, which is wrong."""
    from dataclasses import replace

    opposite = {a: replace(c, delta=-c.delta) for a, c in made.changes.items()}
    Edit(made.base, opposite, made.info).save("opposite.safetensors")
    result = command(
        "edit", "compose", "fix.safetensors", "opposite.safetensors", "-o", "both.safetensors",
        "--model", "model.safetensors", "--image", "wrong.png", "--image", "wrong.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "warning: wrong.png is not right with all edits together" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fix.safetensors",), "only fix.safetensors to compose; give two or more edits"),
        (
            ("fix.safetensors", "fix.safetensors", "--model", "model.safetensors"),
            "--model and --image go together",
        ),
        (
            ("fix.safetensors", "fix.safetensors", "--model", "model.safetensors", "--image", "wrong.png"),
            "1 images for 2 edits",
        ),
    ],
)
def test_compose_refuses(
    command: RunCommand, folder: Path, made: Edit, arguments: tuple[str, ...], message: str
) -> None:
    assert message in error_of(command("edit", "compose", *arguments, "-o", "both.safetensors"))
    assert names(folder) == {"fix.safetensors"}


def test_show_needs_no_model(
    command: RunCommand, folder: Path, made: Edit, ranked: list[str], second: str
) -> None:
    (folder / "model.safetensors").unlink()
    text = command("edit", "show", "fix.safetensors").stdout
    for shown in (made.base, "gradient-mask", f"{ranked[1]}, was {ranked[0]} (", "wrong.png", "blocks 2, 3"):
        assert shown in text
    assert f"an edit, {made.parameters:,} scalars" in text
    command("edit", "compose", "fix.safetensors", second, "-o", "both.safetensors")
    assert "2 edits composed" in command("edit", "show", "both.safetensors").stdout


def test_a_mistyped_command_is_not_taken_for_a_model(command: RunCommand) -> None:
    assert "did you mean 'apply'" in error_of(command("edit", "aplpy", "x"), code=2)


def test_help_lists_every_command_and_the_editors_are_listed(command: RunCommand) -> None:
    text = command("edit", "--help").stdout
    for name in ("make", "apply", "revert", "compose", "show", "editors"):
        assert f" {name} " in text
    assert "--neighbours" in command("edit", "model.safetensors", "--help").stdout
    listed = command("edit", "editors").stdout
    assert "learned-mask" in listed
    assert "sparsity" in listed


def test_settings_are_read_as_values() -> None:
    assignments = ["a=0.5", "b=2,3", "c=[4]", "d=true", "e=l2", "f=x=y"]
    assert parse_settings(assignments) == {"a": 0.5, "b": [2, 3], "c": [4], "d": True, "e": "l2", "f": "x=y"}
    with pytest.raises(InvalidInputError, match="-s a is given twice"):
        parse_settings(["a=1", "a=2"])
    with pytest.raises(InvalidInputError, match="cannot read -s"):
        parse_settings(["no name=1"])
    assert json.dumps(parse_settings(["a=NaN-like"])) == '{"a": "NaN-like"}'
