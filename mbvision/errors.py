"""The errors a user can cause. Each says in one line what is wrong, where, and what to do about it."""

import difflib
import re
from collections.abc import Mapping, Sequence

MOST_SHOWN = 2000
"""Characters of a message: names and values out of a stranger's file may be megabytes."""

_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    """Text out of a file for one line on a screen: what would move the cursor, or no encoding has, as an escape."""
    return _NOT_PRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_printable(text: str) -> bool:
    """Whether ``printable`` leaves a text as it is."""
    return not _NOT_PRINTABLE.search(text)


class MBVisionError(Exception):
    """A mistake in what the user gave us; commands print it without a traceback and exit with code 2."""

    def __str__(self) -> str:
        text = super().__str__()
        if "Original Traceback" in text:  # a loader's worker raised it; `mbvision.commands.run` takes out our line
            return text
        if len(text) > MOST_SHOWN:
            text = f"{text[: MOST_SHOWN - 500]} ... {text[-500:]}"
        return printable(text)


class ConfigError(MBVisionError):
    """A key or a value of the configuration makes no sense."""


class DataError(MBVisionError):
    """A data set is missing, or its layout is not the expected one."""


class ImageError(DataError):
    """One picture cannot be read."""


class VideoError(DataError):
    """One video cannot be read, or cannot be written."""


class AnnotationError(DataError):
    """An annotation file, or one record of it, cannot be used."""


class SizeMismatchError(AnnotationError):
    """A picture is not as large as its annotation or its mask."""


class MaskValueError(AnnotationError):
    """A mask holds values that belong to no class."""


class MaskColourError(AnnotationError):
    """A mask is drawn in colours that say no class; ``colours`` counts the pixels of each colour in it."""

    def __init__(self, message: str, colours: Mapping[tuple[int, int, int], int] | None = None) -> None:
        super().__init__(message)
        self.colours = dict(colours or {})


class CheckpointError(MBVisionError):
    """A weight file cannot be read, or does not fit the network."""


class TrainingError(MBVisionError):
    """Training cannot go on: the loss is not finite, or the set-up cannot work."""


class ExportError(MBVisionError):
    """A network cannot be written in a format, or the written file does not give its numbers."""


def nearest(word: str, choices: Sequence[str]) -> str:
    """A question after the closest choice, or nothing where none is close."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""
