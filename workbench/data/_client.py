"""Running a package registry's own client, so that its settings (mirror, proxy, certificates) apply."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from workbench.data._archives import OnBytes
from workbench.data.cache import CACHE_VARIABLE
from workbench.errors import WorkbenchError

#: Seconds after which a client that is still running is stopped.
TIMEOUT_S = 3600.0

_POLL_S = 0.1
_FULL_DISK = re.compile(r"no space left|ENOSPC|disk quota", re.IGNORECASE)
_NO_NETWORK = re.compile(
    r"connection|timed? ?out|name resolution|network is unreachable|max retries|proxyerror|sslerror"
    r"|ENOTFOUND|ECONN|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH|ENOTCACHED",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(r"no matching distribution|E404|ETARGET|404 not found", re.IGNORECASE)

#: Ends every message about a network that is not there.
OFFLINE_HELP = (
    f"Without a network, copy a filled cache from another machine and set {CACHE_VARIABLE} to its path."
)


def run_client(
    command: Sequence[str], *, registry: str, wanted: str, size: int, work: Path, on_bytes: OnBytes
) -> Path:
    """Run `command` in the empty folder `work` and return the one archive that it leaves there.

    `registry` ("PyPI", "npm") and `wanted` (name and version) appear in error messages; `size` is the
    archive's, in bytes, and `on_bytes` hears of as many. The client's temporary files go to `work` too, so
    that they are on the same disk and are removed with it.

    Raises:
        WorkbenchError: the registry cannot be reached or does not have the package, the disk is full, or the
            client failed in another way; the message ends with what the client said.
    """
    temporary, downloads, log = work / "tmp", work / "downloads", work / "log.txt"
    temporary.mkdir()
    downloads.mkdir()
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=downloads,
            env={**os.environ, **places},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        finished = _wait(process, work, size, on_bytes)
    finally:
        _stop(process)
    said = log.read_text(encoding="utf-8", errors="replace")
    if not finished:
        raise WorkbenchError(f"{registry}: {wanted} did not arrive within {TIMEOUT_S:.0f} s. {OFFLINE_HELP}")
    archives = sorted(downloads.iterdir())
    if process.returncode or len(archives) != 1:
        raise WorkbenchError(_explain(said, registry, wanted))
    return archives[0]


def _wait(process: subprocess.Popen[bytes], work: Path, size: int, on_bytes: OnBytes) -> bool:
    """Wait for the client, reporting the growth of its folder up to `size`; false if it took too long."""
    deadline = time.monotonic() + TIMEOUT_S
    seen = 0
    while time.monotonic() < deadline:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            grown = min(_folder_size(work), size)
        else:
            grown = size
        if grown > seen:
            on_bytes(grown - seen)
            seen = grown
        if process.returncode is not None:
            return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Make sure that neither the client nor what it started is left running."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def _folder_size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size  # noqa: PTH116, PTH118 (many small files)
            except OSError:
                continue  # a temporary file that is gone again
    return total


def _explain(said: str, registry: str, wanted: str) -> str:
    tail = f"\nThe {registry} client said:\n{_last_words(said)}"
    if _FULL_DISK.search(said):
        return f"no space left on the disk while fetching {wanted} from {registry}; nothing was kept{tail}"
    if _NO_NETWORK.search(said):
        return (
            f"the {registry} registry could not be reached (no network?), so {wanted} was not fetched. Check "
            f"the connection and the client's settings, and run again. {OFFLINE_HELP}{tail}"
        )
    if _NOT_FOUND.search(said):
        return (
            f"the {registry} registry does not have {wanted}. If your client is set to a mirror, it may be "
            f"incomplete. {OFFLINE_HELP}{tail}"
        )
    return f"{wanted} could not be fetched from {registry}. {OFFLINE_HELP}{tail}"


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berr(or)?\b", line, re.IGNORECASE)]
    return "\n".join(f"  {line[:300]}" for line in (errors[:3] or lines[-3:])) or "  (nothing)"
