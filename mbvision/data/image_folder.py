"""A folder for each class: ``SPLIT/CLASS/*.jpg``, classes in the order of their folders' names."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mbvision.data.file_listing import list_files, list_folders, shown
from mbvision.data.image_kinds import SUFFIXES
from mbvision.data.images import MAX_PIXELS
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
    there = ", ".join(list_folders(base)[:5]) or "none"
    raise DataError(
        f"{folder}: there is no such split; folders there: {there}; put the pictures into {split}/CLASS, or set "
        "data.train_split= and data.val_split="
    )


def class_folders(folder: Path) -> list[str]:
    """The names of the classes' folders, sorted as torchvision sorts them. Raises ``DataError`` if there are none."""
    names = list_folders(folder)
    if not names:
        raise DataError(f"{folder}: no folder in it; each class has a folder of its pictures there, named for it")
    return names


def folder_reader(folder: Path, names: Mapping[str, str], *, max_pixels: int) -> FileReader:
    """The pictures in the folders of ``names``, which gives the class of each folder, in that order.

    Raises ``DataError`` where there are none at all; a warning counts classes without any, and images in no class.
    """
    listing = list_files(folder, SUFFIXES)
    listing.warn_of_passed_over()
    by_folder = listing.by_folder()
    listed = [by_folder.get(name, []) for name in names]
    empty = [name for name, files in zip(names, listed, strict=True) if not files]
    if len(empty) == len(names):
        raise DataError(f"{folder}: no pictures in the folders of its {len(names)} classes; known are {SUFFIXES}")
    if empty:
        _logger.warning("%s: classes without a picture: %d (%s)", folder, len(empty), shown(empty))
    if loose := by_folder.get(""):
        text = "%s: images in no class's folder, left out: %d (%s); put each into the folder of its class"
        _logger.warning(text, folder, len(loose), shown(loose))
    counts = [len(files) for files in listed]
    return FileReader(
        folder=folder,
        files=np.array([os.fsencode(file) for files in listed for file in files]),
        labels=np.repeat(np.arange(len(names)), counts),
        class_names=tuple(names.values()),
        max_pixels=max_pixels,
    )
