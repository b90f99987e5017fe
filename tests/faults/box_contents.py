"""What a reader of boxes gives, as plain lists."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Found:
    """What a reader of boxes gave."""

    boxes: list[list[list[float]]]
    labels: list[list[int]]
    names: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)


def found(reader: Any) -> Found:
    """All pictures of a reader, read."""
    targets = [reader.read(index).target for index in range(len(reader))]
    return Found(
        boxes=[target.boxes.tolist() for target in targets],
        labels=[target.box_labels.tolist() for target in targets],
        names=list(reader.class_names["detection"]),
        skipped=[tuple(one) for one in reader.skipped],
    )
