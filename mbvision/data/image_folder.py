"""A folder for each class: ``SPLIT/CLASS/*.jpg``, classes in the order of their folders' names."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mbvision.data.images import MAX_PIXELS, SUFFIXES
from mbvision.data.labels import FileReader
from mbvision.errors import DataError

_logger = logging.getLogger(__name__)


def image_folder(
    *, root: str | Path, split: str, images: str | Path | None = None, max_pixels: int = MAX_PIXELS
) -> FileReader:
    """The pictures below ``SPLIT/CLASS``, folders inside it included, in ``root`` or ``images``.

    Raises ``DataError`` where there is no such split, or no class in it.
    """
    folder = split_folder(Path(images or root), split)
    return folder_reader(folder, {name: name for name in class_folders(folder)}, max_pixels=max_pixels)


def split_folder(base: Path, split: str) -> Path:
    """The folder of a split. Raises ``DataError`` naming those that there are."""
    folder = base / split
    if folder.is_dir():
        return folder
    if not base.is_dir():
        raise DataError(f"{base}: there is no such folder; check data.root=")
    there = ", ".join(sorted(path.name for path in base.iterdir() if path.is_dir())[:5]) or "none"
    raise DataError(
        f"{folder}: there is no such split; folders there: {there}; put the pictures into {split}/CLASS, or set "
        "data.train_split= and data.val_split="
    )


def class_folders(folder: Path) -> list[str]:
    """The names of the classes' folders, sorted as torchvision sorts them. Raises ``DataError`` if there are none."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: no folder in it; each class has a folder of its pictures there, named for it")
    return names


def folder_reader(folder: Path, names: Mapping[str, str], *, max_pixels: int) -> FileReader:
    """The pictures in the folders of ``names``, which gives the class of each folder, in that order.

    Raises ``DataError`` where there are none at all; of classes without any there is a warning.
    """
    listed = [_pictures(folder / name, os.fsencode(name)) for name in names]
    empty = [name for name, files in zip(names, listed, strict=True) if not files]
    if len(empty) == len(names):
        raise DataError(f"{folder}: no pictures in the folders of its {len(names)} classes; known are {SUFFIXES}")
    if empty:
        shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        _logger.warning("%s: classes without a picture: %d (%s)", folder, len(empty), shown)
    counts = [len(files) for files in listed]
    return FileReader(
        folder=folder,
        files=np.array([file for files in listed for file in files]),
        labels=np.repeat(np.arange(len(names)), counts),
        class_names=tuple(names.values()),
        max_pixels=max_pixels,
    )


def _pictures(folder: Path, name: bytes) -> list[bytes]:
    """The pictures of a class, sorted; ``name`` goes in front of their paths in its folder."""
    return sorted(name + b"/" + os.fsencode(path) for path in _walk(folder))


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(folder)
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                yield (inside / file).as_posix()
