"""Data sets side by side: boxes and masks of the same pictures, and sets with different labels one after the other."""

import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from mbvision.data.base import Reader
from mbvision.data.boxes import BoxReader
from mbvision.data.file_listing import real_path
from mbvision.data.masks import MaskReader
from mbvision.errors import ConfigError
from mbvision.structures import (
    AttributeAnnotations,
    BoxAnnotations,
    IdentityAnnotations,
    LabelAnnotations,
    MaskAnnotations,
    Sample,
)

ImageId = int | str
_logger = logging.getLogger(__name__)


class JointReader(Reader):
    """The pictures of both readers, each once, decoded once: those with boxes first, in their order.

    A picture which only one of the two lists has None for the other's labels. Its image id is the one of the boxes,
    else the one of the mask, with ``mask/`` in front where the boxes use that id for another picture.
    """

    def __init__(self, boxes: BoxReader, masks: MaskReader) -> None:
        self.class_names: Mapping[str, Sequence[str]] = {**boxes.class_names, **masks.class_names}
        self._boxes, self._masks = boxes, masks
        mask_at = {real_path(masks.path(index)): index for index in range(len(masks))}
        pairs = [(index, mask_at.pop(real_path(boxes.path(index)), None)) for index in range(len(boxes))]
        self._pairs: list[tuple[int | None, int | None]] = [*pairs, *((None, index) for index in mask_at.values())]
        if not any(mask is not None for _, mask in pairs):
            _logger.warning("%s: no picture of this folder has boxes and a mask", boxes.path(0).parent)
        taken = set(boxes.annotations.image_ids)
        ids = list(masks.annotations.image_ids)
        for box, mask in self._pairs:
            if mask is not None and box is not None:
                ids[mask] = boxes.annotations.image_ids[box]
            elif mask is not None and ids[mask] in taken:
                ids[mask] = f"mask/{ids[mask]}"
        self._mask_annotations = replace(masks.annotations, image_ids=tuple(ids))

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def truth(self) -> Mapping[str, Any]:
        """The boxes and the masks, with the image ids of the samples."""
        return {"detection": self._boxes.annotations, "segmentation": self._mask_annotations}

    @property
    def parts(self) -> tuple[Reader, ...]:
        """The readers of boxes and of masks."""
        return self._boxes, self._masks

    def path(self, index: int) -> Path:
        """The file of one picture."""
        box, mask = self._pairs[index]
        return self._boxes.path(box) if box is not None else self._masks.path(_present(mask))

    def read(self, index: int) -> Sample:
        """The picture with the labels that it has; raises ``ImageError`` or ``AnnotationError``."""
        box, mask = self._pairs[index]
        if box is None:
            mask = _present(mask)
            return _with_id(self._masks.read(mask), self._mask_annotations.image_ids[mask])
        sample = self._boxes.read(box)
        if mask is None:
            return sample
        height, width = sample.image.shape[:2]
        labels = torch.from_numpy(self._masks.mask(mask, (height, width)))
        return replace(sample, target=replace(sample.target, mask=labels))


class MixedReader(Reader):
    """Several data sets, one after the other; each task is labelled in one of them alone.

    The set with boxes keeps its image ids. Another set which shares an id with a set before it, or with that one, gets
    its position and ``/`` in front of its ids.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = tuple(readers)
        self._ends = list(accumulate(len(reader) for reader in self._readers))
        self._owner = _owners(self._readers)
        self.class_names: Mapping[str, Sequence[str]] = {
            task: self._readers[position].class_names[task] for task, position in self._owner.items()
        }
        self._prefixes = _prefixes(self._readers, first=self._owner.get("detection", 0))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def truth(self) -> Mapping[str, Any]:
        """What each task is scored against: that of the set which is labelled for it."""
        truths = {}
        for task, position in self._owner.items():
            annotations = self._readers[position].truth[task]
            prefix = self._prefixes[position]
            if prefix:
                annotations = replace(annotations, image_ids=tuple(f"{prefix}{i}" for i in annotations.image_ids))
            truths[task] = annotations
        return truths

    @property
    def parts(self) -> tuple[Reader, ...]:
        """The readers of the sets."""
        return self._readers

    def path(self, index: int) -> Path:
        """The file of one image."""
        position, place = self._place(index)
        return self._readers[position].path(place)

    def _place(self, index: int) -> tuple[int, int]:
        """The set that this position falls in, and where it is there."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        position = bisect_right(self._ends, index)
        return position, index - (self._ends[position] - len(self._readers[position]))

    def read(self, index: int) -> Sample:
        """A sample of the set that this position falls in."""
        position, place = self._place(index)
        sample = self._readers[position].read(place)
        prefix = self._prefixes[position]
        return _with_id(sample, f"{prefix}{sample.target.image_id}") if prefix else sample


def _owners(readers: Sequence[Reader]) -> dict[str, int]:
    """Which set is labelled for each task."""
    owner: dict[str, int] = {}
    for position, reader in enumerate(readers):
        for task in reader.class_names:
            if task in owner:
                raise ConfigError(
                    f"sets {owner[task] + 1} and {position + 1} of {len(readers)} ({_describe(readers[owner[task]])}; "
                    f"{_describe(reader)}) are both labelled for {task}; name that task in one of them only"
                )
            owner[task] = position
    return owner


def _describe(reader: Reader) -> str:
    tasks = ", ".join(f"{task}: {len(names)} classes" for task, names in reader.class_names.items())
    return f"{len(reader)} pictures with {tasks}"


def _prefixes(readers: Sequence[Reader], *, first: int) -> list[str]:
    """What goes in front of the image ids of each set so that none is used twice; nothing for the set ``first``."""
    prefixes = [""] * len(readers)
    taken: set[ImageId] = set()
    for position in sorted(range(len(readers)), key=lambda position: position != first):
        ids = _image_ids(readers[position])
        if taken & ids:
            prefixes[position] = f"{position + 1}/"
            ids = {f"{position + 1}/{image_id}" for image_id in ids}
        taken |= ids
    return prefixes


def _image_ids(reader: Reader) -> set[ImageId]:
    ids: set[ImageId] = set()
    for annotations in reader.truth.values():
        if isinstance(
            annotations,
            AttributeAnnotations | BoxAnnotations | IdentityAnnotations | LabelAnnotations | MaskAnnotations,
        ):
            ids |= set(annotations.image_ids)
    return ids


def _with_id(sample: Sample, image_id: ImageId) -> Sample:
    return replace(sample, target=replace(sample.target, image_id=image_id))


def _present(index: int | None) -> int:
    assert index is not None, "a picture has boxes or a mask"
    return index
