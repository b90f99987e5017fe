"""Detections of a whole data set as flat arrays, and the three kinds of file that hold them.

In memory a box is ``x y width height`` with 0-based edges, as in COCO. Pascal VOC's files count pixels from 1 and
include the last one, so ``xmin = x + 1`` and ``xmax = x + width``.
"""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mbvision.errors import AnnotationError
from mbvision.files import read_bytes, read_text
from mbvision.structures import BoxAnnotations, image_index
from mbvision.writing import replace_text

MAX_RESULT_BYTES = 2 * 1024**3
"""A hundred detections for each picture of COCO's test set take about half a gigabyte."""

Place = Callable[[int, str], str]
"""Names one value of a file for a message, from the number of its record and its field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxResults:
    """What a detector found in a data set, in the order in which equal scores are ranked.

    ``image_index`` points into the images of the ``BoxAnnotations`` that the results belong to; ``xywh`` is in pixels
    of the original image; ``labels`` count from 0. Nothing found is four empty arrays.
    """

    image_index: Int[np.ndarray, " D"]
    xywh: Float[np.ndarray, "D 4"]
    scores: Float[np.ndarray, " D"]
    labels: Int[np.ndarray, " D"]

    def __len__(self) -> int:
        """The number of detections."""
        return len(self.scores)


def read_results(path: Path, annotations: BoxAnnotations) -> BoxResults:
    """Read detections from a file or folder of any of three kinds.

    - a COCO results list, ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}``, with the data set's own ids;
    - a list of ``{"image", "class", "score", "box": [xmin, ymin, xmax, ymax]}`` in VOC's pixels;
    - a folder of VOC's ``comp4_det_SPLIT_CLASS.txt``, lines of ``image score xmin ymin xmax ymax``; a class without a
      file has no detections.

    VOC names an image by its string id, or by its file's name without suffix where ids are numbers.

    Raises:
        AnnotationError: a file or a record cannot be used, or names an image or class that the annotations lack.
    """
    if path.is_dir():
        return _read_comp4(path, annotations)
    rows = _load_list(path)

    def place(row: int, field: str) -> str:
        return f"{path}: results[{row}].{field}"

    if rows and isinstance(rows[0], dict) and "image" in rows[0]:
        return BoxResults(
            image_index=_indices(_column(rows, "image", place), _image_names(annotations), "image", place),
            xywh=_from_inclusive(_numbers(_column(rows, "box", place), 4, "box", place), "box", place),
            scores=_numbers(_column(rows, "score", place), 1, "score", place)[:, 0],
            labels=_indices(_column(rows, "class", place), _label_of_name(annotations), "class", place),
        )
    label_of_id = {category: label for label, category in enumerate(annotations.category_ids)}
    xywh = _numbers(_column(rows, "bbox", place), 4, "bbox", place)
    _refuse_negative_sizes(xywh, "bbox", place)
    return BoxResults(
        image_index=_indices(_column(rows, "image_id", place), image_index(annotations), "image_id", place),
        xywh=xywh,
        scores=_numbers(_column(rows, "score", place), 1, "score", place)[:, 0],
        labels=_indices(_column(rows, "category_id", place), label_of_id, "category_id", place),
    )


def write_coco_results(path: Path, results: BoxResults, annotations: BoxAnnotations) -> None:
    """Write a COCO results list with the data set's own image and category ids, in full digits.

    Detections of a class that the data set lacks (its category id is negative) are left out.
    """
    rows = [
        {
            "image_id": annotations.image_ids[image],
            "category_id": annotations.category_ids[label],
            "bbox": box,
            "score": s,
        }
        for image, label, box, s in zip(
            results.image_index.tolist(),
            results.labels.tolist(),
            results.xywh.tolist(),
            results.scores.tolist(),
            strict=True,
        )
        if annotations.category_ids[label] >= 0
    ]
    replace_text(path, json.dumps(rows, allow_nan=False))


def write_comp4(folder: Path, split: str, results: BoxResults, annotations: BoxAnnotations) -> None:
    """Write VOC's ``comp4_det_SPLIT_CLASS.txt``, one file for every class, those without detections too.

    Raises:
        AnnotationError: a class name cannot be part of a file's name.
    """
    for name in annotations.class_names:
        if not name or any(character in name for character in "/\\\0"):
            raise AnnotationError(f"class name {name!r} cannot be part of a file name; rename it in the annotations")
    images = list(_image_names(annotations))
    corners = np.concatenate([results.xywh[:, :2] + 1, results.xywh[:, :2] + results.xywh[:, 2:]], axis=1)
    for label, name in enumerate(annotations.class_names):
        if annotations.category_ids[label] < 0:
            continue
        rows = np.flatnonzero(results.labels == label)
        columns = zip(
            results.image_index[rows].tolist(), results.scores[rows].tolist(), corners[rows].tolist(), strict=True
        )
        lines = [f"{images[i]} {score!r} {' '.join(map(repr, box))}\n" for i, score, box in columns]
        replace_text(folder / f"comp4_det_{split}_{name}.txt", "".join(lines))


def _read_comp4(folder: Path, annotations: BoxAnnotations) -> BoxResults:
    files = sorted(folder.glob("comp4_det_*.txt"))
    if not files:
        raise AnnotationError(
            f"{folder}: no comp4_det_SPLIT_CLASS.txt in this folder; give the folder of the VOC results"
        )
    classes = [_class_of_file(file, annotations) for file in files]
    splits = sorted({split for split, _ in classes})
    if len(splits) > 1:
        raise AnnotationError(f"{folder}: results of several splits ({', '.join(splits)}); keep one split in a folder")
    images = _image_names(annotations)
    parts = [_read_comp4_file(file, images, label) for file, (_, label) in zip(files, classes, strict=True)]
    return BoxResults(
        image_index=np.concatenate([part.image_index for part in parts]),
        xywh=np.concatenate([part.xywh for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def _class_of_file(file: Path, annotations: BoxAnnotations) -> tuple[str, int]:
    """The split and the label; either may hold underscores, so of several classes that fit the longest is meant."""
    stem = file.stem.removeprefix("comp4_det_")
    matches = [(len(n), label) for label, n in enumerate(annotations.class_names) if stem.endswith(f"_{n}")]
    if not matches:
        known = ", ".join(annotations.class_names)
        raise AnnotationError(f"{file}: its name ends in no class of the annotations; they have {known}")
    length, label = max(matches)
    return stem[: -length - 1], label


def _read_comp4_file(file: Path, images: Mapping[Hashable, int], label: int) -> BoxResults:
    lines = read_text(file, what="file of detections", remedy="write it again as plain text").splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    rows = [lines[number - 1].rsplit(maxsplit=5) for number in numbers]

    def place(row: int, field: str) -> str:
        return f"{file}: line {numbers[row]}, {field}"

    short = next((row for row, fields in enumerate(rows) if len(fields) != 6), None)
    if short is not None:
        raise AnnotationError(f"{place(short, 'fields')}: expected image score xmin ymin xmax ymax")
    values = _numbers([list(map(_float, fields[1:])) for fields in rows], 5, "score and box", place)
    return BoxResults(
        image_index=_indices([fields[0].strip() for fields in rows], images, "image", place),
        xywh=_from_inclusive(values[:, 1:], "box", place),
        scores=values[:, 0].copy(),
        labels=np.full(len(rows), label, dtype=np.int64),
    )


def _float(text: str) -> float:
    """A number, or NaN, which is refused later together with those that the file itself spells so."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _image_names(annotations: BoxAnnotations) -> dict[Hashable, int]:
    """Where each image stands by the name that VOC's files use, in the order of the data set."""
    names: list[Hashable] = [
        image_id if isinstance(image_id, str) else PurePosixPath(file).stem
        for image_id, file in zip(annotations.image_ids, annotations.file_names, strict=True)
    ]
    index = {name: place for place, name in enumerate(names)}
    if len(index) < len(names):
        twice = next(name for place, name in enumerate(names) if index[name] != place)
        raise AnnotationError(
            f"several images are named {twice!r} without folder and suffix; use COCO results, with ids"
        )
    return index


def _label_of_name(annotations: BoxAnnotations) -> dict[Hashable, int]:
    return {name: label for label, name in enumerate(annotations.class_names)}


def _load_list(path: Path) -> list[Any]:
    remedy = "give a results JSON or a folder of comp4_det_*.txt"
    content = read_bytes(path, what="file or folder", remedy=remedy, max_bytes=MAX_RESULT_BYTES)
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: is no JSON ({error}); write the results again") from None
    if not isinstance(rows, list):
        raise AnnotationError(
            f"{path}: expected a list of detections, found {type(rows).__name__}; give a results file"
        )
    return rows


def _column(rows: Sequence[Any], field: str, place: Place) -> list[Any]:
    try:
        return [row[field] for row in rows]
    except (KeyError, TypeError, IndexError):
        bad = next(i for i, row in enumerate(rows) if not (isinstance(row, dict) and field in row))
        raise AnnotationError(f"{place(bad, field)} is missing; every detection needs it") from None


def _indices(values: list[Any], known: Mapping[Any, int], field: str, place: Place) -> Int[np.ndarray, " D"]:
    try:
        return np.fromiter(map(known.__getitem__, values), dtype=np.int64, count=len(values))
    except (KeyError, TypeError):
        bad = next(i for i, value in enumerate(values) if not (isinstance(value, Hashable) and value in known))
        raise AnnotationError(
            f"{place(bad, field)} {values[bad]!r} is none of the annotations' {len(known)}; "
            "score results with the annotations that they were made for"
        ) from None


def _numbers(values: list[Any], width: int, field: str, place: Place) -> Float[np.ndarray, "D width"]:
    """Finite numbers as ``float64 [D, width]``; text is no number."""
    array = _as_numbers(values)
    if array is None or array.size != len(values) * width:
        bad = next((i for i, value in enumerate(values) if (a := _as_numbers(value)) is None or a.size != width), 0)
        wanted = "a finite number" if width == 1 else f"{width} finite numbers"
        raise AnnotationError(f"{place(bad, field)} is {values[bad]!r}; it must be {wanted}")
    return array.reshape(len(values), width)


def _as_numbers(value: Any) -> Float[np.ndarray, "..."] | None:
    try:
        array = np.array(value)
    except (ValueError, OverflowError):  # lists of different lengths
        return None
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        return None
    return array.astype(np.float64)


def _from_inclusive(corners: Float[np.ndarray, "D 4"], field: str, place: Place) -> Float[np.ndarray, "D 4"]:
    """VOC's ``xmin ymin xmax ymax``, counted from 1 with the last pixel inside, as ``x y width height``."""
    xywh = np.concatenate([corners[:, :2] - 1, corners[:, 2:] - corners[:, :2] + 1], axis=1)
    _refuse_negative_sizes(xywh, field, place)
    return xywh


def _refuse_negative_sizes(xywh: Float[np.ndarray, "D 4"], field: str, place: Place) -> None:
    negative = np.flatnonzero((xywh[:, 2:] < 0).any(axis=1))
    if negative.size:
        raise AnnotationError(f"{place(int(negative[0]), field)} has a negative width or height; check its box format")
