"""What every door for files checks before it opens one, and the door for text: split lists, labels, JSON, YAML, XML."""

import os
import stat
from functools import lru_cache
from pathlib import Path

from mbvision.errors import AnnotationError, DataError

MAX_TEXT_BYTES = 256 * 1024**2
"""CelebA's list of attributes, the longest we know of, has 26 MB."""
_BLOCK = 2**20


def check_file(
    path: Path, *, error: type[DataError], what: str, remedy: str, root: Path | None = None
) -> os.stat_result:
    """Refuse what is not a regular file, or lies outside ``root`` once links are followed; nothing is opened.

    Raises ``error``: ``what`` says which kind of file it should be, ``remedy`` where to look if it is missing.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as reason:
        raise error(f"{path}: no such {what}; {remedy}") from reason
    except OSError as reason:
        raise error(f"{path}: cannot be opened: {reason.strerror}") from reason
    except ValueError as reason:  # a null character, or one that no file system can hold
        raise error(f"{path}: cannot be opened: {reason}") from reason
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path}: not a regular file, so it is not opened")
    if root is not None and not Path(os.path.realpath(path)).is_relative_to(_resolved(root)):
        raise error(f"{path}: leads out of {root}, so it is not opened; copy the {what} there")
    return status


def read_bytes(
    path: Path,
    *,
    what: str = "file",
    remedy: str = "check data.root=",
    root: Path | None = None,
    max_bytes: int = MAX_TEXT_BYTES,
) -> bytes:
    """The content of a regular file of at most ``max_bytes``; raises ``AnnotationError`` otherwise."""
    size = check_file(path, error=AnnotationError, what=what, remedy=remedy, root=root).st_size
    if size > max_bytes:
        raise AnnotationError(f"{path}: {size} bytes is above the limit of {max_bytes} for a {what}")
    try:
        with open(path, "rb") as file:
            content = file.read(size + 1)  # Python reserves what is asked for, however small the file is
            while len(content) <= max_bytes and (block := file.read(_BLOCK)):  # it has grown, or is of /proc: size 0
                content += block
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}; {remedy}") from error
    if len(content) > max_bytes:
        raise AnnotationError(f"{path}: above the limit of {max_bytes} bytes for a {what}")
    return content


def read_text(path: Path, *, what: str = "file", remedy: str = "check data.root=", root: Path | None = None) -> str:
    """The UTF-8 text of a file, with or without a byte order mark; raises ``AnnotationError``."""
    content = read_bytes(path, what=what, remedy=remedy, root=root)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: cannot be read as text: {error}; save it as UTF-8") from error


@lru_cache(maxsize=64)
def _resolved(root: Path) -> Path:
    return root.resolve()
