"""Archives: wanted members come out, anything that would land elsewhere does not."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from workbench.data._archives import extract_members, unpack_all
from workbench.data.manifest import ManifestFile
from workbench.errors import IntegrityError


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def link(name: str, kind: bytes, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def regular(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def ignore(count: int) -> None:
    pass


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "inside" / "target"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:/evil.txt"]
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, target: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"evil.{kind}"
    if kind == "tar":
        tar_of(archive, regular("fine.txt"), regular(name))
    else:
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("fine.txt", "x")
            packed.writestr(name, "x")
    with pytest.raises(IntegrityError, match="would land outside its folder"):
        unpack_all(archive, target, ignore)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [archive.name, "fine.txt"]


def test_a_source_archive_holds_what_the_wheel_holds(tmp_path: Path, target: Path) -> None:
    archive = tar_of(tmp_path / "toy-1.0.tar.gz", regular("toy-1.0/PKG-INFO"), regular("toy-1.0/data/a.bin"))
    wanted = ManifestFile(path="a.bin", member="data/a.bin", sha256=hashlib.sha256(b"x").hexdigest(), size=1)
    extract_members(archive, [wanted], target, ignore)
    assert [path.name for path in target.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, target: Path, kind: bytes) -> None:
    archive = tar_of(tmp_path / "evil.tgz", link("inside", kind, "/etc/passwd"))
    with pytest.raises(IntegrityError, match="a link or a device"):
        unpack_all(archive, target, ignore)
    assert not list(target.iterdir())


def test_a_link_in_a_zip_is_refused(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "evil.zip"
    info = zipfile.ZipInfo("inside")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(IntegrityError, match="a link or a device"):
        unpack_all(archive, target, ignore)


def test_a_wanted_member_that_is_a_link_is_refused(tmp_path: Path, target: Path) -> None:
    members = regular("secret", b"abc"), link("wanted", tarfile.SYMTYPE, "secret")
    archive = tar_of(tmp_path / "evil.tgz", *members)
    with pytest.raises(IntegrityError, match="'wanted', which is a link"):
        extract_members(archive, [ManifestFile(path="wanted", member="wanted")], target, ignore)


def test_unpack_keeps_folders_and_content(tmp_path: Path, target: Path) -> None:
    folder = tarfile.TarInfo("a")
    folder.type = tarfile.DIRTYPE
    archive = tar_of(
        tmp_path / "good.tgz", (folder, b""), regular("a/b.txt", b"one"), regular("./c.txt", b"two")
    )
    unpack_all(archive, target, ignore)
    assert (target / "a/b.txt").read_bytes() == b"one"
    assert (target / "c.txt").read_bytes() == b"two"


def test_the_same_name_twice_is_refused(tmp_path: Path, target: Path) -> None:
    archive = tar_of(tmp_path / "twice.tgz", regular("a.txt", b"one"), regular("a.txt", b"two"))
    with pytest.raises(IntegrityError, match=r"'a\.txt' twice"):
        unpack_all(archive, target, ignore)


@pytest.mark.parametrize("suffix", ["zip", "tgz"])
def test_a_truncated_archive_is_named(tmp_path: Path, target: Path, suffix: str) -> None:
    content = bytes(hashlib.sha256(bytes([i % 256, i // 256])).digest()[0] for i in range(20_000))
    archive = tmp_path / f"half.{suffix}"
    if suffix == "tgz":
        tar_of(archive, regular("a.bin", content))
    else:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("a.bin", content)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(IntegrityError, match=rf"half\.{suffix} is damaged or was cut short"):
        extract_members(archive, [ManifestFile(path="a.bin", member="a.bin")], target, ignore)


def test_a_damaged_zip_member_is_named(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "bits.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.bin", b"content that will rot")
    archive.write_bytes(archive.read_bytes().replace(b"rot", b"r0t"))
    with pytest.raises(IntegrityError, match=r"bits\.zip is damaged"):
        unpack_all(archive, target, ignore)


def test_wrong_hash_names_file_expected_and_found(tmp_path: Path, target: Path) -> None:
    archive = tar_of(tmp_path / "toy.tgz", regular("a.txt", b"abc"))
    file = ManifestFile(path="b.txt", member="a.txt", sha256="0" * 64, size=3)
    with pytest.raises(IntegrityError) as caught:
        extract_members(archive, [file], target, ignore)
    for part in ("b.txt from toy.tgz", f"expected sha256 {'0' * 64}", hashlib.sha256(b"abc").hexdigest()):
        assert part in str(caught.value)


def test_a_member_larger_than_announced_stops_early(tmp_path: Path, target: Path) -> None:
    archive = tar_of(tmp_path / "bomb.tgz", regular("a.txt", bytes(5 << 20)))
    file = ManifestFile(path="a.txt", member="a.txt", sha256="0" * 64, size=3)
    with pytest.raises(IntegrityError, match="expected 3"):
        extract_members(archive, [file], target, ignore)
    assert (target / "a.txt").stat().st_size <= 1 << 20


def test_a_missing_member_is_named(tmp_path: Path, target: Path) -> None:
    archive = tar_of(tmp_path / "toy.tgz", regular("a.txt"))
    with pytest.raises(IntegrityError, match=r"toy\.tgz has no member 'b\.txt'"):
        extract_members(archive, [ManifestFile(path="b.txt", member="b.txt")], target, ignore)


def test_bytes_are_counted(tmp_path: Path, target: Path) -> None:
    counted: list[int] = []
    archive = tar_of(tmp_path / "toy.tgz", regular("a.txt", bytes(1000)), regular("b.txt", bytes(24)))
    unpack_all(archive, target, counted.append)
    assert sum(counted) == 1024
