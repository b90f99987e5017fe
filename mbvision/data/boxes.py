"""Boxes with their pictures: the flat table of a whole data set, and the reader which pairs it with image files.

A table is validated once, here; the readers of the file formats only collect columns.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mbvision.data.base import Reader
from mbvision.data.images import MAX_PIXELS, read_image, stored_size
from mbvision.errors import SizeMismatchError, printable
from mbvision.structures import BoxAnnotations, Geometry, Sample, Skipped, Target

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureList:
    """The pictures of a data set, in its order; sizes are (height, width) in pixels."""

    ids: tuple[int | str, ...]
    file_names: tuple[str, ...]
    sizes: Int[np.ndarray, "I 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxColumns:
    """Boxes in any order; ``pictures`` are positions in the ``PictureList``, ``xywh`` is as in ``BoxAnnotations``."""

    pictures: Int[np.ndarray, " N"]
    xywh: Float[np.ndarray, "N 4"]
    labels: Int[np.ndarray, " N"]
    areas: Float[np.ndarray, " N"]
    crowd: Bool[np.ndarray, " N"]
    difficult: Bool[np.ndarray, " N"]
    ids: Int[np.ndarray, " N"]
    object_numbers: Int[np.ndarray, " N"] | None = None
    skipped: tuple[Skipped, ...] = ()


class Placement(NamedTuple):
    """How each box lies in its picture: of no area, with none of it inside, more than 1 pixel over the border."""

    empty: Bool[np.ndarray, " N"]
    outside: Bool[np.ndarray, " N"]
    overhang: Bool[np.ndarray, " N"]


def placement(xywh: Float[np.ndarray, "N 4"], limits: Float[np.ndarray, "N 2"]) -> Placement:
    """Compare boxes with the (width, height) of their pictures; a box has one fault at most."""
    empty = np.asarray((xywh[:, 2:] <= 0).any(axis=1))
    with np.errstate(over="ignore"):  # the far side of a box of 1e308 is infinite, and so over the border
        far = xywh[:, :2] + xywh[:, 2:]
    # As training_boxes gives them: float32, so what is narrower than that resolves has no area either.
    starts, ends = xywh[:, :2].clip(0, limits).astype(np.float32), far.clip(0, limits).astype(np.float32)
    outside = ~empty & (ends <= starts).any(axis=1)
    over = ((xywh[:, :2] < -1) | (far > limits + 1)).any(axis=1)
    return Placement(empty, outside, ~empty & ~outside & over)


def assemble(
    *, source: str, class_names: Sequence[str], category_ids: Sequence[int], pictures: PictureList, boxes: BoxColumns
) -> BoxAnnotations:
    """Sort the boxes by picture, decide which may train, and warn once per cause of what may not.

    ``source`` names the file or folder in warnings. Boxes without area and boxes outside their picture stay in the
    table, so that metrics see the same boxes as the reference tools, but do not train.
    """
    order = np.argsort(boxes.pictures, kind="stable")
    xywh = boxes.xywh[order]
    ids = boxes.ids[order]
    crowd, difficult = boxes.crowd[order], boxes.difficult[order]
    limits = pictures.sizes[boxes.pictures[order]][:, ::-1].astype(np.float64)
    empty, outside, overhang = placement(xywh, limits)
    skipped = list(boxes.skipped)
    file_names = np.array(pictures.file_names, dtype=object)[boxes.pictures[order]]
    for what, mask in (
        ("have no area and do not train", empty),
        ("lie wholly outside their picture and do not train", outside),
        ("reach more than 1 pixel over their picture and are clipped", overhang),
    ):
        skipped += warn_of_boxes(source, what, [f"{ids[row]} in {file_names[row]}" for row in np.flatnonzero(mask)])
    counts = np.bincount(boxes.pictures, minlength=len(pictures.ids))
    return BoxAnnotations(
        class_names=tuple(class_names),
        category_ids=tuple(category_ids),
        image_ids=pictures.ids,
        file_names=pictures.file_names,
        sizes=pictures.sizes,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        xywh=xywh,
        labels=boxes.labels[order],
        areas=boxes.areas[order],
        crowd=crowd,
        difficult=difficult,
        usable=~(empty | outside | crowd | difficult),
        annotation_ids=ids,
        object_numbers=None if boxes.object_numbers is None else boxes.object_numbers[order],
        skipped=tuple(skipped),
    )


def warn_of_boxes(source: str, what: str, ids: Sequence[object]) -> list[Skipped]:
    """One line for all boxes of one cause: how many, and the ids of the first three; none for none.

    All of them are returned.
    """
    if ids:
        shown = printable(", ".join(str(item)[:100] for item in ids[:3])) + (", ..." if len(ids) > 3 else "")
        _logger.warning("%s: boxes that %s: %d (annotation ids %s)", source, what, len(ids), shown)
    return [Skipped(f"annotation {item}", what) for item in ids]


class BoxReader(Reader):
    """Box annotations and the folder, or one folder for each picture, where the pictures lie.

    A picture whose size is not the annotated one is refused, unless its *stored* size (before EXIF orientation) is:
    then the boxes were drawn on the stored picture, which is read as it is.
    """

    def __init__(
        self, *, annotations: BoxAnnotations, images: Path | Sequence[Path], max_pixels: int = MAX_PIXELS
    ) -> None:
        self.annotations = annotations
        self.class_names: Mapping[str, Sequence[str]] = {"detection": annotations.class_names}
        self._folders = [images] * len(annotations) if isinstance(images, Path) else images
        self._max_pixels = max_pixels
        self._warned_of_orientation = False

    def __len__(self) -> int:
        return len(self.annotations)

    @property
    def truth(self) -> Mapping[str, BoxAnnotations]:
        """The boxes of all pictures."""
        return {"detection": self.annotations}

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What of the annotations was left out or repaired, each by name."""
        return self.annotations.skipped

    def relabelled(self, annotations: BoxAnnotations) -> "BoxReader":
        """The same pictures with other labels: ``annotations`` differ in classes and labels alone."""
        return BoxReader(annotations=annotations, images=self._folders, max_pixels=self._max_pixels)

    def path(self, index: int) -> Path:
        """The file of one picture."""
        return self._folders[index] / self.annotations.file_names[index]

    def read(self, index: int) -> Sample:
        """The picture with the boxes that may train; raises ``ImageError``, or ``AnnotationError`` on a wrong size."""
        path = self.path(index)
        height, width = (int(side) for side in self.annotations.sizes[index])
        image = read_image(path, root=self._folders[index], max_pixels=self._max_pixels)
        if image.shape[:2] != (height, width):
            image = self._read_stored(index, image, (height, width))
        boxes, labels = self.annotations.training_boxes(index)
        target = Target(
            image_id=self.annotations.image_ids[index],
            geometry=Geometry(original=(height, width)),
            boxes=boxes,
            box_labels=labels,
        )
        return Sample(image=image, target=target, path=str(path))

    def _read_stored(
        self, index: int, upright: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
    ) -> UInt8[np.ndarray, "H2 W2 3"]:
        """The picture without its EXIF orientation, where that is what the annotation describes."""
        path, root = self.path(index), self._folders[index]
        if stored_size(path, root=root) != size:
            raise SizeMismatchError(
                f"{path}: the picture is {upright.shape[1]}x{upright.shape[0]}, its annotation says "
                f"{size[1]}x{size[0]}; correct the annotation, or check data.images="
            )
        if not self._warned_of_orientation:
            self._warned_of_orientation = True
            _logger.warning(
                "%s: annotated as it is stored, not as its EXIF orientation shows it; this and all such pictures are "
                "read unrotated",
                path,
            )
        return read_image(path, root=root, max_pixels=self._max_pixels, upright=False)
