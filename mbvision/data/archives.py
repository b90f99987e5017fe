"""The one door for archives: a zip or tar file is checked, unpacked beside its place, and only then moved there."""

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from tqdm import tqdm

from mbvision.errors import DataError, is_printable
from mbvision.files import check_file

MAX_MEMBERS = 2_000_000
"""ImageNet, the largest set we know of, has 1.3 million files."""

MAX_BYTES = 512 * 1024**3

MAX_RATIO = 200
"""Unpacked bytes per packed byte: annotation JSON reaches about 10, a bomb 1000 and more."""

_BLOCK = 1024 * 1024
_MOST_READ = 16 * 1024 * 1024
_MAX_DEPTH = 64
_FEW_EMPTY = 10_000
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


class _Member(NamedTuple):
    """A regular file in an archive: its normalised name, its size and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def extract(
    archive: str | Path,
    into: str | Path,
    *,
    checksum: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    progress: bool = True,
) -> int:
    """Unpack a zip or tar archive into a folder, merging with what is there; returns the number of files.

    ``checksum`` is an MD5 or SHA-256 in hexadecimal, told apart by length. Absolute names, ``..``, links, devices,
    names given twice, too many members or bytes, and a suspicious compression ratio are refused before anything is
    written. Rights, owners and times are not taken over. Raises ``DataError``, and then leaves ``into`` as it was.
    """
    archive, into = Path(archive), Path(into)
    check_file(archive, error=DataError, what="archive", remedy="check the path")
    if checksum is not None:
        _check_sum(archive, checksum, progress)
    beside = into / f".unpacking-{archive.name}"
    try:
        into.mkdir(parents=True, exist_ok=True)
        _remove(beside)  # left over from a run that was killed
        with _members(archive, max_members, max_bytes) as members:
            total = sum(member.size for member in members)
            if total > shutil.disk_usage(into).free:
                raise DataError(f"{archive}: needs {_gib(total)} in {into}, where less is free")
            beside.mkdir()
            with tqdm(total=total, unit="B", unit_scale=True, desc=archive.name, disable=not progress) as bar:
                for member in members:
                    _write(archive, member, beside / member.name, bar)
        for path in sorted(beside.iterdir()):
            _check_merge(path, into / path.name)
        for path in sorted(beside.iterdir()):
            _merge(path, into / path.name)
    except DataError:
        raise
    except Exception as error:  # zipfile, tarfile and the decompressors raise a dozen unrelated kinds
        raise DataError(
            f"{archive}: cannot be unpacked into {into}: {error}; perhaps cut short: get it anew"
        ) from error
    finally:
        with suppress(OSError):
            _remove(beside)
    return len(members)


def _check_sum(archive: Path, checksum: str, progress: bool) -> None:
    digest = hashlib.md5(usedforsecurity=False) if len(checksum) == 32 else hashlib.sha256()
    size = archive.stat().st_size
    with (
        open(archive, "rb") as file,
        tqdm(total=size, unit="B", unit_scale=True, desc=f"checking {archive.name}", disable=not progress) as bar,
    ):
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    if digest.hexdigest() != checksum.lower():
        raise DataError(f"{archive}: its {digest.name} is {digest.hexdigest()}, not {checksum}; get it anew")


@contextmanager
def _members(archive: Path, max_members: int, max_bytes: int) -> Iterator[list[_Member]]:
    """The files of an archive, all checked, open for reading."""
    limit = min(max_bytes, MAX_RATIO * archive.stat().st_size)
    with open(archive, "rb") as file:
        start = file.read(6)
    if start[:4] in (b"PK\3\4", b"PK\5\6"):  # by its start: a tar may end with a zip
        with zipfile.ZipFile(archive) as zipped:
            yield _checked(archive, _zip_members(archive, zipped), max_members, limit)
        return
    unpack = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), open)
    with unpack(archive, "rb") as stream:
        try:
            tar = tarfile.open(fileobj=cast(IO[bytes], _Frugal(archive, stream)), mode="r:")  # noqa: SIM115 (closed below)
        except tarfile.ReadError as error:
            raise DataError(f"{archive}: neither a zip nor a tar archive, or cut short: get it anew") from error
        with tar:
            yield _checked(archive, _tar_members(archive, tar), max_members, limit)


class _Frugal:
    """What tarfile reads from: a header that claims to be huge is refused before it is read into memory."""

    def __init__(self, archive: Path, stream: IO[bytes]) -> None:
        self._archive, self._stream = archive, stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_READ:
            raise DataError(f"{self._archive}: a header of {size} bytes, which no archive needs; not unpacked")
        return self._stream.read(size)


def _checked(archive: Path, members: Iterator[_Member | None], max_members: int, max_bytes: int) -> list[_Member]:
    """Stops at the first member past a limit, so that a bomb is not read to its end."""
    files: dict[str, _Member] = {}
    total = empty = 0
    for number, member in enumerate(members, start=1):
        if number > max_members:
            raise DataError(f"{archive}: more than {max_members} members, which no data set has; not unpacked")
        if member is None:
            continue
        if member.name in files:
            raise DataError(f"{archive}: {member.name!r} is in it twice; not unpacked")
        files[member.name] = member
        empty += member.size == 0
        if empty > max(_FEW_EMPTY, number // 2):
            raise DataError(f"{archive}: most of its files are empty, {empty} of the first {number}; not unpacked")
        total += member.size
        if total > max_bytes:
            raise DataError(f"{archive}: would unpack to more than {_gib(max_bytes)}, far too much for its size")
    if not files:
        raise DataError(f"{archive}: holds no file")
    return list(files.values())


def _zip_members(archive: Path, zipped: zipfile.ZipFile) -> Iterator[_Member | None]:
    for info in zipped.infolist():
        name = _inside(archive, info.orig_filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{archive}: {info.filename!r} is a link or device; not unpacked")
        if info.flag_bits & 1:
            raise DataError(f"{archive}: {info.filename!r} is encrypted; unpack the archive yourself")
        yield None if info.is_dir() else _Member(name, info.file_size, partial(zipped.open, info))


def _tar_members(archive: Path, tar: tarfile.TarFile) -> Iterator[_Member | None]:
    for info in tar:
        name = _inside(archive, info.name)
        if not (info.isreg() or info.isdir()) or info.issparse():
            raise DataError(f"{archive}: {info.name!r} is a link, a device or sparse; not unpacked")
        yield None if info.isdir() else _Member(name, info.size, partial(_open_tar, tar, info))


def _open_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> BufferedReader:
    file = tar.extractfile(info)
    assert isinstance(file, BufferedReader), "only regular files get here"
    return file


def _inside(archive: Path, name: str) -> str:
    """A member's name without ``.`` and empty parts; refused where it would lead out of the folder."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or any(character in name for character in "\0\\:"):
        raise DataError(f"{archive}: the name {name!r} leads out of the folder; not unpacked")
    if len(parts) > _MAX_DEPTH or not is_printable(name):
        raise DataError(f"{archive}: the name {name[:100]!r} is none that a data set has; not unpacked")
    return "/".join(part for part in parts if part not in ("", "."))


def _write(archive: Path, member: _Member, path: Path, bar: tqdm) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with member.open() as source, open(path, "xb") as target:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > member.size:
                break
            target.write(block)
            bar.update(len(block))
    if written != member.size:
        raise DataError(f"{archive}: {member.name!r} has not the size that the archive tells; get it anew")


def _check_merge(source: Path, target: Path) -> None:
    """Refuse what would write through a link, or put a file in the place of a folder."""
    if not os.path.lexists(target):
        return
    if target.is_symlink() or target.is_dir() != source.is_dir():
        raise DataError(f"{target}: is in the way (a link, or a file for a folder); move it and unpack again")
    if source.is_dir():
        for child in source.iterdir():
            _check_merge(child, target / child.name)


def _merge(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        for child in source.iterdir():
            _merge(child, target / child.name)
    else:
        os.replace(source, target)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"
