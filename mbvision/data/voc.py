"""Pascal VOC boxes: XML files, checked once and kept as flat arrays. Boxes become 0-based ``x y w h`` in float64."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mbvision.data.boxes import BoxColumns, BoxReader, PictureList, assemble, warn_of_boxes
from mbvision.data.images import MAX_PIXELS, image_size
from mbvision.data.voc_layout import VocItem, find_items, sibling_files, year_items
from mbvision.data.voc_xml import VocFile, parse_voc_xml
from mbvision.errors import AnnotationError
from mbvision.structures import BoxAnnotations

_logger = logging.getLogger(__name__)

# fmt: off
VOC_CLASSES = (  # doi:10.1007/s11263-009-0275-4, table 1, in the development kit's order
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


def voc(
    *,
    root: str | Path,
    split: str,
    images: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> BoxReader:
    """A split of a VOC data set: a devkit or its parent, one year of it, or a user's folder of the same shape.

    ``split`` is ``train``, or names years: ``VOC2007/trainval+VOC2012/trainval``. A folder ``ROOT/SPLIT`` of XML files
    with the pictures beside them does as well. ``images`` overrides where the pictures are looked for. Classes are
    those of ``load_voc``.
    """
    items, siblings = find_items(Path(root), split, None if images is None else Path(images))
    table = load_items(items, siblings, source=f"{root} {split}", class_names=class_names)
    return BoxReader(annotations=table, images=[item.folder for item in items], max_pixels=max_pixels)


def read_voc(root: str | Path, split: str) -> BoxReader:
    """A split of a VOC data set; see ``voc``. ``reader.skipped`` lists what was left out or repaired."""
    return voc(root=root, split=split)


def load_voc(devkit_year_folder: Path, split: str, *, class_names: Sequence[str] | None = None) -> BoxAnnotations:
    """The boxes of the pictures in ``ImageSets/Main/SPLIT.txt``; image ids are file stems, annotations count from 1.

    Classes are ``class_names`` where given; else the official 20 if all names in the XML files of all splits are among
    them; else those names sorted, so that every split has the same labels. Areas are width times height. A size that
    is missing is read from the picture. Raises ``DataError``, or ``AnnotationError`` which names the file.
    """
    items = year_items(devkit_year_folder, split)
    siblings = sibling_files(devkit_year_folder)
    return load_items(items, siblings, source=f"{devkit_year_folder} {split}", class_names=class_names)


def load_items(
    items: Sequence[VocItem], siblings: Iterable[Path], *, source: str, class_names: Sequence[str] | None = None
) -> BoxAnnotations:
    """The boxes of these files, as `load_voc` gives them; ``source`` names them in warnings."""
    files = [parse_voc_xml(item.xml) for item in items]
    if class_names is None:
        class_names = _class_names(files, set(siblings) - {item.xml for item in items})
    pictures = PictureList(
        ids=tuple(item.image_id for item in items),
        file_names=tuple(item.file_name for item in items),
        sizes=np.array(
            [file.size or image_size(item.folder / item.file_name) for item, file in zip(items, files, strict=True)],
            dtype=np.int64,
        ),
    )
    boxes = _columns(items, files, class_names, source)
    category_ids = range(1, len(class_names) + 1)
    return assemble(source=source, class_names=class_names, category_ids=category_ids, pictures=pictures, boxes=boxes)


def _class_names(files: Iterable[VocFile], others: Iterable[Path]) -> tuple[str, ...]:
    """A file of another split that cannot be read is left to the reading of that split to name."""
    names = {thing.name for file in files for thing in file.objects}
    for path in others:
        try:
            names |= {thing.name for thing in parse_voc_xml(path).objects}
        except AnnotationError:
            continue
    if names <= set(VOC_CLASSES):
        return VOC_CLASSES
    if names & set(VOC_CLASSES):  # perhaps a misspelt one
        _logger.warning(
            "%s: not among Pascal VOC's classes, so those of the XML files are taken", sorted(names - set(VOC_CLASSES))
        )
    return tuple(sorted(names))


def _columns(items: Sequence[VocItem], files: Sequence[VocFile], class_names: Sequence[str], source: str) -> BoxColumns:
    label = {name: index for index, name in enumerate(class_names)}
    rows, labels, xywh, difficult, numbers = [], [], [], [], []
    without_box, swapped = [], []
    for row, (item, file) in enumerate(zip(items, files, strict=True)):
        for number, thing in enumerate(file.objects):
            if thing.name not in label:
                raise AnnotationError(
                    f"{item.xml}: object[{number}].name {thing.name!r} is not among the classes {list(class_names)}"
                )
            if thing.box is None:
                without_box.append(f"object[{number}] in {item.xml.name}")
                continue
            if thing.swapped:
                swapped.append(f"object[{number}] in {item.xml.name}")
            rows.append(row)
            labels.append(label[thing.name])
            xywh.append(thing.box)
            difficult.append(thing.difficult)
            numbers.append(number)
    skipped = warn_of_boxes(source, "have no finite bndbox and are left out", without_box)
    skipped += warn_of_boxes(source, "have min and max exchanged and are put right", swapped)
    boxes = np.array(xywh, dtype=np.float64).reshape(-1, 4)
    with np.errstate(over="ignore"):
        areas = boxes[:, 2] * boxes[:, 3]
    return BoxColumns(
        pictures=np.array(rows, dtype=np.int64),
        xywh=boxes,
        labels=np.array(labels, dtype=np.int64),
        areas=areas,
        crowd=np.zeros(len(boxes), dtype=bool),
        difficult=np.array(difficult, dtype=bool),
        ids=np.arange(1, len(boxes) + 1),
        object_numbers=np.array(numbers, dtype=np.int64),
        skipped=tuple(skipped),
    )
