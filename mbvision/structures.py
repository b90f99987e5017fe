"""The values that travel between modules.

Conventions, stated once:

- An image is ``uint8 [H, W, 3]`` RGB in NumPy until it is collated, then ``uint8 [B, 3, H, W]`` (channels-last in
  memory); networks take ``float32 [B, 3, H, W]`` in 0..1 and normalise it themselves.
- A box is ``x1 y1 x2 y2`` in pixels of the image it is with, 0-based edges: ``x2`` and ``y2`` are exclusive, so the
  width is ``x2 - x1``.
- A label is contiguous from 0 and names a foreground class. Background exists only inside the SSD head and its loss.
- A mask is ``uint8 [H, W]``, labels with background among them; 255 means ignore.
- Sizes are ``(height, width)``; points, scales and offsets are ``(x, y)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

IGNORE = 255
"""The label of mask pixels that neither train nor score."""

FOUND = 0.5
"""An attribute whose score is at least that is taken to be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How an input image was made from the original one: ``input = original * scale + offset``."""

    original: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def to_original(self, boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
        """Map boxes from input pixels to the original image and clip them to it; float64, so nothing is rounded."""
        offset = boxes.new_tensor(self.offset * 2, dtype=torch.float64)
        scale = boxes.new_tensor(self.scale * 2, dtype=torch.float64)
        height, width = self.original
        limit = boxes.new_tensor((width, height, width, height), dtype=torch.float64)
        return ((boxes.double() - offset) / scale).clamp(min=0).minimum(limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is known about one image; what is not annotated is None.

    ``label`` is its class; ``label_shares`` is what each class has of a picture that several were mixed into, and adds
    up to 1. ``attributes`` are 1 for yes, 0 for no, and 255 where it is not known. ``identity`` says who it shows.
    """

    image_id: int | str
    geometry: Geometry
    label: int | None = None
    label_shares: Float[Tensor, " C"] | None = None
    attributes: UInt8[Tensor, " A"] | None = None
    identity: int | None = None
    boxes: Float[Tensor, "N 4"] | None = None
    box_labels: Int[Tensor, " N"] | None = None
    mask: UInt8[Tensor, "H W"] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Small tensors travel between processes as arrays: each tensor would open a file of shared memory."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        small = {name: values[name].numpy() for name in _SMALL_TENSORS if values[name] is not None}
        return _unpack_target, (values | small,)

    def to(self, device: torch.device) -> "Target":
        """The same target with its tensors on ``device``."""
        tensors = {name: getattr(self, name) for name in (*_SMALL_TENSORS, "mask")}
        moved = {name: t.to(device, non_blocking=True) for name, t in tensors.items() if t is not None}
        return replace(self, **moved)


_SMALL_TENSORS = ("label_shares", "attributes", "boxes", "box_labels")


def _unpack_target(values: dict[str, Any]) -> Target:
    small = {name: torch.from_numpy(values[name]) for name in _SMALL_TENSORS if values[name] is not None}
    return Target(**(values | small))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image and its target; ``path`` is what an error message names."""

    image: UInt8[np.ndarray, "H W 3"]
    target: Target
    path: str = ""


@dataclass(slots=True, kw_only=True)
class Batch:
    """Stacked images and their targets."""

    images: UInt8[Tensor, "B 3 H W"]
    targets: list[Target]
    paths: list[str]

    def to(self, device: torch.device) -> "Batch":
        """Move everything to ``device``: the only place where annotations change device."""
        return Batch(
            images=self.images.to(device, non_blocking=True),
            targets=[target.to(device) for target in self.targets],
            paths=self.paths,
        )

    def pin_memory(self) -> "Batch":
        """Pin the images, which are nearly all of the bytes."""
        return Batch(images=self.images.pin_memory(), targets=self.targets, paths=self.paths)

    def float_images(self) -> Float[Tensor, "B 3 H W"]:
        """The images as networks take them: float32 in 0..1."""
        return self.images.float().div_(255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """What a detector found in one image, best first."""

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """What a segmenter says of one image: logits as coarse as its head, for the whole input ``(height, width)``.

    `mbvision.masks.upsampled_labels` makes labels of them at any size.
    """

    logits: Float[Tensor, "C h w"]
    input_size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputLabels:
    """What an exported segmenter says of one image where it gives labels, not logits: those of the input's pixels."""

    labels: UInt8[np.ndarray, "H W"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeScores:
    """How probable each attribute of one picture is, in 0..1; they do not exclude one another."""

    scores: Float[Tensor, " A"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Where one picture lies among the identities: a vector of length 1; those of one identity are near."""

    vector: Float[Tensor, " D"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """What a classifier says of one image: the probability (0..1) of each class, in the order of the labels."""

    scores: Float[Tensor, " C"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelAnnotations:
    """The classes of a data set and the label of each of its images, in order."""

    class_names: tuple[str, ...]
    image_ids: tuple[int | str, ...]
    labels: Int[np.ndarray, " I"]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskScheme:
    """The classes of a data set's masks, and how its files store them.

    ``stored[label]`` is the value of a class in a file (0..255); one in ``ignored`` becomes 255, any other is an error.
    ``palette`` has its colour, for drawing alone unless ``colours_known``, and ``categories`` its group (Cityscapes).
    """

    class_names: tuple[str, ...]
    stored: tuple[int, ...]
    ignored: tuple[int, ...]
    palette: tuple[tuple[int, int, int], ...]
    categories: tuple[str, ...] | None = None
    colours_known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskAnnotations:
    """The masks of a data set without their pixels: its classes, and its images in order."""

    scheme: MaskScheme
    image_ids: tuple[int | str, ...]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeAnnotations:
    """The attributes of a data set's pictures, in the order of its images: 1 yes, 0 no, 255 not known."""

    names: tuple[str, ...]
    image_ids: tuple[int | str, ...]
    values: UInt8[np.ndarray, "I A"]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityAnnotations:
    """Who each picture of a data set shows, and which pairs of them verification compares.

    ``identities`` are places in ``names``. A row of ``pairs`` has the places of two pictures in ``image_ids``; ``same``
    says whether they show one identity, ``folds`` which part of a cross-validation the pair belongs to, all 0 where
    there is none.
    """

    names: tuple[str, ...]
    image_ids: tuple[int | str, ...]
    identities: Int[np.ndarray, " I"]
    pairs: Int[np.ndarray, "P 2"]
    same: Bool[np.ndarray, " P"]
    folds: Int[np.ndarray, " P"]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)


class Skipped(NamedTuple):
    """What of an annotation file is left out, repaired or clipped: ``where`` names it, ``reason`` says why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxAnnotations:
    """The validated boxes of a whole data set as flat arrays; every reader of boxes and every box metric works on it.

    ``xywh`` is as in the file (float64, 0-based left top width height), never clipped, so that metrics agree with the
    reference tools; ``usable`` marks the boxes that may train (some area left inside the picture, neither crowd nor
    difficult). Boxes are sorted by image: those of image ``i`` are ``offsets[i]:offsets[i + 1]``. ``object_numbers``
    are the places of the boxes (from 0) among the objects of their own file, where every image has a file. ``skipped``
    tells what is not as the files have it.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: tuple[int | str, ...]
    file_names: tuple[str, ...]
    sizes: Int[np.ndarray, "I 2"]
    offsets: Int[np.ndarray, " I+1"]
    xywh: Float[np.ndarray, "N 4"]
    labels: Int[np.ndarray, " N"]
    areas: Float[np.ndarray, " N"]
    crowd: Bool[np.ndarray, " N"]
    difficult: Bool[np.ndarray, " N"]
    usable: Bool[np.ndarray, " N"]
    annotation_ids: Int[np.ndarray, " N"]
    object_numbers: Int[np.ndarray, " N"] | None = None
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        """The number of images, those without a box included."""
        return len(self.image_ids)

    def training_boxes(self, index: int) -> tuple[Float[Tensor, "N 4"], Int[Tensor, " N"]]:
        """The usable boxes of one image, as clipped ``x1 y1 x2 y2``, and their labels."""
        rows = np.arange(self.offsets[index], self.offsets[index + 1])
        rows = rows[self.usable[rows]]
        height, width = self.sizes[index]
        boxes = np.concatenate([self.xywh[rows, :2], self.xywh[rows, :2] + self.xywh[rows, 2:]], axis=1)
        boxes = boxes.clip(0, np.array([width, height, width, height], dtype=np.float64))
        return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(self.labels[rows].astype(np.int64))


def image_index(annotations: BoxAnnotations) -> dict[int | str, int]:
    """Where each image id stands in the data set."""
    return {image_id: index for index, image_id in enumerate(annotations.image_ids)}


def concatenate_boxes(targets: Sequence[Target]) -> tuple[Tensor, Tensor, list[int]]:
    """All boxes of a batch in one tensor, their labels, and how many each image has."""
    boxes = [target.boxes for target in targets if target.boxes is not None]
    labels = [target.box_labels for target in targets if target.box_labels is not None]
    return torch.cat(boxes), torch.cat(labels), [len(b) for b in boxes]
