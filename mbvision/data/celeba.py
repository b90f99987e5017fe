"""CelebA in its official layout (doi:10.1109/ICCV.2015.425), untouched, and sets of one's own that are written like it.

- ``list_attr_celeba.txt``: the number of pictures, the names of the attributes, then ``FILE 1 -1 ...`` for each
  picture: 1 yes, -1 no, 0 not known;
- ``list_eval_partition.txt``: ``FILE 0``, 1 or 2 for train, val and test;
- ``identity_CelebA.txt``: ``FILE NUMBER``, who it shows;
- ``img_align_celeba/FILE``.

The text files lie in the root, or in ``Anno`` and ``Eval`` as the official folders hold them. Where they are missing,
``list_attr_celeba.csv`` and ``list_eval_partition.csv`` are read, the same rows with commas under a line of names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mbvision.data.faces import FaceAnnotations, FaceReader, identity_annotations
from mbvision.data.images import MAX_PIXELS
from mbvision.errors import AnnotationError, DataError
from mbvision.files import read_text
from mbvision.structures import IGNORE, AttributeAnnotations, IdentityAnnotations

SPLITS = {"train": "0", "val": "1", "test": "2"}
_FOLDERS = ("img_align_celeba", "img_align_celeba/img_align_celeba", "Img/img_align_celeba")
_MEANING = {"1": 1, "-1": 0, "0": IGNORE}


class _Row(NamedTuple):
    """One line of a file: where it stands, its picture and the words behind it."""

    line: int
    file: str
    words: list[str]


class _Table(NamedTuple):
    """The rows of a file, and the names over its columns where it has any."""

    path: Path
    names: tuple[str, ...]
    rows: list[_Row]


def celeba(
    *, root: str | Path, split: str, images: str | Path | None = None, max_pixels: int = MAX_PIXELS
) -> FaceReader:
    """The pictures of a split (train, val or test) with their attributes and, where there is such a file, identities.

    ``images`` is the folder of the pictures, if it is not in its usual place. Raises `DataError` where a file is
    missing, `AnnotationError` for a line that cannot be used.
    """
    base = Path(root)
    if not base.is_dir():
        raise DataError(f"{base}: there is no such folder; check data.root=")
    if split not in SPLITS:
        raise DataError(f"{base}: CelebA has no split {split!r}; choose {', '.join(SPLITS)}")
    files = _files_of_split(_table(base, "list_eval_partition", names=False), split)
    return FaceReader(
        folder=_pictures(base, images),
        files=files,
        annotations=FaceAnnotations(
            attributes=_attributes(_table(base, "list_attr_celeba", names=True), files),
            identities=None if (found := _identity_file(base)) is None else _identities(found, files),
        ),
        max_pixels=max_pixels,
    )


def _pictures(root: Path, images: str | Path | None) -> Path:
    places = [root / name for name in _FOLDERS] if images is None else [Path(images)]
    for place in reversed(places):  # the folder that was unpacked into one of its own name lies deeper
        if place.is_dir():
            return place
    raise DataError(
        f"{places[0]}: there is no such folder of pictures; unpack img_align_celeba.zip, or set data.images="
    )


def _identity_file(root: Path) -> Path | None:
    places = [root / "identity_CelebA.txt", root / "Anno" / "identity_CelebA.txt"]
    return next((place for place in places if place.is_file()), None)


def _table(root: Path, stem: str, *, names: bool) -> _Table:
    """The text file of that name, or else its comma-separated edition."""
    places = [root / f"{stem}.txt", root / "Anno" / f"{stem}.txt", root / "Eval" / f"{stem}.txt", root / f"{stem}.csv"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(f"{places[0]}: there is no such file, nor {stem}.csv; data.root= must hold CelebA's own files")
    return _read_commas(path) if path.suffix == ".csv" else _read_text(path, names=names)


def _lines(path: Path) -> list[str]:
    return read_text(path, what="list of CelebA").splitlines()


def _read_commas(path: Path) -> _Table:
    lines = _lines(path)
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    if len(header) < 2:
        raise AnnotationError(f"{path}:1: expected the names of the columns, as image_id,Smiling,...")
    if len(set(header)) < len(header) or not all(header):
        raise AnnotationError(f"{path}:1: expected the names of the columns, each once and none empty")
    return _Table(path, tuple(header[1:]), _rows(path, lines, 1, len(header) - 1, ","))


def _read_text(path: Path, *, names: bool) -> _Table:
    lines = _lines(path)
    if not names:
        return _Table(path, (), _rows(path, lines, 0, 1, None))
    if len(lines) < 2 or not (lines[0].strip().isdecimal() and len(lines[0]) < 20):
        raise AnnotationError(f"{path}:1: expected the number of pictures, then a line with the attributes' names")
    header = tuple(lines[1].split())
    if len(set(header)) < len(header) or not header:
        raise AnnotationError(f"{path}:2: expected the names of the attributes, each once")
    rows = _rows(path, lines, 2, len(header), None)
    if len(rows) != int(lines[0]):
        raise AnnotationError(
            f"{path}:1: says {lines[0].strip()} pictures, but {len(rows)} lines follow: a part is missing"
        )
    return _Table(path, header, rows)


def _rows(path: Path, lines: Sequence[str], first: int, columns: int, separator: str | None) -> list[_Row]:
    rows = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line.strip():
            continue
        file, *words = (word.strip() for word in line.split(separator))
        if len(words) != columns:
            raise AnnotationError(f"{path}:{number}: {len(words)} values behind {file!r}, expected {columns}")
        if (before := line_of.setdefault(file, number)) != number:
            raise AnnotationError(f"{path}:{number}: {file} has a line already, {before}; remove one of them")
        rows.append(_Row(number, file, words))
    return rows


def _files_of_split(table: _Table, split: str) -> list[str]:
    files = []
    for row in table.rows:
        if row.words[0] not in SPLITS.values():
            raise AnnotationError(
                f"{table.path}:{row.line}: {row.words[0]!r} is no split; 0, 1 and 2 are {', '.join(SPLITS)}"
            )
        if row.words[0] == SPLITS[split]:
            files.append(row.file)
    if not files:
        raise DataError(f"{table.path}: no picture is of the split {split} ({SPLITS[split]})")
    return files


def _by_file(table: _Table, files: Sequence[str]) -> list[_Row]:
    """The rows of these pictures, in their order."""
    rows = {row.file: row for row in table.rows}
    if missing := next((file for file in files if file not in rows), None):
        raise AnnotationError(f"{table.path}: it has no line for {missing}, which is in the split")
    return [rows[file] for file in files]


def _attributes(table: _Table, files: Sequence[str]) -> AttributeAnnotations:
    words = {word for row in table.rows for word in row.words}
    if "0" in words and "-1" not in words:
        raise AnnotationError(f"{table.path}: it holds 0 but no -1: write -1 for no; 0 means not known")
    rows = _by_file(table, files)
    for row in rows:
        if wrong := next((word for word in row.words if word not in _MEANING), None):
            raise AnnotationError(f"{table.path}:{row.line}: {wrong!r} is neither 1, -1 nor 0 (not known)")
    written = np.array([row.words for row in rows], dtype=np.int8).reshape(len(rows), len(table.names))
    values: UInt8[np.ndarray, "I A"] = np.where(written == 0, IGNORE, written > 0).astype(np.uint8)
    return AttributeAnnotations(names=table.names, image_ids=tuple(files), values=values)


def _identities(path: Path, files: Sequence[str]) -> IdentityAnnotations:
    rows = _by_file(_read_text(path, names=False), files)
    names = sorted({row.words[0] for row in rows}, key=lambda name: (len(name), name))
    place = {name: index for index, name in enumerate(names)}
    return identity_annotations(names, files, [place[row.words[0]] for row in rows])
