"""The one door for archives: a zip or tar file is checked, unpacked beside its place, and only then moved there."""

import hashlib
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from mbvision.data.archive_members import Member, checked_members, gib, stream_opener
from mbvision.errors import DataError
from mbvision.files import check_file

MAX_MEMBERS = 2_000_000
"""ImageNet, the largest set we know of, has 1.3 million files."""

MAX_BYTES = 512 * 1024**3

_BLOCK = 1024 * 1024
_logger = logging.getLogger(__name__)


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
    written. Rights, owners and times are not taken over. Damage is found by the checksums within the archive; a plain
    tar has none of its files' contents, which a warning says where no ``checksum`` is given. Raises ``DataError``, and
    then leaves ``into`` as it was.
    """
    archive, into = Path(archive), Path(into)
    check_file(archive, error=DataError, what="archive", remedy="check the path")
    if checksum is not None:
        _check_sum(archive, checksum, progress)
    beside = into / f".unpacking-{archive.name}"
    try:
        into.mkdir(parents=True, exist_ok=True)
        _remove(beside)  # left over from a run that was killed
        with checked_members(archive, max_members, max_bytes) as members:
            total = sum(member.size for member in members)
            if total > shutil.disk_usage(into).free:
                raise DataError(f"{archive}: needs {gib(total)} in {into}, where less is free")
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
    if checksum is None and stream_opener(archive) is open:
        _logger.warning("%s: a plain tar has no checksums, so damaged contents go unnoticed: compare its MD5", archive)
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


def _write(archive: Path, member: Member, path: Path, bar: tqdm) -> None:
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
