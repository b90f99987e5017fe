"""Files are there whole or not at all, and what goes wrong with one that is written names it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REMEDIES = {
    errno.ENOSPC: "free some space there, or name another folder",
    errno.EDQUOT: "free some space there, or name another folder",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or name another folder",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name a folder that can be written",
    errno.EPERM: "name a folder that can be written",
}


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
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


def explain(error: OSError) -> str:
    """One line: the file, what went wrong, and the remedy where there is a common one."""
    place = f"{error.filename}: " if error.filename is not None else ""
    remedy = REMEDIES.get(error.errno or 0, "")
    return f"{place}{error.strerror or error}{remedy and ': '}{remedy}"
