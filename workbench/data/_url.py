"""Files behind URLs with known hashes, fetched with pooch."""

from __future__ import annotations

from pathlib import Path

from workbench.data._archives import OnBytes, unpack_all
from workbench.data._client import OFFLINE_HELP
from workbench.data._schema import Download, UrlSource
from workbench.errors import IntegrityError, WorkbenchError

_SOCKET_TIMEOUT_S = 60


def retrieve(source: UrlSource, work: Path, target: Path, on_bytes: OnBytes) -> None:
    """Put every download of `source` below `target`, unpacked where the manifest says so.

    Raises:
        IntegrityError: a hash differs, or an archive is damaged or unsafe.
        WorkbenchError: a URL cannot be reached.
    """
    for download in source.downloads:
        arrived = _download(download, work if download.unpack else target, on_bytes)
        if download.unpack:
            unpack_all(arrived, target, on_bytes)
            arrived.unlink()


def _download(download: Download, folder: Path, on_bytes: OnBytes) -> Path:
    import pooch
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("WARNING")  # the progress bar says what is going on
    fetcher = pooch.HTTPDownloader(
        progressbar=_PoochBar(on_bytes), chunk_size=1 << 20, timeout=_SOCKET_TIMEOUT_S
    )
    known = f"sha256:{download.sha256}"
    try:
        return Path(pooch.retrieve(download.url, known, download.filename, folder, downloader=fetcher))
    except RequestException as error:
        raise WorkbenchError(
            f"{download.url} could not be reached (no network?): {error}. {OFFLINE_HELP}"
        ) from error
    except ValueError as error:  # pooch's text names the file, the expected and the found hash
        raise IntegrityError(f"{download.url}: {error}; nothing was kept") from error


class _PoochBar:
    """What pooch expects of a progress bar; after `reset` it announces the whole file once more."""

    def __init__(self, on_bytes: OnBytes) -> None:
        self.total = 0
        self._on_bytes: OnBytes | None = on_bytes

    def update(self, count: int) -> None:
        if self._on_bytes:
            self._on_bytes(count)

    def reset(self) -> None:
        self._on_bytes = None

    def close(self) -> None:
        self._on_bytes = None
