"""Which files below a folder belong to a data set, in which order, and which file a name in an annotation means.

Every reader lists by `list_files` and looks names up by `FileListing.by_stem`, `find_named` or `find_stems`, so that
all treat sub-folders, links, suffixes, hidden files and Unicode forms alike. Paths below a folder have ``/`` in them.
"""

import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from mbvision.data.image_kinds import KINDS
from mbvision.errors import DataError, is_printable, printable

# Beside everything whose name begins with a dot: ._NAME and .DS_Store of macOS, .ipynb_checkpoints of Jupyter.
# __MACOSX is what the archive tool of macOS adds, the next four are of Windows, @eaDir of Synology, lost+found of ext4.
_SYSTEM_NAMES = frozenset(
    ("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir", "lost+found")
)
_SHOWN = 3
_DIGITS = re.compile(r"([0-9]+)")
_logger = logging.getLogger(__name__)

HIDDEN = "hidden or system files"
LOOPS = "links to a folder that they lie in"
OTHER = "files of other kinds"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileListing:
    """The files of some kinds below ``folder``, in natural order.

    ``passed_over`` are the other entries by reason: folders count once, with all that is in them.
    """

    folder: Path
    names: tuple[str, ...]
    passed_over: Mapping[str, tuple[str, ...]]

    def by_stem(self) -> dict[str, str]:
        """The names by their path without suffix, in Unicode's composed form (NFC); ``comparable`` makes such keys.

        Raises ``DataError`` where two files differ in their suffix, or their Unicode form, alone.
        """
        by_stem: dict[str, str] = {}
        for name in self.names:
            stem = comparable(without_suffix(name))
            if stem in by_stem:
                same = ", ".join(printable(n) for n in self.names if comparable(without_suffix(n)) == stem)
                raise DataError(f"{self.folder}: {same} have the same name but for the suffix; remove one of them")
            by_stem[stem] = name
        return by_stem

    def by_folder(self) -> dict[str, list[str]]:
        """The names by the first folder on their path; those in no folder are below the empty name."""
        by_folder: dict[str, list[str]] = {}
        for name in self.names:
            by_folder.setdefault(name.partition("/")[0] if "/" in name else "", []).append(name)
        return by_folder

    def warn_of_passed_over(self) -> None:
        """Log one line that counts what was passed over, by reason; nothing where nothing was."""
        if self.passed_over:
            parts = [f"{len(names)} {what} ({shown(names)})" for what, names in self.passed_over.items()]
            _logger.warning("%s: passed over: %s", self.folder, "; ".join(parts))


def list_files(folder: Path, suffixes: Sequence[str], *, deep: bool = True) -> FileListing:
    """List the files below ``folder`` whose names end in one of ``suffixes``, in any case, in natural order.

    With ``deep`` sub-folders are listed too. Links to files and to folders are followed, but for those to a folder that
    they lie in. Hidden files and those of operating systems are passed over, and so are other kinds of files. What is
    no regular file is listed, and refused where it is read. Raises ``DataError`` for a folder that cannot be listed.
    """
    names: list[str] = []
    passed_over: dict[str, list[str]] = {}
    endings = tuple(suffix.lower() for suffix in suffixes)
    for name, reason in _walk(folder, "", (), endings, deep):
        if reason is None:
            names.append(name)
        else:
            passed_over.setdefault(reason, []).append(name)
    return FileListing(
        folder=folder,
        names=tuple(names),
        passed_over={reason: tuple(those) for reason, those in sorted(passed_over.items())},
    )


def list_folders(folder: Path) -> list[str]:
    """The names of the sub-folders, links to folders included, as `sorted` orders them; system folders are left out."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir() and not is_system_name(entry.name))


def _walk(
    folder: Path, inside: str, above: tuple[tuple[int, int], ...], endings: tuple[str, ...], deep: bool
) -> Iterator[tuple[str, str | None]]:
    """Each entry, with the reason why it is passed over; ``above`` identifies the folders on the way down."""
    entries = _entries(folder / inside)
    way = (*above, _identity(os.stat(folder / inside)))
    for entry in sorted(entries, key=lambda entry: natural_key(entry.name)):
        name = f"{inside}/{entry.name}" if inside else entry.name
        if is_system_name(entry.name):
            yield name, HIDDEN
        elif not entry.is_dir():
            yield name, None if entry.name.lower().endswith(endings) else _other_kind(entry.name)
        elif not deep:
            continue
        elif entry.is_symlink() and _identity(entry.stat()) in way:
            yield name, LOOPS
        else:
            yield from _walk(folder, name, way, endings, deep)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed: {error.strerror}") from error


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _other_kind(name: str) -> str:
    kind = KINDS.get(PurePosixPath(name).suffix.lower())
    return OTHER if kind is None else f"images of a kind that is not read, {kind.name}: {kind.conversion}"


def is_system_name(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that operating systems leave behind."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def natural_key(name: str) -> tuple[tuple[str | int, ...], ...]:
    """A key that sorts paths folder by folder and numbers in them by value: ``0, 1, 2, 10``."""
    parts = (_DIGITS.split(part) for part in name.split("/"))
    return (*(tuple(int(t) if i % 2 else t for i, t in enumerate(texts)) for texts in parts), (name,))


def comparable(name: str) -> str:
    """A name in Unicode's composed form: macOS writes ``e`` and an accent where others write one letter."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def without_suffix(name: str) -> str:
    """A path without the suffix of its file; dots in folders and at the start of the file's name stay."""
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix else name


def shown(names: Sequence[str]) -> str:
    """The first names for a message, with dots behind them where there are more."""
    return printable(", ".join(names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def leads_inside(file_name: str) -> bool:
    """Whether a file name out of an annotation stays below the folder it is joined to: not absolute, no ``..``.

    Characters that no name has on purpose (control characters, halves of surrogate pairs) lead nowhere.
    """
    if not file_name or not is_printable(file_name) or file_name.startswith(("/", "\\")):
        return False
    if ".." not in file_name and ":" not in file_name:
        return True
    return ".." not in re.split(r"[/\\]", file_name) and not PureWindowsPath(file_name).drive


class NamedFiles:
    """The files of a folder as names in an annotation may write them; each sub-folder is listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str | None:
        """The file that ``name`` means: as written, else by another spelling of it; None where none is.

        Other spellings have Windows' separators, the escapes of addresses (``%20``), Unicode's composed or decomposed
        form, or a suffix in upper or lower case.
        """
        slashes = name.replace("\\", "/")
        for spelling in dict.fromkeys((name, slashes, unquote(slashes))):
            if (path := self._path(spelling)) is not None:
                return path
        return None

    def _path(self, spelling: str) -> str | None:
        """Each part is looked up in the listing of its folder, so ``..`` and what leads out by it are never found."""
        path = ""
        for part in spelling.split("/"):
            if part in ("", "."):
                continue
            entries = self._listed(path)
            entry = entries.get(part) or entries.get(_loose(part))
            if entry is None:
                return None
            path = f"{path}/{entry}" if path else entry
        return spelling if path == spelling or path == str(PurePosixPath(spelling)) else path

    def _listed(self, inside: str) -> dict[str, str]:
        """What the folder has, by its own name and by the name that other spellings share."""
        if inside not in self._entries:
            place = self.folder / inside
            names = sorted(os.listdir(place)) if place.is_dir() else []
            self._entries[inside] = {_loose(name): name for name in names} | {name: name for name in names}
        return self._entries[inside]


def _loose(name: str) -> str:
    stem, dot, suffix = comparable(name).rpartition(".")
    return f"{stem}.{suffix.lower()}" if dot else suffix


def find_named(folder: Path, names: Sequence[str]) -> list[str]:
    """The file below ``folder`` of each name; a name stays as it is where there is none.

    One warning counts the files that are there under another spelling (see `NamedFiles.find`), another one those that
    are missing, which are errors when they are read.
    """
    files = NamedFiles(folder)
    found = [files.find(name) for name in names]
    pairs = list(zip(names, found, strict=True))
    respelled = [name for name, file in pairs if file is not None and file != name]
    missing = [name for name, file in pairs if file is None]
    if respelled:
        text = "%s: %d of %d names are not spelled as their files, which are read all the same (%s)"
        _logger.warning(text, folder, len(respelled), len(names), shown(respelled))
    if missing:
        _logger.warning("%s: %d of %d images are not there (%s)", folder, len(missing), len(names), shown(missing))
    return [name if file is None else file for name, file in pairs]


def find_stems(folder: Path, stems: Sequence[str], suffixes: Sequence[str]) -> list[str | None]:
    """The file of each name without suffix; None where there is none, of several files the first of ``suffixes``."""
    files = NamedFiles(folder)
    return [
        next((file for suffix in suffixes if (file := files.find(stem + suffix)) is not None), None) for stem in stems
    ]


def real_path(path: Path) -> str:
    """The file with links followed; folders are resolved once."""
    joined = os.path.join(_real_folder(path.parent), path.name)
    return os.path.realpath(joined) if os.path.islink(joined) else joined


@lru_cache(maxsize=64)
def _real_folder(folder: Path) -> str:
    return os.path.realpath(folder)
