"""Which label a class has: by category id, or by a network's class names.

Slots by category id are as TensorFlow's and torchvision's COCO detectors have them: 91 for COCO's 80 classes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mbvision.data.boxes import BoxReader
from mbvision.errors import DataError
from mbvision.structures import BoxAnnotations


def by_category_id(annotations: BoxAnnotations) -> BoxAnnotations:
    """The same boxes with label = category id - 1; ids without a class get an empty slot named ``unused_ID``."""
    ids = annotations.category_ids
    names = dict(zip(ids, annotations.class_names, strict=True))
    slots = range(1, max(ids, default=0) + 1)
    return replace(
        annotations,
        class_names=tuple(names.get(slot, f"unused_{slot}") for slot in slots),
        category_ids=tuple(slots),
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
    if missing := [name for name in own if name not in names]:
        raise DataError(f"the network does not know the data set's classes {missing}; its classes are {list(names)}")
    place = np.array([list(names).index(name) for name in own], dtype=np.int64)
    ids = dict(zip(own, annotations.category_ids, strict=True))
    unused = iter(i for i in range(1, len(names) + max(ids.values(), default=0) + 1) if i not in ids.values())
    return reader.relabelled(
        replace(
            annotations,
            class_names=tuple(names),
            category_ids=tuple(ids[name] if name in ids else next(unused) for name in names),
            labels=place[annotations.labels],
        )
    )
