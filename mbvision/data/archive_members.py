"""What an archive holds: the regular files of a zip or tar, with every name, size and checksum checked."""

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from mbvision.errors import DataError, is_printable

MAX_RATIO = 200
"""Unpacked bytes per packed byte: annotation JSON reaches about 10, a bomb 1000 and more."""

MAX_PADDING = 16 * 1024**2
"""Bytes of zeros at the end of a tar: GNU tar fills up to a record, 10 KiB by default."""

_BLOCK = 1024 * 1024
_MOST_READ = 16 * 1024 * 1024
_MAX_DEPTH = 64
_FEW_EMPTY = 10_000
# APPNOTE.TXT 6.3.10: 4.3.16 (the end record, with a comment of up to 64 KiB behind it), 4.3.7, 4.4.4.
_END_RECORD_REACH = 22 + 65535 + 20 + 56
_LOCAL_FLAGS = 6
_UTF8_NAME = 1 << 11
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}


class Member(NamedTuple):
    """A regular file in an archive: its normalised name, its size and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


@contextmanager
def checked_members(archive: Path, max_members: int, max_bytes: int) -> Iterator[list[Member]]:
    """The files of an archive, all checked, open for reading."""
    limit = min(max_bytes, MAX_RATIO * archive.stat().st_size)
    unpack = stream_opener(archive)
    if unpack is None:
        with zipfile.ZipFile(archive) as zipped:
            _check_directory(archive, zipped)
            yield _checked(archive, _zip_members(archive, zipped), max_members, limit)
        return
    with unpack(archive, "rb") as stream:
        try:
            tar = tarfile.open(fileobj=cast(IO[bytes], _Frugal(archive, stream)), mode="r:")  # noqa: SIM115 (closed below)
        except tarfile.ReadError as error:
            raise DataError(f"{archive}: neither a zip nor a tar archive, or cut short: get it anew") from error
        with tar:
            yield _checked(archive, _tar_members(archive, tar), max_members, limit)
            stream.seek(tar.offset)
            _check_end(archive, stream)


def stream_opener(archive: Path) -> Callable[..., Any] | None:
    """What opens a tar's stream, by its first bytes (a tar may end with a zip); None for a zip."""
    with open(archive, "rb") as file:
        start = file.read(6)
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        return None
    return next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), open)


def _check_end(archive: Path, stream: IO[bytes]) -> None:
    """Read a tar to its end, where the checksums of gzip and xz stand; after its last member it holds zeros alone.

    tarfile takes any damaged header but the first for the end of the archive, and the members behind it are lost.
    """
    length = 0
    while block := stream.read(_BLOCK):
        if block.strip(b"\0"):
            raise DataError(
                f"{archive}: damaged behind byte {stream.tell() - len(block)} of the tar: download it again"
            )
        length += len(block)
        if length > MAX_PADDING:
            raise DataError(f"{archive}: more than {MAX_PADDING} bytes of zeros at its end; not unpacked")
    if length < tarfile.BLOCKSIZE:
        raise DataError(f"{archive}: the block of zeros that ends a tar is missing; cut short: download it again")


class _Frugal:
    """What tarfile reads from: a header that claims to be huge is refused before it is read into memory."""

    def __init__(self, archive: Path, stream: IO[bytes]) -> None:
        self._archive, self._stream = archive, stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_READ:
            raise DataError(f"{self._archive}: a header of {size} bytes, which no archive needs; not unpacked")
        return self._stream.read(size)


def _checked(archive: Path, members: Iterator[Member | None], max_members: int, max_bytes: int) -> list[Member]:
    """Stops at the first member past a limit, so that a bomb is not read to its end."""
    files: dict[str, Member] = {}
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
            raise DataError(f"{archive}: would unpack to more than {gib(max_bytes)}, far too much for its size")
    if not files:
        raise DataError(f"{archive}: holds no file")
    return list(files.values())


def _check_directory(archive: Path, zipped: zipfile.ZipFile) -> None:
    """Compare a zip's directory with what else the file says: unlike the members, the directory has no checksum.

    A damaged length in it takes the next entries for a comment, and zipfile does not miss them.
    """
    with open(archive, "rb") as file:
        file.seek(max(0, archive.stat().st_size - _END_RECORD_REACH))
        end = file.read()
        at = end.rfind(b"PK\5\6")
        stated = struct.unpack_from("<H", end, at + 10)[0]
        if stated == 0xFFFF and (large := end.rfind(b"PK\6\6", 0, at)) >= 0:
            stated = struct.unpack_from("<Q", end, large + 32)[0]
        if stated != len(zipped.infolist()):
            raise DataError(
                f"{archive}: its end states {stated} members, its directory has {len(zipped.infolist())};"
                " damaged: download it again"
            )
        for info in zipped.infolist():
            if info.orig_filename.isascii():
                continue
            file.seek(info.header_offset + _LOCAL_FLAGS)
            if (int.from_bytes(file.read(2), "little") ^ info.flag_bits) & _UTF8_NAME:
                raise DataError(f"{archive}: two encodings for the name {info.filename!r}; damaged: download it again")


def _zip_members(archive: Path, zipped: zipfile.ZipFile) -> Iterator[Member | None]:
    for info in zipped.infolist():
        name = _inside(archive, info.orig_filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{archive}: {info.filename!r} is a link or device; not unpacked")
        if info.flag_bits & 1:
            raise DataError(f"{archive}: {info.filename!r} is encrypted; unpack the archive yourself")
        yield None if info.is_dir() else Member(name, info.file_size, partial(zipped.open, info))


def _tar_members(archive: Path, tar: tarfile.TarFile) -> Iterator[Member | None]:
    for info in tar:
        name = _inside(archive, info.name)
        if not (info.isreg() or info.isdir()) or info.issparse():
            raise DataError(f"{archive}: {info.name!r} is a link, a device or sparse; not unpacked")
        yield None if info.isdir() else Member(name, info.size, partial(_open_tar, tar, info))


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


def gib(size: int) -> str:
    """A number of bytes in GiB, for messages."""
    return f"{size / 1024**3:.1f} GiB"
