"""One Pascal VOC annotation file, parsed by defusedxml: sizes are (height, width), boxes 0-based ``x y w h``."""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from mbvision.errors import AnnotationError, is_printable
from mbvision.files import read_bytes

MAX_XML_BYTES = 4 * 1024**2
"""Official files have about 1 kB; 4 MiB leaves room for ten thousand objects."""

MAX_DEPTH = 20
"""Official files reach 5: annotation, object, part, bndbox, xmin."""

_SIDES = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One annotated object; ``box`` is None where the file has none, ``swapped`` where its corners were exchanged."""

    name: str
    box: tuple[float, float, float, float] | None
    difficult: bool
    swapped: bool


class VocFile(NamedTuple):
    """One XML file; ``size`` is None where it is missing or zero."""

    size: tuple[int, int] | None
    objects: list[VocObject]


def parse_voc_xml(path: Path) -> VocFile:
    """Read one file; raises ``AnnotationError`` for what is not a plain VOC annotation.

    VOC counts pixels from 1 and includes the last one, so ``xmin 1, xmax 1`` is a box of width 1 at 0. The parts of a
    person have names and boxes of their own, so only direct children of an object count. Exchanged corners (``xmin``
    above ``xmax``) are put right.
    """
    root = _root(path)
    objects = [_object(path, index, node) for index, node in enumerate(root.findall("object"))]
    return VocFile(size=_size(root.find("size")), objects=objects)


def _root(path: Path) -> Element:
    text = read_bytes(
        path, what="VOC annotation", remedy="check the split file", root=path.parent, max_bytes=MAX_XML_BYTES
    )
    try:
        root: Element = fromstring(text, forbid_dtd=True)
    except DefusedXmlException as error:
        raise AnnotationError(f"{path}: has a document type or entities, which are refused; remove them") from error
    except (ParseError, ValueError, LookupError) as error:  # the latter two: encodings
        raise AnnotationError(f"{path}: not valid XML ({error}); perhaps cut short: copy it anew") from error
    if root.tag != "annotation":
        raise AnnotationError(
            f"{path}: its root element is <{root.tag}>, a VOC file's is <annotation> and no namespace"
        )
    _check_depth(path, root)
    return root


def _check_depth(path: Path, root: Element) -> None:
    level, depth = list(root), 1
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise AnnotationError(f"{path}: nested more than {MAX_DEPTH} deep, which no picture's annotation needs")
        level = [child for node in level for child in node]


def _size(node: Element | None) -> tuple[int, int] | None:
    if node is None:
        return None
    try:
        height, width = int(float(node.findtext("height", "0"))), int(float(node.findtext("width", "0")))
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _object(path: Path, index: int, node: Element) -> VocObject:
    name = node.findtext("name", "").strip()
    if not name:
        raise AnnotationError(f"{path}: object[{index}].name is missing or empty")
    if not is_printable(name):
        raise AnnotationError(f"{path}: object[{index}].name {name[:40]!r} holds characters that no name has")
    # Tools leave <difficult/> empty, or write "Unspecified": the object is as good as any.
    difficult = node.findtext("difficult", "").strip().lower() in ("1", "true")
    box = node.find("bndbox")
    corners = [math.nan if box is None else _number(path, index, box, side) for side in _SIDES]
    if not all(map(math.isfinite, corners)):
        return VocObject(name, None, difficult, swapped=False)
    left, top, right, bottom = corners
    swapped = left > right or top > bottom
    left, right = min(left, right), max(left, right)
    top, bottom = min(top, bottom), max(top, bottom)
    return VocObject(name, (left - 1, top - 1, right - left + 1, bottom - top + 1), difficult, swapped)


def _number(path: Path, index: int, box: Element, side: str) -> float:
    """A coordinate, NaN where it is missing; decimals occur."""
    text = box.findtext(side)
    if text is None:
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise AnnotationError(f"{path}: object[{index}].bndbox.{side} is {text[:40]!r}, it must be a number") from error
