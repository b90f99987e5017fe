"""What the files of ``predict`` are called, and how those of others are left alone."""

import itertools
import logging
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mbvision.errors import ConfigError
from mbvision.files import read_bytes
from mbvision.writing import replacing

RECORD = ".mbvision-predict"
"""A file in the output folder with the names of all that ``predict`` has written there, each ended by a zero."""

# File systems allow names of 255 bytes or characters; the rest is for suffixes, and numbers where stems are equal.
_MAX_STEM_BYTES = 235
_MASK = re.compile(r"\d{6,}\.png")

logger = logging.getLogger(__name__)


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """The files' names without suffix; with it, or with a number, where that name is taken.

    Names that differ in upper and lower case alone are one file on some systems, and so equal. Very long names are cut.
    """
    stems: list[str] = []
    taken: set[str] = set()
    for path in paths:
        own, whole = _cut(path.stem), _cut(path.name)
        numbered = (f"{own}-{number}" for number in itertools.count(2))
        stem = next(name for name in itertools.chain([own, whole], numbered) if name.casefold() not in taken)
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _cut(name: str) -> str:
    encoded = os.fsencode(name)
    return name if len(encoded) <= _MAX_STEM_BYTES else encoded[:_MAX_STEM_BYTES].decode(errors="ignore")


def image_outputs(stems: Iterable[str], save: Collection[str], *, masks: bool = True) -> list[str]:
    """The names of what is written of images, by what ``save`` asks for; all of it where that is empty."""
    suffixes = [".jpg"] if not save else []
    suffixes += [".json"] if not save or "json" in save else []
    suffixes += [".png"] if masks and (not save or "masks" in save) else []
    return [stem + suffix for stem in stems for suffix in suffixes]


def video_outputs(stems: Iterable[str], save: Collection[str]) -> list[str]:
    """The names of what is written of a video, by what ``save`` asks for; the video where that is empty."""
    endings = {"video": ".mp4", "json": ".jsonl", "masks": "_masks"}
    return [stem + endings[kind] for stem in stems for kind in save or ("video",)]


def refuse_overwriting(output: Path, names: Sequence[str], sources: Iterable[Path]) -> None:
    """Raise `ConfigError` if one of ``names`` in the output folder is a source, or a file of the user's own."""
    taken = [name for name in names if os.path.lexists(output / name)]
    if not taken:
        return
    resolved = {source.resolve(): source for source in sources}
    written = recorded(output)
    for name in taken:
        target = output / name
        if source := resolved.get(target.resolve()):
            raise ConfigError(f"output={output} would overwrite {source}: name another folder")
        foreign = [p for p in target.iterdir() if not _MASK.fullmatch(p.name)] if target.is_dir() else []
        if name not in written or foreign:
            raise ConfigError(
                f"output={output} would overwrite {foreign[0] if foreign else target}, which no predict has written:"
                " name another folder, or move that file"
            )


def recorded(output: Path) -> set[str]:
    """The names of all that ``predict`` has written to a folder."""
    if not (output / RECORD).is_file():
        return set()
    return {os.fsdecode(name) for name in read_bytes(output / RECORD, what="list of outputs").split(b"\0") if name}


def record(output: Path, names: Iterable[str]) -> None:
    """Note the names of what will be written to the output folder, which is made."""
    everything = sorted(recorded(output) | set(names))
    with replacing(output / RECORD) as temporary:
        temporary.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in everything))
