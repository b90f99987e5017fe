"""Which of a COCO file's categories are classes, and the labels that they have."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mbvision.data.coco_records import Record, check_unique, column
from mbvision.errors import AnnotationError, is_printable

_ROOT_GROUPS = (None, "", "none")
"""What Roboflow's category 0 has for a ``supercategory``: it is the group of the others."""
_BACKGROUND = ("background", "_background_", "__background__")
_logger = logging.getLogger(__name__)


def real_categories(path: Path, categories: list[Record], annotations: list[Record]) -> list[Record]:
    """The categories without the one of id 0 that some exporters put in front, which no object has.

    It is the background, or a group that the ``supercategory`` of the others names. Any other category 0 is a class.
    """
    first = next((record for record in categories if record.get("id") == 0), None)
    if first is None or len(categories) == 1 or any(record.get("category_id") == 0 for record in annotations):
        return categories
    name = first.get("name")
    is_group = first.get("supercategory") in _ROOT_GROUPS and any(
        record.get("supercategory") == name for record in categories if record is not first
    )
    if not is_group and not (isinstance(name, str) and name.lower() in _BACKGROUND):
        return categories
    text = "%s: category 0, %r, is left out: no object has it, and it is the background or the others' group"
    _logger.warning(text, path, name)
    return [record for record in categories if record is not first]


class ClassTable(NamedTuple):
    """Names and category ids in the order of the labels; ``unlisted`` are the file's classes that have no label."""

    names: tuple[str, ...]
    ids: tuple[int, ...]
    unlisted: dict[int, str]


def class_table(path: Path, records: list[Record], class_names: Sequence[str] | None) -> ClassTable:
    """By rising id, or as ``class_names`` has them: a class which the file lacks gets an id that is free there."""
    ids = column(path, records, "categories", "id", (int,))
    names = column(path, records, "categories", "name", (str,))
    check_unique(path, ids, "categories", "id")
    check_unique(path, names, "categories", "name")
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
