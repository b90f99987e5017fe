"""Annotation files by themselves: COCO's without pictures, and VOC's one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbvision.data.boxes import BoxReader
from mbvision.data.coco import load_coco
from mbvision.data.coco_layout import find_annotations, find_images
from mbvision.data.images import image_size
from mbvision.data.voc import load_items
from mbvision.data.voc_layout import VocItem, find_items
from mbvision.data.voc_xml import parse_voc_xml
from mbvision.errors import AnnotationError, DataError, ImageError


def coco_boxes(data: Mapping[str, Any], split: str) -> BoxReader:
    """The boxes of a split with its images where there are any; else none can be read. Raises ``DataError``.

    ``data`` has the keys ``root`` and ``images``.
    """
    file = find_annotations(Path(data["root"]), split)
    table = load_coco(file)
    try:
        folder = find_images(Path(data["root"]), split, file, table.file_names, data["images"])
    except DataError:  # annotations can be checked before there are images
        folder = file / "no images"
    return BoxReader(annotations=table, images=folder)


def readable_voc(root: Path, split: str, images: Path | None) -> tuple[BoxReader | None, list[str]]:
    """The boxes of the VOC files of a split that can be read, None where none can, and what the others raise."""
    items, siblings = find_items(root, split, images)
    good: list[VocItem] = []
    messages: list[str] = []
    for item in items:
        try:
            if parse_voc_xml(item.xml).size is None:
                image_size(item.folder / item.file_name)
        except AnnotationError as error:
            messages.append(str(error))
        except ImageError as error:
            messages.append(f"{item.xml}: tells no size, and the picture does not either: {error}")
        else:
            good.append(item)
    if not good or not messages:
        return None, messages
    table = load_items(good, siblings, source=f"{root} {split}")
    return BoxReader(annotations=table, images=[item.folder for item in good]), messages
