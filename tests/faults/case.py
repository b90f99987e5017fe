"""A case of the fault corpus: an input that is made, the door that it goes through, and what must come of it."""

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mbvision.errors import MBVisionError

SECRET = "canary-in-a-file-outside"
"""The text of a file outside every root: nothing that a door gives or says may hold it."""

Content = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input. ``make`` writes it below an empty folder and gives what ``use``, the door, is called with.

    Where ``loads`` is given, the content must satisfy it; each of ``skips`` must then be in a warning, and in the texts
    that ``skipped`` takes from the content. Where ``error`` is given, a refusal must hold each of its texts. With both,
    either will do. A ``quick`` case belongs to the default tests.
    """

    kind: str
    name: str
    make: Callable[[Path], Any]
    use: Callable[[Any], Content]
    loads: Callable[[Content], bool] | None = None
    skips: tuple[str, ...] = ()
    error: tuple[str, ...] | None = None
    quick: bool = False


class Row(NamedTuple):
    """What came of a case: the column of the table, and in words."""

    column: str
    said: str


GOOD = ("loads", "skipped", "error")
BAD = ("silent", "opaque", "crash", "hang", "other")
"""Columns that must be zero; ``other`` is a clear answer that is not the expected one, such as a good file refused."""


def judge(case: Case, base: Path) -> Row:
    """Make the input in ``base``, hand it over, and compare what comes of it; runs in a process of its own."""
    inside, outside, here = base / "in", base / "outside", base / "here"
    for folder in (inside, outside, here):
        folder.mkdir(parents=True)
    (outside / "secret.txt").write_text(SECRET)
    os.chdir(here)
    given = case.make(inside)
    before = _digest(base)
    with _heard() as said:
        row = _outcome(case, given, said)
    if _digest(base) != before:
        return Row("silent", f"files were changed, made or removed; {row.said}")
    if SECRET in row.said or any(SECRET in line for line in said):
        return Row("silent", "a file outside the root was read")
    return row


def _outcome(case: Case, given: Any, said: list[str]) -> Row:
    try:
        content = case.use(given)
    except MBVisionError as error:
        return _refusal(case, str(error), error)
    except Exception as error:  # what is not ours is what this column counts
        return Row("opaque", f"{type(error).__name__}: {error}")
    if case.loads is None:
        return Row("silent", "it loaded, and should have been refused")
    if not case.loads(content):
        return Row("silent", "it loaded with wrong content")
    told, result = "\n".join(said), "\n".join(f"{where}: {why}" for where, why in getattr(content, "skipped", ()))
    for name in case.skips:
        if name not in told or name not in result:
            return Row("silent", f"{name!r} is not in the warnings and the result: {told!r} {result!r}")
    if "\n" in "".join(said):
        return Row("opaque", f"a warning of several lines: {said}")
    return Row("skipped" if case.skips else "loads", told)


def _refusal(case: Case, text: str, error: Exception) -> Row:
    if case.error is None:
        return Row("other", f"refused, and should have loaded: {text}")
    if missing := [part for part in case.error if part not in text]:
        return Row("opaque", f"the message does not name {missing[0]!r}: {text}")
    if "\n" in text or "Traceback" in text or len(text) > 3000:
        return Row("opaque", f"more than one line: {text[:200]!r}")
    return Row("error", text)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Everything that is logged or warned of."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger().addHandler(listener)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield said
        finally:
            logging.getLogger().removeHandler(listener)
            said += [str(one.message) for one in caught if issubclass(one.category, UserWarning)]


def _digest(base: Path) -> dict[str, str]:
    """Names, kinds and contents below a folder, save those below ``out``, which is for what a door writes."""
    found = {}
    for place, folders, files in os.walk(base):
        folders[:] = [name for name in folders if name != "out"]
        for name in sorted(folders) + sorted(files):
            path = Path(place) / name
            text = os.readlink(path) if path.is_symlink() else _content(path)
            found[str(path)] = f"{os.lstat(path).st_mode} {text}"
    return found


def _content(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
