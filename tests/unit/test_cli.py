"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import workbench.data
from workbench.cli import app
from workbench.errors import IntegrityError, WorkbenchError
from workbench.runs import notebooks as notebooks_module
from workbench.runs.notebooks import NotebookRun

RunCommand = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Run the command in an empty folder with an empty cache."""
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(arguments))


def error_of(result: Result, code: int = 1) -> str:
    """The one clean message of a command that failed as it should."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    return result.stderr


def test_version(command: RunCommand) -> None:
    result = command("--version")
    assert (result.exit_code, result.stdout) == (0, f"workbench {version('vision-workbench')}\n")


def test_help_answers_at_once_and_without_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from workbench.cli import app\n"
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0, result.output\n"
        "print([name for name in ('torch', 'timm', 'plotly', 'papermill', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("data",),
        ("data", "fetch"),
        ("edit",),
        ("edit", "apply"),
        ("notebooks",),
        ("notebooks", "run"),
        ("models",),
        ("demo",),
    ],
)
def test_every_command_has_help(command: RunCommand, arguments: tuple[str, ...]) -> None:
    result = command(*arguments, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_wrong_usage_exits_with_two(command: RunCommand) -> None:
    assert command("data", "fetsch").exit_code == 2


def test_data_list_shows_every_entry_with_its_status(command: RunCommand) -> None:
    lines = command("data", "list").stdout.splitlines()
    noto = next(line for line in lines if line.startswith("emoji-noto "))
    assert noto.split()[1:3] == ["*", "missing"]
    assert "(Apache-2.0)" in noto
    assert "npm" in noto


def test_data_path_prints_the_cache_alone(command: RunCommand, tmp_path: Path) -> None:
    assert command("data", "path").stdout == f"{tmp_path / 'cache'}\n"


def test_data_path_of_what_is_missing_says_what_to_type(command: RunCommand) -> None:
    assert "run: workbench data fetch emoji-noto" in error_of(command("data", "path", "emoji-noto"))


def test_unknown_entry_names_the_nearest_and_fetches_nothing(
    command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench.data, "fetch", lambda name, **_: pytest.fail(f"fetched {name}"))
    message = error_of(command("data", "fetch", "emoji-noto", "emoji-twemojy"))
    assert "'emoji-twemojy'; did you mean 'emoji-twemoji'?" in message


def test_fetch_needs_a_name_or_default(command: RunCommand) -> None:
    assert "give names (see `workbench data list`) or --default" in error_of(command("data", "fetch"))


def test_fetch_takes_each_entry_once(command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(name: str, *, progress: bool) -> Path:
        fetched.append(name)
        return Path("there", name)

    monkeypatch.setattr(workbench.data, "fetch", fetch)
    result = command("data", "fetch", "emoji-noto", "--default")
    assert result.exit_code == 0, result.output
    assert fetched[0] == "emoji-noto"
    assert len(fetched) == len(set(fetched)) >= 10
    assert "emoji-noto  there/emoji-noto" in result.stdout


def test_verify_without_names_takes_what_is_here(command: RunCommand) -> None:
    result = command("data", "verify")
    assert (result.exit_code, result.stdout) == (0, "")


def test_verify_lists_what_is_wrong_and_fails(command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbench.data, "verify", lambda name: ["icons.json: expected [a], found [b]"])
    result = command("data", "verify", "emoji-noto")
    assert result.exit_code == 1
    assert "emoji-noto  broken" in result.stdout
    assert "icons.json: expected [a], found [b]" in result.stdout
    assert "workbench data fetch" in result.stderr


def test_models_lists_ours_and_on_demand_timms(command: RunCommand) -> None:
    ours = command("models").stdout
    assert "emoji_vit_s14" in ours
    assert "vit_tiny_patch16_224" not in ours
    with_timm = command("models", "--all", "vit_tiny_patch16_224*").stdout.splitlines()
    assert "vit_tiny_patch16_224.augreg_in21k" in with_timm


@pytest.mark.parametrize("pattern", ["vitt*", "resnet*"])
def test_a_pattern_that_matches_no_vision_transformer(command: RunCommand, pattern: str) -> None:
    message = error_of(command("models", "--all", pattern))
    assert f"no vision transformer of timm matches '{pattern}'; try 'vit_*'" in message


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Replace the runner by one that writes an empty notebook; returns the parameters it was given."""
    calls: list[Mapping[str, Any]] = []

    def run(name: str, parameters: Mapping[str, Any] | None = None, out_dir: Path = Path()) -> NotebookRun:
        calls.append(parameters or {})
        out_dir.mkdir(parents=True, exist_ok=True)
        empty = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (out_dir / f"{name}.ipynb").write_text(json.dumps(empty))
        return NotebookRun(name, out_dir / f"{name}.ipynb", {}, {"locality": 0.87346}, 1.0)

    monkeypatch.setattr(notebooks_module, "run_notebook", run)
    return calls


def test_run_reports_numbers_and_gallery(
    command: RunCommand, ran: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    result = command("notebooks", "run", "00_tour", "-p", "sparsity=0.95", "-p", "model=a=b", "-o", "here")
    assert result.exit_code == 0, result.output
    assert ran == [{"sparsity": "0.95", "model": "a=b"}]
    assert "00_tour   locality  0.873" in result.stdout
    assert f"Gallery: {tmp_path / 'here' / 'index.html'}" in result.stdout
    assert (tmp_path / "here" / "index.html").exists()


def test_demo_fetches_and_runs_three_notebooks_into_one_gallery(
    command: RunCommand, ran: list[Mapping[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[bool] = []
    monkeypatch.setattr(workbench.data, "fetch_default", lambda progress: fetched.append(progress))
    result = command("demo")
    assert result.exit_code == 0, result.output
    assert len(fetched) == 1
    assert len(ran) == 3
    (gallery,) = tmp_path.glob("runs/*-demo/index.html")
    assert str(gallery) in result.stdout


@pytest.mark.parametrize(
    ("assignment", "message"),
    [("sparsity", "expected key=value, as in sparsity=0.95"), ("=1", "cannot read -p '=1'")],
)
def test_parameters_that_cannot_be_read(command: RunCommand, assignment: str, message: str) -> None:
    assert message in error_of(command("notebooks", "run", "00_tour", "-p", assignment))


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make `workbench data path` raise an exception."""

    def raise_it(error: BaseException) -> None:
        def locate(name: str) -> Path:
            raise error

        monkeypatch.setattr(workbench.data, "locate", locate)

    return raise_it


def test_expected_errors_are_one_message(command: RunCommand, fails: Callable[[BaseException], None]) -> None:
    fails(IntegrityError("file [a] is broken\nfetch it again"))
    assert error_of(command("data", "path", "x")) == "error: file [a] is broken\nfetch it again\n"


def test_debug_shows_the_traceback(command: RunCommand, fails: Callable[[BaseException], None]) -> None:
    fails(WorkbenchError("file is broken"))
    result = command("--debug", "data", "path", "x")
    assert result.exit_code == 1
    assert isinstance(result.exception, WorkbenchError)


def test_defects_are_not_dressed_up(command: RunCommand, fails: Callable[[BaseException], None]) -> None:
    fails(ZeroDivisionError("a defect"))
    result = command("data", "path", "x")
    assert isinstance(result.exception, ZeroDivisionError)


def test_interrupt_exits_with_130(command: RunCommand, fails: Callable[[BaseException], None]) -> None:
    fails(KeyboardInterrupt())
    assert command("data", "path", "x").exit_code == 130


@pytest.mark.slow
def test_interrupting_a_notebook_ends_its_kernel(make_sleeper: Path) -> None:
    """Ctrl-C while a cell runs: exit code 130, no traceback, no kernel left behind."""
    code = (
        "import sys; from workbench.runs import notebooks, parameters; from workbench.cli import app\n"
        f"notebooks.notebooks_folder = lambda: __import__('pathlib').Path({str(make_sleeper)!r})\n"
        "parameters.PARAMETERS['sleeper'] = parameters.NotebookParameters\n"
        "app(['notebooks', 'run', 'sleeper', '-o', 'out'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=make_sleeper,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background inherits a deaf ear for interrupts; this one must hear them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    started = make_sleeper / "kernel.pid"
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < deadline, "the kernel never started"
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not _alive(int(started.read_text()))


@pytest.fixture
def make_sleeper(tmp_path: Path) -> Path:
    """A folder with a notebook that writes its kernel's process id and then sleeps."""
    import nbformat

    source = "import os, time\nopen('kernel.pid', 'w').write(str(os.getpid()))\ntime.sleep(120)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(notebook, tmp_path / "sleeper.ipynb")
    return tmp_path


def _alive(process: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True
