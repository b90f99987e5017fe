"""Turns a YOLO text data set (``data.yaml``, a text file of boxes for each picture) into COCO instances files.

A line is ``class x y width height``: the class from 0, centre and size of the box in fractions of the upright picture.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mbvision.data.image_kinds import SUFFIXES
from mbvision.data.images import image_size
from mbvision.data.yaml_files import read_mapping
from mbvision.errors import AnnotationError, DataError, is_printable
from mbvision.files import read_text

_SHOWN = 10
_ROUNDING = 1e-3  # writers round to three or more decimals, so that 1 becomes 1.0005

_Box = tuple[int, float, float, float, float]


def convert_yolo(source: Path, root: Path) -> dict[str, Path]:
    """Write ``ROOT/annotations/instances_SPLIT.json`` for every split of ``source``; returns them by split.

    Splits are ``images/SPLIT`` with ``labels/SPLIT``, or ``SPLIT/images`` with ``SPLIT/labels``. The pictures stay
    where they are (``data.images=SOURCE``). Category ids are the YOLO classes plus 1, image ids count from 1; a picture
    without a text file has no object. Nothing is written if a line is bad: ``AnnotationError`` names the first ones as
    ``file:line``.
    """
    names = _class_names(source / "data.yaml")
    splits = _splits(source)
    if not splits:
        raise DataError(f"{source}: neither images/SPLIT with labels/SPLIT nor SPLIT/images with SPLIT/labels is there")
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
    names = read_mapping(path, what="data.yaml, which tells the names of the classes").get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: names must be a list of class names, or a mapping from 0, 1, 2, ... to them")
    texts = [str(name).strip() for name in names]
    if len(set(texts)) < len(texts):
        raise DataError(f"{path}: names holds a class twice")
    if wrong := [text for text in texts if not text or not is_printable(text)]:
        raise DataError(f"{path}: names holds {wrong[0][:40]!r}, which is no name")
    return texts


def _splits(source: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of pictures and of labels by split."""
    found = {}
    for folder in sorted(path for path in source.glob("images/*") if path.is_dir()):
        found[folder.name] = (folder, source / "labels" / folder.name)
    for folder in sorted(path for path in source.glob("*/images") if path.is_dir()):
        found[folder.parent.name] = (folder, folder.parent / "labels")
    return {split: folders for split, folders in found.items() if folders[1].is_dir()}


def _document(source: Path, images: Path, labels: Path, names: Sequence[str]) -> dict[str, Any]:
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{images}: holds no picture")
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    bad: list[str] = []
    for number, file in enumerate(files, start=1):
        height, width = image_size(file, root=images)
        relative = file.relative_to(images)
        pictures.append(
            {"id": number, "file_name": file.relative_to(source).as_posix(), "width": width, "height": height}
        )
        for label, x, y, w, h in _boxes(labels / relative.with_suffix(".txt"), labels, len(names), bad):
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            record = {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": box}
            annotations.append(record | {"area": box[2] * box[3], "iscrowd": 0})
    if bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise AnnotationError("; ".join(bad[:_SHOWN]) + more + "; correct these lines and convert again")
    categories = [{"id": index, "name": name} for index, name in enumerate(names, start=1)]
    return {"images": pictures, "annotations": annotations, "categories": categories}


def _boxes(path: Path, root: Path, num_classes: int, bad: list[str]) -> list[_Box]:
    """The boxes of one picture; what is wrong with a line is added to ``bad``."""
    if not path.exists():
        return []
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
