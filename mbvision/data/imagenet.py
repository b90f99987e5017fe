"""ImageNet (ILSVRC 2012) as its archives unpack: ``train/WNID/*.JPEG``, ``val/*.JPEG``, ``ILSVRC2012_devkit_t12/data``.

Classes are in the order of their WordNet ids, as torchvision has them; the devkit numbers them otherwise.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mbvision.data.image_folder import class_folders, folder_reader, split_folder
from mbvision.data.images import MAX_PIXELS
from mbvision.data.labels import FileReader
from mbvision.data.mat_files import struct_rows
from mbvision.errors import DataError
from mbvision.files import read_bytes, read_text

DEVKIT = "ILSVRC2012_devkit_t12"
_FLAT = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG", re.IGNORECASE)
_WNID = re.compile(r"n\d{8}")


class Synset(NamedTuple):
    """A class: its WordNet id, its name, and its number (from 1) in the ground truth of the validation pictures."""

    wnid: str
    name: str
    number: int


def imagenet(
    *,
    root: str | Path,
    split: str,
    images: str | Path | None = None,
    devkit: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> FileReader:
    """The pictures of ``SPLIT/WNID``, or of the flat ``val``, in ``root`` or ``images``.

    ``devkit`` is its folder, by default the one in ``root``; without it classes are called by their WordNet ids, and a
    flat ``val`` cannot be read. Raises ``DataError``.
    """
    folder = split_folder(Path(images or root), split)
    kit = Path(devkit) if devkit is not None else Path(root) / DEVKIT
    synsets = read_synsets(kit) if kit.is_dir() or devkit is not None else ()
    flat = {int(match[1]): entry.name for entry in os.scandir(folder) if (match := _FLAT.fullmatch(entry.name))}
    if flat:
        return _flat_reader(folder, flat, kit, synsets, max_pixels)
    wnids = class_folders(folder)
    if wrong := [wnid for wnid in wnids if not _WNID.fullmatch(wnid)]:
        raise DataError(
            f"{folder / wrong[0]}: not named by a WordNet id, as n01440764; for other sets data=image_folder"
        )
    names = {synset.wnid: synset.name for synset in synsets}
    return folder_reader(folder, {wnid: names.get(wnid, wnid) for wnid in wnids}, max_pixels=max_pixels)


def _flat_reader(
    folder: Path, files: Mapping[int, str], kit: Path, synsets: tuple[Synset, ...], max_pixels: int
) -> FileReader:
    """The validation pictures in one folder, numbered from 1 as the lines of the devkit's ground truth are."""
    if not synsets:
        raise DataError(
            f"{folder}: pictures that lie flat need the devkit for their classes; unpack {DEVKIT}.tar.gz into"
            f" {kit.parent}, or set data.readers.classification.devkit="
        )
    path = kit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    try:
        numbers = [int(line) for line in read_text(path, what="list of class numbers").split()]
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as a list of class numbers: {error}") from error
    label_of = {synset.number: label for label, synset in enumerate(synsets)}
    if unknown := [number for number in numbers if number not in label_of]:
        raise DataError(f"{path}: class {unknown[0]} is not in meta.mat; unpack the devkit anew")
    if beyond := [number for number in files if not 1 <= number <= len(numbers)]:
        raise DataError(f"{folder / files[beyond[0]]}: its number has no line in {path}, which has {len(numbers)}")
    order = sorted(files)
    return FileReader(
        folder=folder,
        files=np.array([os.fsencode(files[number]) for number in order]),
        labels=np.array([label_of[numbers[number - 1]] for number in order], dtype=np.int64),
        class_names=[synset.name for synset in synsets],
        max_pixels=max_pixels,
    )


def read_synsets(kit: Path) -> tuple[Synset, ...]:
    """The classes in the devkit's ``meta.mat``, sorted by WordNet id; WordNet's inner nodes above them are left out.

    A name is the first synonym, with the id behind it where two classes share it (crane, maillot).
    """
    path = kit / "data" / "meta.mat"
    try:
        content = read_bytes(path, what="MATLAB file of the devkit", remedy="unpack the devkit anew")
        rows = struct_rows(content, "synsets", ("ILSVRC2012_ID", "WNID", "words", "num_children"))
        synsets = sorted(
            Synset(str(row["WNID"]), str(row["words"]).split(",")[0].strip(), int(row["ILSVRC2012_ID"]))
            for row in rows
            if row["num_children"] == 0
        )
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: cannot be read: {error}; unpack the devkit anew") from error
    if not synsets:
        raise DataError(f"{path}: holds no class; unpack the devkit anew")
    shared = {name for name, count in Counter(synset.name for synset in synsets).items() if count > 1}
    return tuple(s._replace(name=f"{s.name} ({s.wnid})") if s.name in shared else s for s in synsets)
