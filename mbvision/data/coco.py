"""COCO instances files: one JSON with pictures, categories and boxes, checked once and kept as flat arrays.

Boxes are ``x y w h``, 0-based, in float64 as the file has them. What the file says wrongly about its structure is an
``AnnotationError`` with the key path; single records that cannot be read are dropped with one warning per cause.
"""

import gc
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mbvision.data.boxes import BoxColumns, BoxReader, PictureList, assemble, warn_of_boxes
from mbvision.data.coco_layout import find_annotations, find_images
from mbvision.data.coco_runs import is_drawable
from mbvision.data.file_listing import find_named, leads_inside
from mbvision.data.images import MAX_PIXELS
from mbvision.errors import AnnotationError, DataError, is_printable
from mbvision.files import read_bytes
from mbvision.structures import BoxAnnotations, Skipped

MAX_JSON_BYTES = 2 * 1024**3
"""Four times instances_train2017.json; a larger file would not fit into memory while it is parsed."""

_POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[\d\s.,eE+\[\]-]*\]')
_NO_BOX = (None,) * 4
Record = dict[str, Any]


def coco(
    *,
    root: str | Path,
    split: str,
    images: str | Path | None = None,
    annotations: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> BoxReader:
    """A split of a COCO data set: the official layout untouched, or one of the usual ones of users' own sets.

    ``split`` is ``train2017``, or a JSON file below ``root``; ``images`` and ``annotations`` override where pictures
    and JSON are looked for, absolute or from the start folder.
    """
    file = find_annotations(Path(root), split, annotations)
    table = load_coco(file, class_names=class_names)
    folder = find_images(Path(root), split, file, table.file_names, images)
    table = replace(table, file_names=tuple(find_named(folder, table.file_names)))
    return BoxReader(annotations=table, images=folder, max_pixels=max_pixels)


def read_coco(annotations: str | Path, images: str | Path) -> BoxReader:
    """The boxes of an instances file with the pictures in the folder ``images``; outlines are checked as well.

    ``reader.skipped`` lists what was left out or repaired. Raises ``DataError``.
    """
    folder = Path(images)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of pictures")
    table = load_coco(Path(annotations), outlines=True)
    return BoxReader(annotations=replace(table, file_names=tuple(find_named(folder, table.file_names))), images=folder)


def load_coco(path: Path, *, class_names: Sequence[str] | None = None, outlines: bool = False) -> BoxAnnotations:
    """The boxes of an instances file; labels follow the rising category ids, or ``class_names`` where given.

    Records without a finite box, of an unknown picture or of an unknown category are dropped. ``difficult`` is the
    record's key ``difficult``, else ``ignore``, else false. With ``outlines``, which takes twice as long, the outlines
    that cannot be drawn are named too. Raises ``AnnotationError``.
    """
    document = parse_document(path, polygons=outlines)
    pictures = picture_list(path, record_list(path, document, "images"))
    classes = class_table(path, record_list(path, document, "categories"), class_names)
    records = record_list(path, document, "annotations", may_be_empty=True)
    boxes = _boxes(path, records, pictures, classes)
    return assemble(
        source=str(path), class_names=classes.names, category_ids=classes.ids, pictures=pictures, boxes=boxes
    )


def parse_document(path: Path, *, polygons: bool = False) -> Record:
    """The JSON document, without its polygons where only boxes are needed: they are most of the bytes."""
    text = read_bytes(path, what="COCO instances JSON", max_bytes=MAX_JSON_BYTES)
    if not polygons:
        text = _POLYGONS.sub(b'"segmentation":[]', text)
    collecting = gc.isenabled()
    gc.disable()  # millions of new objects and no garbage: half of the parsing time would go into looking for some
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise AnnotationError(f"{path}: nested too deeply to be a COCO instances file") from error
    except ValueError as error:
        raise AnnotationError(f"{path}: not valid JSON ({_reason(error)}); perhaps cut short: copy it anew") from error
    finally:
        if collecting:
            gc.enable()
    if not isinstance(document, dict):
        raise AnnotationError(
            f"{path}: holds a {type(document).__name__}, not an object with images, annotations and categories; "
            "a list of results belongs to predictions="
        )
    return document


def _object(pairs: list[tuple[str, Any]]) -> Record:
    """One object, each of whose keys must be there once: of two lists of annotations the parser would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:40]!r} is twice in one object")
    return found


def _reason(error: ValueError) -> str:
    """Without positions: they are not those of the file, since the polygons were taken out."""
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def record_list(path: Path, document: Record, key: str, *, may_be_empty: bool = False) -> list[Record]:
    """The records below one key of the document, each of them an object."""
    if key not in document:
        raise AnnotationError(
            f"{path}: has no key '{key}', so it is no instances file; it needs images, annotations and categories"
        )
    records = document[key]
    if not isinstance(records, list):
        raise AnnotationError(f"{path}: {key} is a {type(records).__name__}, it must be a list")
    if not records and not may_be_empty:
        raise AnnotationError(f"{path}: {key} is empty, so there is nothing to read")
    if set(map(type, records)) - {dict}:
        index = next(i for i, record in enumerate(records) if type(record) is not dict)
        raise AnnotationError(f"{path}: {key}[{index}] is a {type(records[index]).__name__}, it must be an object")
    return records


def column(path: Path, records: Sequence[Record], where: str, key: str, kinds: tuple[type, ...]) -> list[Any]:
    """One key of all records, which must be there and be of one of ``kinds`` (exactly: a bool is no int)."""
    values = [record.get(key) for record in records]
    if set(map(type, values)) - set(kinds):
        index = next(i for i, value in enumerate(values) if type(value) not in kinds)
        found = f"is {str(values[index])[:40]!r}" if key in records[index] else "is missing"
        wanted = " or ".join({"int": "a whole number", "str": "a text", "float": "a number"}[k.__name__] for k in kinds)
        raise AnnotationError(f"{path}: {where}[{index}].{key} {found}, it must be {wanted}")
    return values


def _unique(path: Path, values: Sequence[int | str], where: str, key: str) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[int | str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise AnnotationError(f"{path}: {where}[{index}].{key} {value!r} is there twice; make it unique")
        seen.add(value)


def picture_list(path: Path, records: list[Record]) -> PictureList:
    """The pictures of the file, with unique ids, names that stay in their folder, and whole sizes."""
    ids = column(path, records, "images", "id", (int, str))
    _unique(path, ids, "images", "id")
    names = column(path, records, "images", "file_name", (str,))
    for index, name in enumerate(names):
        if not leads_inside(name):
            raise AnnotationError(
                f"{path}: images[{index}].file_name {name!r} must lead into the folder of the pictures: "
                "neither absolute nor with '..'"
            )
    sides = [column(path, records, "images", key, (int, float)) for key in ("height", "width")]
    sizes = np.array(sides, dtype=np.float64).T
    wrong = ~((sizes >= 1) & (sizes < 2**31) & (sizes == np.floor(sizes))).all(axis=1)
    if wrong.any():
        index = int(wrong.argmax())
        raise AnnotationError(f"{path}: images[{index}] has the size {sizes[index][::-1].tolist()}, not whole pixels")
    return PictureList(ids=tuple(ids), file_names=tuple(names), sizes=sizes.astype(np.int64))


class ClassTable(NamedTuple):
    """Names and category ids in the order of the labels; ``unlisted`` are the file's classes that have no label."""

    names: tuple[str, ...]
    ids: tuple[int, ...]
    unlisted: dict[int, str]


def class_table(path: Path, records: list[Record], class_names: Sequence[str] | None) -> ClassTable:
    """By rising id, or as ``class_names`` has them: a class which the file lacks gets an id that is free there."""
    ids = column(path, records, "categories", "id", (int,))
    names = column(path, records, "categories", "name", (str,))
    _unique(path, ids, "categories", "id")
    _unique(path, names, "categories", "name")
    for index, name in enumerate(names):
        if not is_printable(name):
            raise AnnotationError(f"{path}: categories[{index}].name {name[:40]!r} holds characters that no name has")
    if class_names is None:
        pairs = sorted(zip(ids, names, strict=True))
        return ClassTable(tuple(name for _, name in pairs), tuple(number for number, _ in pairs), {})
    id_of = dict(zip(names, ids, strict=True))
    for name in class_names:
        id_of.setdefault(name, max(id_of.values()) + 1)
    unlisted = {id_of[name]: name for name in names if name not in class_names}
    return ClassTable(tuple(class_names), tuple(id_of[name] for name in class_names), unlisted)


def _boxes(path: Path, records: list[Record], pictures: PictureList, classes: ClassTable) -> BoxColumns:
    """The records that can be read, as columns; the others are named in one warning per cause."""
    try:
        ids = np.array(column(path, records, "annotations", "id", (int,)), dtype=np.int64)
    except OverflowError as error:
        raise AnnotationError(f"{path}: an annotation id has more than 64 bits; number the annotations anew") from error
    position = {image_id: index for index, image_id in enumerate(pictures.ids)}
    images = column(path, records, "annotations", "image_id", (int, str))
    rows = np.array([position.get(image_id, -1) for image_id in images], dtype=np.int64)
    labels = _labels(path, records, classes)
    xywh = _xywh(path, records)
    finite = np.isfinite(xywh).all(axis=1)
    unique, counts = np.unique(ids, return_counts=True)
    area = _numbers(path, records, "area")
    skipped: list[Skipped] = []
    for what, which in (
        ("have no finite bbox and are left out", ids[~finite]),
        ("are of a picture which the file does not list and are left out", ids[rows < 0]),
        ("are of a category which the file does not list and are left out", ids[labels < 0]),
        ("share their annotation id with another and are kept", unique[counts > 1]),
        ("have an area below 0, in whose place that of the box is taken", ids[area < 0]),
        ("have a segmentation that cannot be drawn and are kept", ids[_undrawable(records, pictures, rows)]),
    ):
        skipped += warn_of_boxes(str(path), what, which.tolist())
    with np.errstate(over="ignore"):
        area = np.where(np.isfinite(area) & (area >= 0), area, xywh[:, 2] * xywh[:, 3])
    crowd = np.nan_to_num(_numbers(path, records, "iscrowd")) != 0
    difficult, ignore = (_numbers(path, records, key) for key in ("difficult", "ignore"))
    difficult = np.nan_to_num(np.where(np.isnan(difficult), ignore, difficult)) != 0
    good = finite & (rows >= 0) & (labels >= 0)
    return BoxColumns(
        pictures=rows[good],
        xywh=xywh[good],
        labels=labels[good],
        areas=area[good],
        crowd=crowd[good],
        difficult=difficult[good],
        ids=ids[good],
        skipped=tuple(skipped),
    )


def _undrawable(records: list[Record], pictures: PictureList, rows: Int[np.ndarray, " N"]) -> list[int]:
    """The records whose outline is there and cannot be drawn; polygons that were taken out are not seen."""
    outlines = ((index, record.get("segmentation")) for index, record in enumerate(records))
    return [
        index
        for index, outline in outlines
        if outline and rows[index] >= 0 and not is_drawable(outline, pictures.sizes[rows[index]].tolist())
    ]


def _labels(path: Path, records: list[Record], classes: ClassTable) -> Int[np.ndarray, " N"]:
    """The label of each record, -1 for a category that the file does not list."""
    category_ids = column(path, records, "annotations", "category_id", (int,))
    if classes.unlisted and (used := classes.unlisted.keys() & set(category_ids)):
        name = classes.unlisted[min(used)]
        raise AnnotationError(f"{path}: class {name!r} has boxes but is not among the classes {list(classes.names)}")
    label = {category_id: index for index, category_id in enumerate(classes.ids)}
    return np.array([label.get(category_id, -1) for category_id in category_ids], dtype=np.int64)


def _xywh(path: Path, records: list[Record]) -> Float[np.ndarray, "N 4"]:
    """The boxes as they are in the file, NaN where one is missing or null."""
    boxes = [record.get("bbox") or _NO_BOX for record in records]
    for index, box in enumerate(boxes):
        if type(box) not in (list, tuple) or len(box) != 4:
            raise AnnotationError(f"{path}: annotations[{index}].bbox is {str(box)[:60]}, it must be [x, y, w, h]")
    flat = list(chain.from_iterable(boxes))
    if set(map(type, flat)) - {int, float, type(None)}:
        index = next(i for i, value in enumerate(flat) if type(value) not in (int, float, type(None))) // 4
        raise AnnotationError(f"{path}: annotations[{index}].bbox is {str(boxes[index])[:60]}, it must be four numbers")
    return _as_floats(path, "annotations[].bbox", flat).reshape(-1, 4)


def _numbers(path: Path, records: list[Record], key: str) -> Float[np.ndarray, " N"]:
    """An optional number of each record, NaN where it is missing or null."""
    values = [record.get(key) for record in records]
    if set(map(type, values)) - {int, float, bool, type(None)}:
        index = next(i for i, value in enumerate(values) if type(value) not in (int, float, bool, type(None)))
        raise AnnotationError(f"{path}: annotations[{index}].{key} is {str(values[index])[:40]!r}, it must be a number")
    return _as_floats(path, f"annotations[].{key}", values)


def _as_floats(path: Path, where: str, values: list[Any]) -> Float[np.ndarray, " N"]:
    try:
        return np.array(values, dtype=np.float64)  # NumPy makes None a NaN
    except OverflowError as error:
        raise AnnotationError(f"{path}: {where} holds a number that is too large for any picture") from error
