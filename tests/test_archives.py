import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mbvision.data import archives
from mbvision.data.archive_members import checked_members
from mbvision.data.archives import extract
from mbvision.errors import DataError
from tests.faults.archives import tarred, zipped

NOISE = np.random.default_rng(0).bytes(2000)


def _tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def _make(folder: Path, kind: str, members: dict[str, bytes]) -> Path:
    path = folder / f"a.{kind}"
    return _zip(path, members) if kind == "zip" else _tar(path, dict(members))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_files_are_unpacked_and_merged_with_what_is_there(tmp_path: Path, kind: str) -> None:
    into = tmp_path / "into"
    (into / "x").mkdir(parents=True)
    (into / "x" / "old").write_bytes(b"old")
    archive = _make(tmp_path, kind, {"x/new": NOISE, "./y/z/deep": b"1", "top": b""})
    assert extract(archive, into, progress=False) == 3
    assert _files(into) == {"x/old": b"old", "x/new": NOISE, "y/z/deep": b"1", "top": b""}
    assert sorted(path.name for path in into.iterdir()) == ["top", "x", "y"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\..\\x", "C:x"])
def test_a_name_that_leads_out_is_refused_and_nothing_is_written(tmp_path: Path, kind: str, name: str) -> None:
    archive = _make(tmp_path, kind, {"good": NOISE, name: b"1"})
    with pytest.raises(DataError, match=rf"a\.{kind}: the name .* leads out of the folder"):
        extract(archive, tmp_path / "into", progress=False)
    assert _files(tmp_path / "into") == {}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("bad")
    info.type, info.linkname = kind, "good"
    with pytest.raises(DataError, match="'bad' is a link, a device"):
        extract(_tar(tmp_path / "a.tar", {"good": NOISE, "bad": info}), tmp_path / "into", progress=False)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        info = zipfile.ZipInfo("bad")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="'bad' is a link or device"):
        extract(tmp_path / "a.zip", tmp_path / "into", progress=False)


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", {"x": NOISE, "./x": NOISE})
    with pytest.raises(DataError, match="'x' is in it twice"):
        extract(archive, tmp_path / "into", progress=False)


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path, kind: str) -> None:
    archive = _make(tmp_path, kind, {"zeros": bytes(20_000_000)})
    with pytest.raises(DataError, match="far too much for its size"):
        extract(archive, tmp_path / "into", progress=False)


def test_too_many_members_or_bytes_are_refused(tmp_path: Path) -> None:
    archive = _make(tmp_path, "tar", {str(k): NOISE for k in range(5)})
    with pytest.raises(DataError, match="more than 4 members"):
        extract(archive, tmp_path / "into", max_members=4, progress=False)
    with pytest.raises(DataError, match="would unpack to more than"):
        extract(archive, tmp_path / "into", max_bytes=9999, progress=False)
    assert extract(archive, tmp_path / "into", max_members=5, max_bytes=10_000, progress=False) == 5


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.8])
def test_a_cut_archive_is_an_error_and_leaves_the_folder_as_it_was(tmp_path: Path, kind: str, kept: float) -> None:
    archive = _make(tmp_path, kind, {str(k): np.random.default_rng(k).bytes(20_000) for k in range(9)})
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * kept)])
    with pytest.raises(DataError, match=rf"a\.{kind}: .*get it anew"):
        extract(archive, tmp_path / "into", progress=False)
    assert list((tmp_path / "into").iterdir()) == []


def test_a_damaged_file_in_a_zip_is_an_error(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"x": NOISE})
    content = bytearray(archive.read_bytes())
    content[500] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: cannot be unpacked"):
        extract(archive, tmp_path / "into", progress=False)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_tar_without_its_last_bytes_is_an_error(tmp_path: Path, kind: str) -> None:
    whole = tarred({"a.txt": b"1" * 400, "b.txt": NOISE}, {"tar": "w"}.get(kind, f"w:{kind[4:]}"))
    end = len(whole) - 1 if kind != "tar" else 7 * tarfile.BLOCKSIZE  # two headers, one block of a, four of b
    (tmp_path / f"a.{kind}").write_bytes(whole[:end])
    with pytest.raises(DataError, match=rf"a\.{kind}: .*(cut short|end-of-stream|again)"):
        extract(tmp_path / f"a.{kind}", tmp_path / "into", progress=False)
    assert _files(tmp_path / "into") == {}


def test_a_damaged_header_does_not_end_a_tar(tmp_path: Path) -> None:
    content = bytearray(tarred({"a.txt": b"1", "b.txt": b"2", "c.txt": b"3"}))
    content[content.index(b"b.txt")] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar: damaged behind byte 1024 of the tar"):
        extract(tmp_path / "a.tar", tmp_path / "into", progress=False)


def test_a_zip_whose_directory_lost_entries_is_an_error(tmp_path: Path) -> None:
    content = bytearray(zipped({"a.txt": b"1", "b.txt": b"2", "c.txt": b"3"}))
    content[content.index(b"PK\1\2") + 32] = 46 + len("b.txt")  # the first entry's comment takes the second in
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: its end states 3 members, its directory has \d"):
        extract(tmp_path / "a.zip", tmp_path / "into", progress=False)


def test_a_zip_with_more_members_than_16_bits_count_is_unpacked(tmp_path: Path) -> None:
    count = 65_600
    (tmp_path / "a.zip").write_bytes(zipped({f"{k}": b"1" for k in range(count)}))
    with checked_members(tmp_path / "a.zip", count, 10 * count) as members:
        assert len(members) == count


def test_a_plain_tar_without_a_checksum_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for mode in ("w", "w:gz"):
        (tmp_path / "a.tar").write_bytes(tarred({"a.txt": b"1"}, mode))
        extract(tmp_path / "a.tar", tmp_path / mode[-2:], progress=False)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'a.tar'}: a plain tar has no checksums, so damaged contents go unnoticed: compare its MD5"
    ]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_checksum_is_compared_first(tmp_path: Path, algorithm: str) -> None:
    archive = _zip(tmp_path / "a.zip", {"x": NOISE})
    digest = hashlib.new(algorithm, archive.read_bytes()).hexdigest()
    assert extract(archive, tmp_path / "into", checksum=digest.upper(), progress=False) == 1
    wrong = digest[::-1]
    with pytest.raises(DataError, match=f"its {algorithm} is {digest}, not {wrong}"):
        extract(archive, tmp_path / "into", checksum=wrong, progress=False)


@pytest.mark.parametrize("obstacle", ["link", "file", "folder"])
def test_a_link_or_another_kind_of_file_in_the_way_is_not_written_through(tmp_path: Path, obstacle: str) -> None:
    into, outside = tmp_path / "into", tmp_path / "outside"
    into.mkdir()
    outside.mkdir()
    archive = _zip(tmp_path / "a.zip", {"a": b"1", "x/y": NOISE, "z": b"2"})
    if obstacle == "link":
        (into / "x").symlink_to(outside)
    elif obstacle == "file":
        (into / "x").write_bytes(b"mine")
    else:
        (into / "z").mkdir()
    with pytest.raises(DataError, match="is in the way"):
        extract(archive, into, progress=False)
    assert _files(outside) == {}
    assert not (into / "a").exists()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "into" / ".unpacking-a.zip"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"1")
    extract(_zip(tmp_path / "a.zip", {"x": NOISE}), tmp_path / "into", progress=False)
    assert _files(tmp_path / "into") == {"x": NOISE}


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(NOISE)
    with pytest.raises(DataError, match=r"a\.zip: neither a zip nor a tar"):
        extract(tmp_path / "a.zip", tmp_path / "into", progress=False)
    with pytest.raises(DataError, match="no such archive"):
        extract(tmp_path / "b.zip", tmp_path / "into", progress=False)


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(DataError, match="where less is free"):
        extract(_zip(tmp_path / "a.zip", {"x": NOISE}), tmp_path / "into", progress=False)
    assert list((tmp_path / "into").iterdir()) == []
