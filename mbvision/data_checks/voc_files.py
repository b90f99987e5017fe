"""Pascal VOC has a file a picture: when one stops the reader, the others are looked at too."""

from pathlib import Path

from mbvision.data.voc_layout import find_items
from mbvision.data.voc_xml import parse_voc_xml
from mbvision.errors import AnnotationError


def unreadable_files(root: Path, split: str, images: Path | None) -> list[str]:
    """The message of every file of a split that cannot be parsed; none where the fault lies elsewhere."""
    try:
        items, _ = find_items(root, split, images)
    except AnnotationError:
        return []
    messages = []
    for item in items:
        try:
            parse_voc_xml(item.xml)
        except AnnotationError as error:
            messages.append(str(error))
    return messages
