"""Files are there whole or not at all, and what goes wrong with one that is written names it."""

import errno
import fcntl
import hashlib
import logging
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

REMEDIES = {
    errno.ENOSPC: "free some space there, or name another folder",
    errno.EDQUOT: "free some space there, or name another folder",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or name another folder",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name a folder that can be written",
    errno.EPERM: "name a folder that can be written",
}
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)(?:-[0-9a-f]+)?\.partial", re.DOTALL)
"""The names that `temporary_of` gives."""
_DAY_S = 86_400

logger = logging.getLogger(__name__)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system inside name ``path``: of a full disk, Python's own name no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, in a folder that is made; at the end it takes the place of ``path``.

    Where that fails, or what is inside, ``path`` is as it was and nothing is left beside it.
    """
    temporary = temporary_of(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with suppress(OSError):  # gone already where all went well
                temporary.unlink()


def replace_text(path: Path, text: str) -> None:
    """Write UTF-8 text to ``path`` in one step: a reader sees the old file or the new one, never a part.

    Names of files that the locale cannot decode are written as the bytes that they are.

    Raises:
        OSError: the folder cannot be made or written; an old file is left as it was.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` to write to; at the end it takes the place of ``path`` with all that is in that.

    Where what is inside fails, ``path`` is as it was and nothing is left beside it.
    """
    with temporary_folder(path) as temporary:
        yield temporary
        with writing(path):
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path``, which is gone at the end; errors of making it name ``path``."""
    temporary = temporary_of(path, kind=f"-{os.urandom(4).hex()}")  # threads may write the same at once
    with writing(path):
        temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_of(path: Path, kind: str = "") -> Path:
    """What a file is called until it is whole: beside ``path``, and short where that name is long.

    What killed processes left in that folder is removed.
    """
    remove_leftovers(path.parent)
    # ext4, XFS, APFS and NTFS allow 255 bytes or characters; 40 of them are ours.
    name = path.name if len(os.fsencode(path.name)) <= 215 else hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]
    return path.with_name(f".{name}.{_machine()}-{os.getpid()}{kind}.partial")


@lru_cache(maxsize=256)  # once for each folder: one may hold a million images
def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left half written: those of this machine, after a day those of others."""
    with suppress(OSError):  # no such folder yet, or one that cannot be listed
        for path in folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found and not (_runs(int(found[2])) if found[1] == _machine() else _is_young(path)):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _machine() -> str:
    """A short name of all that may number a process as it likes: a machine, or a container on it."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:  # not on Linux
        numbers = ""
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # nothing is sent
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _is_young(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime < _DAY_S


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of ``path``, an empty file that is there as long. The system takes it from a process that dies.

    Raises:
        BlockingIOError: another process holds it.
    """
    while True:
        with path.open("ab") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise BlockingIOError(errno.EAGAIN, "held by another process", str(path)) from error
                logger.warning("%s: the file system has no locks (%s): work there alone", path.parent, error.strerror)
            if not _is_open_file(path, file):
                continue  # its last holder has removed it between the two calls above
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_open_file(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def do_without_temporary_folder() -> None:
    """Let torch be imported where no folder can be written, as in a read-only container.

    It makes a folder for its compiler among the temporary files, which nothing here uses: one that is there will do.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.sep)


def explain(error: OSError) -> str:
    """One line: the file, what went wrong, and the remedy where there is a common one."""
    place = f"{error.filename}: " if error.filename is not None else ""
    remedy = REMEDIES.get(error.errno or 0, "")
    return f"{place}{error.strerror or error}{remedy and ': '}{remedy}"
