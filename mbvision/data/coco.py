"""COCO instances files: one JSON with pictures, categories and boxes, checked once and kept as flat arrays.

Boxes are ``x y w h``, 0-based, in float64 as the file has them. What the file says wrongly about its structure is an
``AnnotationError`` with the key path; single records that cannot be read are dropped with one warning per cause.
"""

import gc
import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mbvision.data.boxes import BoxColumns, BoxReader, PictureList, assemble, warn_of_boxes
from mbvision.data.coco_classes import ClassTable, class_table, real_categories
from mbvision.data.coco_layout import find_annotations, find_images
from mbvision.data.coco_records import Record, check_unique, column, record_list
from mbvision.data.coco_runs import is_drawable
from mbvision.data.file_listing import find_named, leads_inside
from mbvision.data.images import MAX_PIXELS
from mbvision.errors import AnnotationError, DataError
from mbvision.files import read_bytes
from mbvision.structures import BoxAnnotations, Skipped

MAX_JSON_BYTES = 2 * 1024**3
"""Four times instances_train2017.json; a larger file would not fit into memory while it is parsed."""

_POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[\d\s.,eE+\[\]-]*\]')
_logger = logging.getLogger(__name__)
_NO_BOX = (None,) * 4


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

    A list of images without annotations, as COCO has for its test images, gives no box and a warning.
    Records without a finite box, of an unknown picture or of an unknown category are dropped. ``difficult`` is the
    record's key ``difficult``, else ``ignore``, else false. With ``outlines``, which takes twice as long, the outlines
    that cannot be drawn are named too. Raises ``AnnotationError``.
    """
    document = parse_document(path, polygons=outlines)
    pictures = picture_list(path, record_list(path, document, "images"))
    records = _annotation_list(path, document)
    classes = class_table(path, real_categories(path, record_list(path, document, "categories"), records), class_names)
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


def picture_list(path: Path, records: list[Record]) -> PictureList:
    """The pictures of the file, with unique ids, names that stay in their folder, and whole sizes."""
    ids = column(path, records, "images", "id", (int, str))
    check_unique(path, ids, "images", "id")
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


def _annotation_list(path: Path, document: Record) -> list[Record]:
    """The annotations; none, with a warning, of a list of images and categories, as COCO has for its test images."""
    if "annotations" not in document and {"images", "categories"} <= document.keys():
        _logger.warning(
            "%s: lists images without annotations: they can be predicted, but neither train nor score", path
        )
        return []
    return record_list(path, document, "annotations", may_be_empty=True)


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
    crowds = np.nan_to_num(_numbers(path, records, "iscrowd"))
    zero_area = (area == 0) & (xywh[:, 2:] > 0).all(axis=1)
    skipped: list[Skipped] = []
    for what, which in (
        ("have no finite bbox and are left out", ids[~finite]),
        ("are of a picture which the file does not list and are left out", ids[rows < 0]),
        ("are of a category which the file does not list and are left out", ids[labels < 0]),
        ("share their annotation id with another and are kept", unique[counts > 1]),
        ("have an area below 0, in whose place that of the box is taken", ids[area < 0]),
        ("have an iscrowd that is neither 0 nor 1 and count as crowds", ids[(crowds != 0) & (crowds != 1)]),
        ("have an area of 0, so COCO's numbers by size count them as small", ids[zero_area]),
        ("have a segmentation that cannot be drawn and are kept", ids[_undrawable(records, pictures, rows)]),
    ):
        skipped += warn_of_boxes(str(path), what, which.tolist())
    with np.errstate(over="ignore"):
        area = np.where(np.isfinite(area) & (area >= 0), area, xywh[:, 2] * xywh[:, 3])
    difficult, ignore = (_numbers(path, records, key) for key in ("difficult", "ignore"))
    difficult = np.nan_to_num(np.where(np.isnan(difficult), ignore, difficult)) != 0
    good = finite & (rows >= 0) & (labels >= 0)
    return BoxColumns(
        pictures=rows[good],
        xywh=xywh[good],
        labels=labels[good],
        areas=area[good],
        crowd=crowds[good] != 0,
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
