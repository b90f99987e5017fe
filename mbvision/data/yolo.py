"""Turns a YOLO text data set (``data.yaml``, a text file of boxes for each picture) into COCO instances files.

A line is ``class x y width height``: the class from 0, centre and size of the box in fractions of the upright picture.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbvision.data.file_listing import list_files, list_folders, shown
from mbvision.data.image_kinds import SUFFIXES
from mbvision.data.images import image_size
from mbvision.data.yaml_files import read_mapping
from mbvision.errors import AnnotationError, DataError, is_printable
from mbvision.files import read_text

_SHOWN = 10
_NOTES = ("classes", "notes")  # classes.txt, which labelImg writes beside its labels, is no label file
_logger = logging.getLogger(__name__)
_ROUNDING = 1e-3  # writers round to three or more decimals, so that 1 becomes 1.0005

_Box = tuple[int, float, float, float, float]


def convert_yolo(source: Path, root: Path) -> dict[str, Path]:
    """Write ``ROOT/annotations/instances_SPLIT.json`` for every split of ``source``; returns them by split.

    Splits are ``images/SPLIT`` with ``labels/SPLIT``, or ``SPLIT/images`` with ``SPLIT/labels``. The pictures stay
    where they are (``data.images=SOURCE``). Category ids are the YOLO classes plus 1, image ids count from 1; an image
    without a text file has no object. A line of the log counts for each split what was read, and what has no
    counterpart. Nothing is written if a line is bad: ``AnnotationError`` names the first ones as ``file:line``.
    Raises ``DataError`` for a split whose text files belong to none of its images.
    """
    names = _class_names(source / "data.yaml")
    splits = _splits(source)
    if not splits:
        raise DataError(f"{source}: neither images/SPLIT with labels/SPLIT nor SPLIT/images with SPLIT/labels is there")
    _check_dropped(source, splits)
    targets = {split: root / "annotations" / f"instances_{split}.json" for split in splits}
    for target in targets.values():
        if target.exists():
            raise DataError(f"{target}: is there already; remove it to convert again")
    documents = {split: _document(source, images, labels, names) for split, (images, labels) in splits.items()}
    for split, document in documents.items():
        targets[split].parent.mkdir(parents=True, exist_ok=True)
        targets[split].write_text(json.dumps(document), encoding="utf-8")
    return targets


def _class_names(path: Path) -> list[str]:
    """The names by class number, from a list or a mapping of numbers."""
    names = read_mapping(path, what="data.yaml, which holds the names of the classes", texts=("names",)).get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: names must be a list of class names, or a mapping from 0, 1, 2, ... to them")
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: names holds a list or a mapping where the name of a class must be")
    texts = [name.strip() for name in names]
    if len(set(texts)) < len(texts):
        raise DataError(f"{path}: names holds a class twice")
    if wrong := [text for text in texts if not text or not is_printable(text)]:
        raise DataError(f"{path}: names holds {wrong[0][:40]!r}, which is no name")
    return texts


def _splits(source: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and of labels by split; those without a folder of labels too."""
    splits: dict[str, tuple[Path, Path]] = {}
    if (source / "images").is_dir():
        for name in list_folders(source / "images"):
            splits[name] = (source / "images" / name, source / "labels" / name)
    for name in list_folders(source):
        if (source / name / "images").is_dir():
            splits[name] = (source / name / "images", source / name / "labels")
    return splits


def _check_dropped(source: Path, splits: dict[str, tuple[Path, Path]]) -> None:
    """Take out the splits without a folder of labels, which are counted; refuse where another name is meant."""
    unlabelled = {name: images for name, (images, labels) in splits.items() if not labels.is_dir()}
    of_no_split = set(list_folders(source / "labels") if (source / "labels").is_dir() else ()) - set(splits)
    for name, images in unlabelled.items():
        if of_no_split:
            others = ", ".join(f"labels/{other}" for other in sorted(of_no_split))
            raise DataError(
                f"{splits[name][1]}: there is no such folder, but {others} without images; give both the same name"
            )
        count = len(list_files(images, SUFFIXES).names)
        _logger.warning("%s: %d images without a folder %s, not converted", images, count, splits.pop(name)[1])
    if not splits:
        raise DataError(f"{source}: no split has a folder of labels")
    if of_no_split:
        _logger.warning("%s: folders of labels without images: %s", source / "labels", shown(sorted(of_no_split)))


def _document(source: Path, images: Path, labels: Path, names: Sequence[str]) -> dict[str, Any]:
    listing, texts = list_files(images, SUFFIXES), list_files(labels, (".txt",))
    for listed in (listing, texts):
        listed.warn_of_passed_over()
    files, text_of = listing.by_stem(), texts.by_stem()
    if not files:
        raise DataError(f"{images}: holds no image")
    _check_pairs(images, labels, files, text_of)
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    bad: list[str] = []
    for number, (stem, file) in enumerate(files.items(), start=1):
        height, width = image_size(images / file)
        relative = (images / file).relative_to(source).as_posix()
        pictures.append({"id": number, "file_name": relative, "width": width, "height": height})
        for label, x, y, w, h in _boxes(labels / text_of[stem], labels, len(names), bad) if stem in text_of else ():
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            record = {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": box}
            annotations.append(record | {"area": box[2] * box[3], "iscrowd": 0})
    if bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise AnnotationError("; ".join(bad[:_SHOWN]) + more + "; correct these lines and convert again")
    _logger.info("%s: %d images, %d boxes, of which all train", images, len(pictures), len(annotations))
    categories = [{"id": index, "name": name} for index, name in enumerate(names, start=1)]
    return {"images": pictures, "annotations": annotations, "categories": categories}


def _check_pairs(images: Path, labels: Path, files: Mapping[str, str], text_of: Mapping[str, str]) -> None:
    """Count images without a text file, and text files without an image; refuse where none belongs to any image."""
    lone_texts = [text for stem, text in text_of.items() if stem not in files and stem.rpartition("/")[2] not in _NOTES]
    lone_images = [file for stem, file in files.items() if stem not in text_of]
    if len(lone_images) == len(files):
        raise DataError(
            f"{labels}: none of its {len(text_of)} text files ({shown(list(text_of.values()))}) has the name of one of "
            f"the {len(files)} images in {images} ({shown(lone_images)}), folders included; an empty text file says "
            "that an image has no object"
        )
    if lone_images:
        text = "%s: images without a text file, taken as images without an object: %d of %d (%s)"
        _logger.warning(text, images, len(lone_images), len(files), shown(lone_images))
    if lone_texts:
        text = "%s: text files without an image of their name, left out: %d (%s); name each as its image, with .txt"
        _logger.warning(text, labels, len(lone_texts), shown(lone_texts))


def _boxes(path: Path, root: Path, num_classes: int, bad: list[str]) -> list[_Box]:
    """The boxes of one image; what is wrong with a line is added to ``bad``."""
    boxes = []
    try:
        lines = read_text(path, what="list of boxes", root=root).splitlines()
    except AnnotationError as error:
        bad.append(str(error))
        return []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        box = _box(line, num_classes)
        if isinstance(box, str):
            bad.append(f"{path}:{number}: {box}")
        else:
            boxes.append(box)
    return boxes


def _box(line: str, num_classes: int) -> _Box | str:
    """A line's box, or what is wrong with it."""
    fields = line.split()
    if len(fields) != 5:
        return f"{len(fields)} values where a box has 5 (class x y width height)"
    try:
        label, (x, y, w, h) = int(fields[0]), map(float, fields[1:])
    except ValueError:
        return f"{line.strip()[:60]!r} is not a whole number and four numbers"
    if not 0 <= label < num_classes:
        return f"class {label} is not among the {num_classes} of data.yaml, counted from 0"
    if not all(math.isfinite(value) and -_ROUNDING <= value <= 1 + _ROUNDING for value in (x, y, w, h)):
        return "a value is not in 0 to 1: fractions of the picture are needed, no pixels"
    if w <= 0 or h <= 0:
        return "the box has no area"
    return label, x, y, w, h
