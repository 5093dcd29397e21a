"""Files of a repository on the model hub, through huggingface_hub (the client that timm uses)."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from workbench.data._archives import OnBytes, check_content
from workbench.data._client import OFFLINE_HELP
from workbench.data._schema import HubSource, ManifestFile
from workbench.errors import WorkbenchError
from workbench.files import sha256_of


def retrieve(
    source: HubSource, files: tuple[ManifestFile, ...], work: Path, target: Path, on_bytes: OnBytes
) -> None:
    """Put the files of `source` below `target`: out of the hub's own cache if they are there, else fetched.

    Raises:
        IntegrityError: the manifest knows a file's hash and the file has another one.
        WorkbenchError: the hub cannot be reached or does not have the file.
    """
    for file in files:
        arrived = _download(source, file.path, work)
        size = arrived.stat().st_size
        check_content(file, sha256_of(arrived), size, source.repo)
        (target / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(arrived, target / file.path)
        on_bytes(size)


def _download(source: HubSource, filename: str, work: Path) -> Path:
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    kept = hub.try_to_load_from_cache(source.repo, filename, revision=source.version)
    if isinstance(kept, str):
        return Path(kept)
    wanted = f"{filename} of {source.repo} ({source.version})"
    try:
        return Path(hub.hf_hub_download(source.repo, filename, revision=source.version, local_dir=work))
    except HfHubHTTPError as error:
        raise WorkbenchError(f"the model hub does not give out {wanted}: {error}") from error
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise  # the disk's fault, explained by the caller
        raise WorkbenchError(
            f"the model hub could not be reached (no network?), so {wanted} was not fetched. {OFFLINE_HELP}\n"
            f"  {error}"
        ) from error
