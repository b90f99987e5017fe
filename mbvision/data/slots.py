"""Which label a class has: by category id, or by a network's class names.

Slots by category id are as TensorFlow's and torchvision's COCO detectors have them: 91 for COCO's 80 classes.
A class that the data set lacks has a negative category id: it is never written to results.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mbvision.data.boxes import BoxReader
from mbvision.data.voc_masks import VOC_MASK_CLASSES
from mbvision.errors import ConfigError, DataError
from mbvision.structures import BoxAnnotations

MOST_SLOTS = 10_000
"""More class slots than that are a mistake: the head grows with each."""


def by_category_id(annotations: BoxAnnotations) -> BoxAnnotations:
    """The same boxes with label = category id - 1; ids without a class get an empty slot named ``unused_ID``."""
    ids = annotations.category_ids
    if ids and not (min(ids) >= 1 and max(ids) <= MOST_SLOTS):
        raise ConfigError(
            f"class_slots=category_ids needs ids from 1 to {MOST_SLOTS}; this data set has {min(ids)} to {max(ids)}:"
            " use class_slots=contiguous"
        )
    names = dict(zip(ids, annotations.class_names, strict=True))
    slots = range(1, max(ids, default=0) + 1)
    return replace(
        annotations,
        class_names=tuple(names.get(slot, f"unused_{slot}") for slot in slots),
        category_ids=tuple(slot if slot in names else -slot for slot in slots),
        labels=np.asarray(ids, dtype=np.int64)[annotations.labels] - 1,
    )


def with_class_order(reader: BoxReader, names: Sequence[str]) -> BoxReader:
    """The reader with its labels in the order of a network's class names.

    The network may know more classes than the data set. Raises `DataError` if it lacks one of the data set's.
    """
    annotations = reader.annotations
    own = annotations.class_names
    if own == tuple(names):
        return reader
    used = set(annotations.labels.tolist())
    if missing := [name for label, name in enumerate(own) if name not in names and label in used]:
        raise DataError(f"the network does not know the data set's classes {missing}; its classes are {list(names)}")
    where = {name: label for label, name in enumerate(names)}
    place = np.array([where.get(name, 0) for name in own], dtype=np.int64)
    ids = dict(zip(own, annotations.category_ids, strict=True))
    return reader.relabelled(
        replace(
            annotations,
            class_names=tuple(names),
            category_ids=tuple(ids.get(name, -label) for label, name in enumerate(names, start=1)),
            labels=place[annotations.labels],
        )
    )


def check_same_classes(own: Sequence[str], names: Sequence[str]) -> None:
    """Raise `DataError` unless a data set's mask classes are a network's, in the same order."""
    if list(own) != list(names):
        of_coco = "; for COCO's own set data.readers.segmentation.classes=voc"
        raise DataError(
            f"the data set's mask classes are {list(own)}, the network's {list(names)}: they must be the same"
            + (of_coco if tuple(names) == VOC_MASK_CLASSES else "")
        )
