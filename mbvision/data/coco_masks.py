"""Masks drawn from the outlines in COCO instances files: as the 21 classes of Pascal VOC, or as all of the file's.

Outlines are checked once, when the file is read, and kept as flat arrays; each mask is drawn when it is asked for.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as rle

from mbvision.data.boxes import PictureList, warn_of_boxes
from mbvision.data.coco import parse_document, picture_list
from mbvision.data.coco_classes import real_categories
from mbvision.data.coco_layout import find_annotations, find_images
from mbvision.data.coco_records import Record, column, record_list
from mbvision.data.coco_runs import run_lengths
from mbvision.data.file_listing import find_named
from mbvision.data.images import MAX_PIXELS
from mbvision.data.mask_pixels import Size, check_size
from mbvision.data.masks import Labels, MaskItem, MaskReader, mask_reader, mask_scheme
from mbvision.data.voc_masks import VOC_MASK_CLASSES
from mbvision.errors import AnnotationError, ConfigError, DataError
from mbvision.structures import IGNORE, MaskScheme

_logger = logging.getLogger(__name__)

# COCO's categories of the 20 VOC classes in VOC's order: torchvision's references/segmentation/coco_utils.py.
# fmt: off
VOC_CATEGORIES = (
    (5, "airplane"), (2, "bicycle"), (16, "bird"), (9, "boat"), (44, "bottle"), (6, "bus"), (3, "car"), (17, "cat"),
    (62, "chair"), (21, "cow"), (67, "dining table"), (18, "dog"), (19, "horse"), (4, "motorcycle"), (1, "person"),
    (64, "potted plant"), (20, "sheep"), (63, "couch"), (7, "train"), (72, "tv"),
)
# fmt: on


def coco_masks(
    *,
    root: str | Path,
    split: str,
    images: str | Path | None = None,
    classes: Literal["voc", "all"] = "all",
    crowds: Literal["ignore", "train"] = "ignore",
    min_area: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> MaskReader:
    """A split of a COCO data set, found as for boxes; label 0 is background.

    ``classes="all"`` takes the file's categories by rising id; where objects overlap, the smaller one is seen, as one
    drawn on another is (a helmet on a person). ``"voc"`` needs COCO's own categories and leaves out those that VOC has
    not; pixels of several objects are ignored (255), as in torchvision's segmentation reference. Crowds are ignored
    unless ``crowds="train"`` gives them their class. Images whose objects of those classes have an area (the file's, in
    pixels) of at most ``min_area`` together are left out. torchvision's references train crowds, and on images above
    1000. Objects whose outline cannot be read are left out, with one warning per cause. Raises ``DataError``.
    """
    for key, value, choices in (("classes", classes, ("voc", "all")), ("crowds", crowds, ("ignore", "train"))):
        if value not in choices:
            raise ConfigError(f"data.readers.segmentation.{key}={value}: choose {' or '.join(choices)}")
    file = find_annotations(Path(root), split)
    document = parse_document(file, polygons=True)
    pictures = picture_list(file, record_list(file, document, "images"))
    records = record_list(file, document, "annotations", may_be_empty=True)
    categories = real_categories(file, record_list(file, document, "categories"), records)
    label_of, scheme = _classes(file, categories, classes)
    outlines = _outlines(file, records, pictures, label_of, train_crowds=crowds == "train", stacked=classes == "all")
    kept = _large_enough(file, records, pictures, label_of, min_area)
    folder = find_images(Path(root), split, file, pictures.file_names, images)
    names = find_named(folder, pictures.file_names)
    items = [
        MaskItem(
            image_id=image_id,
            image=folder / name,
            image_root=folder,
            mask=partial(draw_mask, outlines, index, max_pixels=max_pixels),
        )
        for index, (image_id, name) in enumerate(zip(pictures.ids, names, strict=True))
        if kept[index]
    ]
    return mask_reader(items, scheme, source=str(file), max_pixels=max_pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlines:
    """The outlines of a whole file, sorted by picture: objects ``offsets[i]:offsets[i + 1]`` are in picture ``i``.

    Object ``j`` has the polygons ``polygons[j]:polygons[j + 1]``, polygon ``k`` the numbers ``points[k]:points[k + 1]``
    of ``coordinates`` (x, y, x, y, ... in pixels), and a crowd may have ``runs[j]`` instead. ``labels`` are 255 for
    crowds that are ignored. Where objects overlap, the smallest one is seen if they are ``stacked``; else such pixels
    are ignored.
    """

    file: Path
    sizes: Int[np.ndarray, "I 2"]
    offsets: Int[np.ndarray, " I+1"]
    labels: Int[np.ndarray, " N"]
    polygons: Int[np.ndarray, " N+1"]
    points: Int[np.ndarray, " P+1"]
    coordinates: Float[np.ndarray, " V"]
    runs: dict[int, list[int]]
    stacked: bool


def draw_mask(outlines: Outlines, index: int, *, max_pixels: int, size: Size | None = None) -> Labels:
    """The mask of one image; raises ``AnnotationError`` if the file says another size than (height, width) ``size``."""
    height, width = (int(side) for side in outlines.sizes[index])
    check_size(outlines.file, (height, width), size)
    if height * width > max_pixels:
        raise AnnotationError(
            f"{outlines.file}: images[{index}] is {width}x{height}, above the limit of data.max_pixels={max_pixels}"
        )
    labels = np.zeros((height, width), dtype=np.uint8)
    covered, unclear = np.zeros((height, width), dtype=bool), np.zeros((height, width), dtype=bool)
    rows = range(outlines.offsets[index], outlines.offsets[index + 1])
    shapes = [(outlines.labels[row], _run_length_encoded(outlines, row, height, width)) for row in rows]
    if outlines.stacked:
        shapes.sort(key=lambda shape: -int(rle.area(shape[1])))
    for label, encoded in shapes:  # few objects, each of its own shape
        inside: Bool[np.ndarray, "H W"] = np.asarray(rle.decode(encoded), dtype=bool)
        if label == IGNORE:
            unclear |= inside
        else:
            if not outlines.stacked:
                unclear |= covered & inside
                covered |= inside
            labels[inside] = label
    labels[unclear] = IGNORE
    return labels


def _run_length_encoded(outlines: Outlines, row: int, height: int, width: int) -> Any:
    """One object as pycocotools encodes masks: a few bytes until it is drawn."""
    if row in outlines.runs:
        return rle.frPyObjects({"size": [height, width], "counts": outlines.runs[row]}, height, width)
    bounds = outlines.points[outlines.polygons[row] : outlines.polygons[row + 1] + 1]
    lines = [outlines.coordinates[a:b].tolist() for a, b in pairwise(bounds.tolist())]
    return rle.merge(rle.frPyObjects(lines, height, width))


def _classes(path: Path, records: list[Record], classes: str) -> tuple[dict[int, int], MaskScheme]:
    """The label of each category id that has one, and the names."""
    ids = column(path, records, "categories", "id", (int,))
    names = column(path, records, "categories", "name", (str,))
    name_of = dict(zip(ids, names, strict=True))
    if classes == "all":
        order = sorted(name_of)
        scheme = mask_scheme(["background", *(name_of[i] for i in order)], source=f"{path}: categories")
        return {category: label for label, category in enumerate(order, start=1)}, scheme
    if wrong := [(number, name) for number, name in VOC_CATEGORIES if name_of.get(number) != name]:
        raise ConfigError(
            f"{path}: classes=voc needs COCO's own categories, but id {wrong[0][0]} is not {wrong[0][1]!r} there; "
            "set data.readers.segmentation.classes=all"
        )
    label_of = {number: label for label, (number, _) in enumerate(VOC_CATEGORIES, start=1)}
    return label_of, mask_scheme(VOC_MASK_CLASSES, source=str(path))


def _large_enough(
    path: Path, records: list[Record], pictures: PictureList, label_of: dict[int, int], min_area: float | None
) -> Bool[np.ndarray, " I"]:
    """Which images are kept: those whose objects of the wanted categories cover more than ``min_area`` pixels."""
    if min_area is None:
        return np.ones(len(pictures.ids), dtype=bool)
    position = {image_id: index for index, image_id in enumerate(pictures.ids)}
    covered = np.zeros(len(pictures.ids))
    columns = (("image_id", (int, str)), ("category_id", (int,)), ("area", (int, float)))
    for image_id, category, area in zip(*(column(path, records, "annotations", *c) for c in columns), strict=True):
        if image_id in position and category in label_of:
            covered[position[image_id]] += area
    kept: Bool[np.ndarray, " I"] = covered > min_area
    if not kept.any():
        raise DataError(f"{path}: no image has objects of more than data.readers.segmentation.min_area={min_area:g}")
    _logger.info(
        "%s: %d of %d images are left out, with objects of at most data.readers.segmentation.min_area=%g pixels",
        *(path, (~kept).sum(), len(kept), min_area),
    )
    return kept


def _outlines(
    path: Path,
    records: list[Record],
    pictures: PictureList,
    label_of: dict[int, int],
    *,
    train_crowds: bool,
    stacked: bool,
) -> Outlines:
    """The objects of the wanted categories whose outline can be drawn."""
    position = {image_id: index for index, image_id in enumerate(pictures.ids)}
    places = [position.get(i, -1) for i in column(path, records, "annotations", "image_id", (int, str))]
    labels = [label_of.get(c, -1) for c in column(path, records, "annotations", "category_id", (int,))]
    rows = sorted((r for r in range(len(records)) if places[r] >= 0 and labels[r] >= 0), key=places.__getitem__)
    shapes: list[list[list[float]] | list[int] | None] = []  # polygons, or run lengths
    for row in rows:
        shapes.append(_shape(records[row].get("segmentation"), pictures.sizes[places[row]]))
    sides = [int(pictures.sizes[places[row]].max()) for row in rows]
    _drop_wild(path, rows, shapes, sides)
    _warn(path, records, [row for row, shape in zip(rows, shapes, strict=True) if shape is None])
    kept = [(row, shape) for row, shape in zip(rows, shapes, strict=True) if shape is not None]
    polygons = [_polygons(shape) for _, shape in kept]
    flat = list(chain.from_iterable(polygons))
    counts = np.bincount(np.array([places[row] for row, _ in kept], dtype=np.int64), minlength=len(pictures.ids))
    return Outlines(
        file=path,
        sizes=pictures.sizes,
        offsets=_ends(counts),
        labels=np.array(
            [IGNORE if records[row].get("iscrowd") and not train_crowds else labels[row] for row, _ in kept],
            dtype=np.int64,
        ),
        polygons=_ends([len(own) for own in polygons]),
        points=_ends([len(polygon) for polygon in flat]),
        coordinates=np.fromiter(chain.from_iterable(flat), dtype=np.float64),
        # mypy cannot tell that a shape without polygons is one of run lengths
        runs={j: shape for j, (_, shape) in enumerate(kept) if not polygons[j]},  # type: ignore[misc]
        stacked=stacked,
    )


def _ends(lengths: Sequence[int] | Int[np.ndarray, " N"]) -> Int[np.ndarray, " N+1"]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _shape(segmentation: Any, size: Int[np.ndarray, "2"]) -> list[list[float]] | list[int] | None:
    """The polygons of three points or more, or the run lengths of a crowd; None where there is nothing to draw."""
    if isinstance(segmentation, dict):
        return run_lengths(segmentation, (int(size[0]), int(size[1])))
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        return None
    if any(len(polygon) % 2 for polygon in segmentation):
        return None
    return [polygon for polygon in segmentation if len(polygon) >= 6] or None


def _polygons(shape: Any) -> list[list[float]]:
    return shape if isinstance(shape[0], list) else []


def _drop_wild(path: Path, rows: Sequence[int], shapes: list[Any], sides: Sequence[int]) -> None:
    """Take out polygons that are not numbers, not finite, or reach further out than the picture is large.

    The rasteriser's memory grows with a polygon's length, so those are no drawing mistakes to live with.
    """
    owners = [j for j, shape in enumerate(shapes) if shape is not None for _ in _polygons(shape)]
    flat = [polygon for shape in shapes if shape is not None for polygon in _polygons(shape)]
    if not flat:
        return
    if set(map(type, chain.from_iterable(flat))) - {int, float}:
        wrong = next(k for k, polygon in enumerate(flat) if set(map(type, polygon)) - {int, float})
        raise AnnotationError(f"{path}: annotations[{rows[owners[wrong]]}].segmentation must hold numbers alone")
    try:
        values = np.fromiter(chain.from_iterable(flat), dtype=np.float64)
    except OverflowError as error:
        raise AnnotationError(f"{path}: annotations[].segmentation holds a number too large for any picture") from error
    starts = _ends([len(polygon) for polygon in flat])[:-1]
    side = np.array(sides)[owners]
    least, most = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    for k in np.flatnonzero(~((least >= -side) & (most <= 2 * side))):  # a NaN is neither
        shapes[owners[k]] = None


def _warn(path: Path, records: list[Record], rows: Sequence[int]) -> None:
    ids = [records[row].get("id") for row in rows]
    warn_of_boxes(str(path), "have no outline that can be drawn and are left out of the masks", ids)
