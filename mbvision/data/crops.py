"""The objects of the built-in scenes as pictures of their own, each with its class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from mbvision.data.boxes import BoxReader
from mbvision.data.images import MAX_PIXELS
from mbvision.data.labels import LabelReader, class_places
from mbvision.data.scenes import scenes
from mbvision.data.transforms.window import FILL
from mbvision.structures import BoxAnnotations, Geometry, LabelAnnotations, Sample, Target


def scenes_crops(
    *,
    root: str,
    split: str,
    images: str | None = None,
    margin: float = 1.25,
    min_side: int = 16,
    max_pixels: int = MAX_PIXELS,
) -> "CropReader":
    """The crops of a split's scenes, which are drawn first if they are not there."""
    boxes = scenes(root=root, split=split, images=images, max_pixels=max_pixels)
    return CropReader(boxes=boxes, margin=margin, min_side=min_side)


class CropReader(LabelReader):
    """A square around each box that may train and is at least ``min_side`` pixels long; crowds are none of them.

    The square's side is ``margin`` times the box's longer one, so its surroundings show; what lies outside the picture
    is filled. Covered and cut off objects are among them. An id is the picture's id, ``/``, and the annotation's.
    """

    def __init__(
        self, *, boxes: BoxReader, margin: float, min_side: int, class_names: Sequence[str] | None = None
    ) -> None:
        if margin < 1 or min_side < 1:
            raise ValueError(f"margin={margin} and min_side={min_side} must be at least 1")
        own = boxes.annotations.class_names
        self.class_names: Mapping[str, Sequence[str]] = {"classification": tuple(class_names or own)}
        self._boxes, self._margin, self._min_side = boxes, margin, min_side
        self._rows = np.flatnonzero(_long_enough(boxes.annotations, min_side))
        self._pictures = np.searchsorted(boxes.annotations.offsets, self._rows, side="right") - 1
        places = class_places(own, self.class_names["classification"], "the scenes")
        self._labels: Int[np.ndarray, " I"] = places[boxes.annotations.labels[self._rows]]
        self._last: tuple[int, Sample] | None = None  # crops in a row come from one picture, unless they are shuffled

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def truth(self) -> Mapping[str, Any]:
        """The labels of all crops."""
        annotations = LabelAnnotations(
            class_names=tuple(self.class_names["classification"]),
            image_ids=tuple(self._image_id(index) for index in range(len(self))),
            labels=self._labels,
        )
        return {"classification": annotations}

    def _image_id(self, index: int) -> str:
        annotations = self._boxes.annotations
        return f"{annotations.image_ids[self._pictures[index]]}/{annotations.annotation_ids[self._rows[index]]}"

    def path(self, index: int) -> Path:
        """The file of the picture that the crop is from."""
        return self._boxes.path(int(self._pictures[index]))

    def read(self, index: int) -> Sample:
        """The crop with its label; raises ``ImageError`` or ``AnnotationError`` where its picture cannot be used."""
        picture = int(self._pictures[index])
        if self._last is None or self._last[0] != picture:
            self._last = (picture, self._boxes.read(picture))
        whole = self._last[1]
        crop = square_around(whole.image, self._boxes.annotations.xywh[self._rows[index]], self._margin)
        target = Target(
            image_id=self._image_id(index),
            geometry=Geometry(original=(crop.shape[0], crop.shape[1])),
            label=int(self._labels[index]),
        )
        return Sample(image=crop, target=target, path=whole.path)

    def with_class_order(self, names: Sequence[str]) -> "CropReader":
        """The same crops with the labels that ``names`` give their classes."""
        if tuple(names) == tuple(self.class_names["classification"]):
            return self
        return CropReader(boxes=self._boxes, margin=self._margin, min_side=self._min_side, class_names=names)


def _long_enough(annotations: BoxAnnotations, min_side: int) -> np.ndarray:
    return np.asarray(annotations.usable & (annotations.xywh[:, 2:].max(axis=1, initial=0) >= min_side))


def square_around(image: UInt8[np.ndarray, "H W 3"], xywh: np.ndarray, margin: float) -> UInt8[np.ndarray, "S S 3"]:
    """The square of ``margin`` times a box's longer side around its centre; what is not in the picture is filled."""
    side = max(round(float(margin * xywh[2:].max())), 1)
    left, top = (round(float(centre - side / 2)) for centre in xywh[:2] + xywh[2:] / 2)
    height, width = image.shape[:2]
    crop = np.empty((side, side, 3), dtype=np.uint8)
    crop[:] = FILL
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x1 < x2 and y1 < y2:
        crop[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
    return crop
