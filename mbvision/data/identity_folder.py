"""Pictures in one folder for each identity, ``SPLIT/IDENTITY/*.jpg``, as LFW has them; and LFW's ``pairs.txt``.

A pairs file (Labeled Faces in the Wild, vis-www.cs.umass.edu/lfw/README.txt) begins with the number of folds, where
there are any, and of pairs. Each fold has so many lines ``NAME I J``, two pictures of one identity, then as many
``NAME1 I NAME2 J``. Picture I of NAME is the file ``NAME/NAME_000I``, of any suffix.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mbvision.data.faces import FaceAnnotations, FaceReader, identity_annotations
from mbvision.data.file_listing import comparable, list_files, list_folders, shown, without_suffix
from mbvision.data.image_kinds import SUFFIXES
from mbvision.data.images import MAX_PIXELS
from mbvision.errors import AnnotationError, DataError
from mbvision.files import read_text

_logger = logging.getLogger(__name__)


class Pair(NamedTuple):
    """Two pictures, each as (identity, number), the fold they are of, and the line they stand in."""

    first: tuple[str, int]
    second: tuple[str, int]
    fold: int
    line: int


def identity_folder(
    *,
    root: str | Path,
    split: str,
    images: str | Path | None = None,
    pairs: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> FaceReader:
    """The pictures of a split, which is a folder in ``root`` (or in ``images``) with a folder for each identity.

    With ``pairs``, a file in ``root`` or anywhere, these are compared, and only their pictures are read. Raises
    `DataError` where a folder is missing or empty, `AnnotationError` for a line of the file that cannot be used.
    """
    folder = Path(images or root) / split
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; it must hold a folder of pictures for each identity")
    files = _files(folder)
    if not files:
        raise DataError(f"{folder}: no picture in a folder of its own identity, as {folder}/NAME/0001.jpg")
    if pairs is not None:
        return _with_pairs(folder, files, _pairs_file(Path(root), pairs), max_pixels)
    known = {name: place for place, name in enumerate(dict.fromkeys(file.partition("/")[0] for file in files))}
    numbers = [known[file.partition("/")[0]] for file in files]
    annotations = FaceAnnotations(identities=identity_annotations(list(known), files, numbers))
    return FaceReader(folder=folder, files=files, annotations=annotations, follow_links=True, max_pixels=max_pixels)


def _files(folder: Path) -> list[str]:
    """The images of all identities, folders inside theirs included; a warning counts those in no identity's folder."""
    listing = list_files(folder, SUFFIXES)
    listing.warn_of_passed_over()
    by_folder = listing.by_folder()
    if loose := by_folder.get(""):
        text = "%s: images in no identity's folder, left out: %d (%s)"
        _logger.warning(text, folder, len(loose), shown(loose))
    return [file for name in list_folders(folder) for file in by_folder.get(name, [])]


def _pairs_file(root: Path, pairs: str | Path) -> Path:
    for path in (root / pairs, Path(pairs)):
        if path.is_file():
            return path
    raise DataError(f"{root / pairs}: there is no such file of pairs; set data.readers.embedding.pairs=")


def _with_pairs(folder: Path, files: Sequence[str], path: Path, max_pixels: int) -> FaceReader:
    """The pictures which the file names, in the order of the folder, and its pairs of them."""
    listed = read_pairs(path)
    file_of = {comparable(without_suffix(file)): file for file in files}
    wanted: list[tuple[str, str]] = []
    for pair in listed:
        stems = [comparable(f"{name}/{name}_{number:04d}") for name, number in (pair.first, pair.second)]
        if missing := next((stem for stem in stems if stem not in file_of), None):
            raise AnnotationError(f"{path}:{pair.line}: there is no picture {folder / missing}")
        wanted.append((file_of[stems[0]], file_of[stems[1]]))
    used = {file for pair in wanted for file in pair}
    kept = [file for file in files if file in used]
    names = list(dict.fromkeys(file.partition("/")[0] for file in kept))
    place, number = {file: i for i, file in enumerate(kept)}, {name: i for i, name in enumerate(names)}
    known = identity_annotations(names, kept, [number[file.partition("/")[0]] for file in kept])
    known = replace(
        known,
        pairs=np.array([[place[a], place[b]] for a, b in wanted], dtype=np.int64),
        same=np.array([pair.first[0] == pair.second[0] for pair in listed]),
        folds=np.array([pair.fold for pair in listed], dtype=np.int64),
    )
    kept_known = FaceAnnotations(identities=known)
    return FaceReader(folder=folder, files=kept, annotations=kept_known, follow_links=True, max_pixels=max_pixels)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file, in its order. Raises `AnnotationError` naming the line."""
    lines = read_text(path, what="list of pairs").splitlines()
    header = lines[0].split() if lines else []
    if len(header) not in (1, 2) or not all(_is_number(word) and int(word) for word in header):
        raise AnnotationError(f"{path}:1: expected the number of folds and of pairs, or of pairs alone, as 10 300")
    folds, each = (1, int(header[0])) if len(header) == 1 else (int(header[0]), int(header[1]))
    rows = [(number, line) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if len(rows) != folds * 2 * each:
        raise AnnotationError(
            f"{path}:1: {folds} folds of {each} pairs of each kind are {folds * 2 * each} lines, but {len(rows)} follow"
        )
    return [_pair(path, number, line, place // (2 * each)) for place, (number, line) in enumerate(rows)]


def _is_number(word: str) -> bool:
    return word.isdecimal() and len(word) <= 9  # int() refuses thousands of digits with another error


def _pair(path: Path, number: int, line: str, fold: int) -> Pair:
    words = [word.strip() for word in line.split("\t" if "\t" in line else None)]
    if len(words) == 3 and all(_is_number(word) for word in words[1:]):
        return Pair((words[0], int(words[1])), (words[0], int(words[2])), fold, number)
    if len(words) == 4 and _is_number(words[1]) and _is_number(words[3]) and words[0] != words[2]:
        return Pair((words[0], int(words[1])), (words[2], int(words[3])), fold, number)
    raise AnnotationError(f"{path}:{number}: {line[:100]!r} is neither 'NAME I J' nor 'NAME1 I NAME2 J'")
