"""Archives: what a data set has is unpacked, nothing is ever written elsewhere, and bombs stop early."""

import gzip
import io
import operator
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mbvision.data.archives import extract
from tests.faults.case import Case

NOISE = np.random.default_rng(11).bytes(3000)
FILES = {"set/a.jpg": NOISE, "set/deep/b.txt": b"two", "empty": b""}


def archive_cases() -> Iterator[Case]:
    yield from _good()
    yield from _names()
    yield from _members()
    yield from _bombs()
    yield from _damaged()


def zipped(files: dict[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(
                zipfile.ZipInfo(name), content, compress_type=options.get("compression", zipfile.ZIP_STORED)
            )
    return buffer.getvalue()


def tarred(files: dict[str, bytes | tarfile.TarInfo], mode: str = "w", **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def _case(
    name: str, content: Callable[[], bytes], *, file: str = "a.bin", quick: bool = False, **expected: Any
) -> Case:
    def make(folder: Path) -> Path:
        (folder / file).write_bytes(content())
        return folder / file

    return Case(kind="archive", name=name, make=make, use=unpacked, quick=quick, **expected)


def unpacked(path: Path) -> dict[str, bytes]:
    """The files by name; nothing is left behind where the archive is refused."""
    into = path.parent.parent / "out" / "into"
    try:
        count = extract(path, into, progress=False)
    except Exception:  # raised again: whatever it is, nothing may be left
        assert not list(into.rglob("*")), "a refused archive left files"
        raise
    found = {file.relative_to(into).as_posix(): file.read_bytes() for file in into.rglob("*") if file.is_file()}
    assert count == len(found)
    return found


def _bad(name: str, content: Callable[[], bytes], *words: str, quick: bool = False) -> Case:
    return _case(name, content, error=("a.bin", *words), quick=quick)


def _good() -> Iterator[Case]:
    same = partial(operator.eq, FILES)
    yield _case("zip, stored", lambda: zipped(FILES), loads=same, quick=True)
    for name, kind in (("deflated", zipfile.ZIP_DEFLATED), ("bz2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        yield _case(f"zip, {name}", lambda kind=kind: zipped(FILES, compression=kind), loads=same)
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        yield _case(f"tar, {mode}", lambda mode=mode: tarred(FILES, mode), loads=same, quick=mode == "w:gz")
    yield _case("tar, with extended headers", lambda: tarred(FILES, format=tarfile.PAX_FORMAT), loads=same)
    long = {"/".join(["folder-of-a-long-name"] * 12) + "/a.txt": b"x"}
    yield _case("tar, a long name", lambda: tarred(long, format=tarfile.GNU_FORMAT), loads=lambda found: found == long)
    inner = zipped({"inner.txt": b"of the inner one"})
    yield _case(
        "a tar that ends with a zip",
        lambda: tarred({"last.zip": inner}),
        loads=lambda found: found == {"last.zip": inner},
    )
    dots = {"./a.txt": b"1", "b//c.txt": b"2"}
    yield _case(
        "names with dots and double slashes",
        lambda: tarred(dots),
        loads=lambda found: found == {"a.txt": b"1", "b/c.txt": b"2"},
    )
    two = {"a.txt": b"small", "A.txt": b"large"}
    yield _case("names that differ in case", lambda: zipped(two), loads=lambda found: found == two, error=("a.bin",))
    setuid = tarfile.TarInfo()
    setuid.mode = 0o4777
    folder_of_none = {"d": member(tarfile.DIRTYPE), "e": setuid}

    def plain(found: dict[str, bytes]) -> bool:
        return found == {"e": b""}

    yield _case("rights are not taken over", lambda: tarred(folder_of_none), loads=plain)


def _names() -> Iterator[Case]:
    for name in (
        "/etc/evil.txt",
        "../evil.txt",
        "a/../../evil.txt",
        "a/b/../../../evil.txt",
        "C:\\evil.txt",
        "..\\evil.txt",
        "\\\\host\\share\\evil.txt",
        "a:evil.txt",
        "//evil.txt",
        "a/..",
        "two\nlines.txt",
        "\x1b[2Jclear.txt",
        "x" * 300,
        "/".join("d" * 200),
        "ok/" * 1500 + "deep.txt",
    ):
        shown = name[:30].encode("unicode_escape").decode()
        yield _bad(f"zip: {shown}", lambda name=name: zipped({"good.txt": b"1", name: b"2"}), quick="../evil" in name)
        yield _bad(f"tar: {shown}", lambda name=name: tarred({"good.txt": b"1", name: b"2"}), quick="/etc" in name)


def _members() -> Iterator[Case]:
    for what, info in {
        "a link to outside": member(tarfile.SYMTYPE, "../../outside/secret.txt"),
        "a link inside": member(tarfile.SYMTYPE, "good.txt"),
        "a hard link": member(tarfile.LNKTYPE, "../../outside/secret.txt"),
        "a device": member(tarfile.CHRTYPE),
        "a block device": member(tarfile.BLKTYPE),
        "a pipe": member(tarfile.FIFOTYPE),
        "an unknown type": member(b"Z"),
    }.items():
        yield _bad(f"tar: {what}", lambda info=info: tarred({"good.txt": b"1", "bad": info}), quick="outside" in what)

    def linked(kind: int) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            info = zipfile.ZipInfo("bad")
            info.create_system, info.external_attr = 3, (kind | 0o777) << 16
            archive.writestr(info, "../../outside/secret.txt")
        return buffer.getvalue()

    yield _bad("zip: a link", lambda: linked(stat.S_IFLNK), "'bad'", quick=True)
    yield _bad("zip: a device", lambda: linked(stat.S_IFCHR), "'bad'")
    through = {"x": member(tarfile.SYMTYPE, "../../outside"), "x/evil.txt": b"2"}
    yield _bad("tar: a file through a link", lambda: tarred(through))
    yield _bad("tar: a name twice", lambda: tarred({"a.txt": b"1", "./a.txt": b"2"}), "'a.txt'", "twice", quick=True)
    yield _bad("zip: a name twice", lambda: zipped({"a.txt": b"1", "b/../a.txt": b"2", "./a.txt": b"3"}))
    yield _bad("zip: a file in the place of a folder", lambda: zipped({"a": b"1", "a/b": b"2"}))
    yield _bad("tar: a file in the place of a folder", lambda: tarred({"a": b"1", "a/b": b"2"}))
    encrypted = bytearray(zipped({"a.txt": NOISE}))
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        encrypted[encrypted.index(signature) + at] |= 1
    yield _bad("zip: encrypted", lambda: bytes(encrypted), "encrypted")
    unknown = bytearray(zipped({"a.txt": NOISE}))
    for signature, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        unknown[unknown.index(signature) + at] = 99
    yield _bad("zip: an unknown compression", lambda: bytes(unknown))


def _bombs() -> Iterator[Case]:
    zero = bytes(64 * 1024**2)
    yield _bad("zip: 64 MiB of zeros", lambda: zipped({"z": zero}, compression=zipfile.ZIP_DEFLATED), "GiB", quick=True)
    yield _bad("tar.gz: 64 MiB of zeros", lambda: tarred({"z": zero}, "w:gz"), "GiB")
    yield _bad("tar.xz: 64 MiB of zeros", lambda: tarred({"z": zero}, "w:xz"), "GiB")

    def claimed(size: int) -> bytes:
        info = tarfile.TarInfo("huge")
        info.size = size
        return info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)

    yield _bad("tar: a header that says 1 TiB", lambda: claimed(1024**4))

    def header_bomb(kind: bytes) -> bytes:
        info = member(kind)
        info.name, info.size = "x", 1024**3
        packer = io.BytesIO()
        with gzip.GzipFile(fileobj=packer, mode="wb", compresslevel=1) as file:
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(64):
                file.write(bytes(16 * 1024**2))
        return packer.getvalue()

    yield _bad("tar.gz: an extended header of 1 GiB", lambda: header_bomb(tarfile.XHDTYPE), "header")
    yield _bad("tar.gz: a name of 1 GiB", lambda: header_bomb(tarfile.GNUTYPE_LONGNAME), "header")
    yield _bad("zip: 30,000 empty files", lambda: zipped({f"{i}": b"" for i in range(30_000)}), "empty")
    smaller = bytearray(zipped({"a.txt": NOISE}))
    smaller[smaller.index(b"PK\1\2") + 24 : smaller.index(b"PK\1\2") + 28] = struct.pack("<I", 5)
    yield _bad("zip: a directory that says 5 bytes", lambda: bytes(smaller))
    chain = b"".join(_long_name_header() for _ in range(2000))
    yield _bad("tar: headers of headers of headers", lambda: chain + bytes(2048))


def _long_name_header() -> bytes:
    info = member(tarfile.GNUTYPE_LONGNAME)
    info.name, info.size = "././@LongLink", 5
    return info.tobuf(tarfile.GNU_FORMAT) + b"name\0" + bytes(507)


def _damaged() -> Iterator[Case]:
    whole = {
        "zip": zipped(FILES, compression=zipfile.ZIP_DEFLATED),
        "tar": tarred(FILES),
        "tar.gz": tarred(FILES, "w:gz"),
        "tar.bz2": tarred(FILES, "w:bz2"),
        "tar.xz": tarred(FILES, "w:xz"),
    }
    for kind, data in whole.items():
        for share in (0.05, 0.3, 0.5, 0.7):
            length = int((len(data) if kind != "tar" else 4500) * share)
            yield _bad(f"{share:.0%} of a {kind}", lambda data=data, n=length: data[:n], quick=share == 0.5)
        if kind != "tar":
            changed = bytearray(data)
            for place in range(60, len(data) - 200, 97):
                changed[place] ^= 0x55
            yield _bad(f"changed bytes in a {kind}", lambda changed=changed: bytes(changed))
    yield _bad("empty", lambda: b"", quick=True)
    yield _bad("text", lambda: b"no archive at all\n" * 100)
    yield _bad("gzip of a text", lambda: gzip.compress(b"no archive at all\n" * 100))
    yield _bad("zip without files", lambda: zipped({}), "no file")
    yield _bad("tar without files", lambda: tarred({}), "no file")
    yield _bad("tar with a folder alone", lambda: tarred({"d": member(tarfile.DIRTYPE)}), "no file")

    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "a.bin")
        return folder / "a.bin"

    for name, make in {
        "a pipe": pipe,
        "missing": lambda folder: folder / "a.bin",
        "a folder": lambda folder: folder,
    }.items():
        yield Case(kind="archive", name=name, make=make, use=unpacked, error=("in",))
