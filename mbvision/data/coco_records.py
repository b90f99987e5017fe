"""The lists of records in a COCO file, checked for what every reader of them needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mbvision.errors import AnnotationError

Record = dict[str, Any]


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


def check_unique(path: Path, values: Sequence[int | str], where: str, key: str) -> None:
    """Raise ``AnnotationError`` naming the first record whose value another one has too."""
    if len(set(values)) == len(values):
        return
    seen: set[int | str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise AnnotationError(f"{path}: {where}[{index}].{key} {value!r} is there twice; make it unique")
        seen.add(value)
