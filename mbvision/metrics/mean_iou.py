"""Mean intersection over union: one matrix of pixel counts over the whole data set, never a mean over images."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8

from mbvision.errors import DataError, TrainingError
from mbvision.masks import upsampled_labels
from mbvision.metrics.image_metric import ImageMetric
from mbvision.structures import IGNORE, InputLabels, MaskAnnotations, MaskScheme, Segmentation, Target

Labels = UInt8[np.ndarray, "H W"]
Confusion = Int64[np.ndarray, "C C+1"]
"""Pixels by true class (rows) and predicted class (columns); the last column is anything that is no class."""

_MOST_PIXELS = 1 << 24
"""Pixels that are counted in one call: OpenCV counts in float32, which holds every whole number up to that."""


def confusion_matrix(target: Labels, prediction: Labels, num_classes: int) -> Confusion:
    """Count the pixels of one image by class; those whose target is 255 are left out.

    A prediction of 255, or of anything else that is no class, counts as missed and as found nowhere.

    Raises:
        ValueError: the sizes differ, or a target is neither a class nor 255.
    """
    if target.shape != prediction.shape:
        raise ValueError(f"target is {target.shape}, prediction is {prediction.shape}; they must be of the same size")
    truth = np.ascontiguousarray(target).reshape(-1)
    found = np.minimum(prediction, np.uint8(num_classes)).reshape(-1)
    counts = np.zeros((256, num_classes + 1), dtype=np.int64)
    for start in range(0, len(truth), _MOST_PIXELS):
        part = [labels[start : start + _MOST_PIXELS] for labels in (truth, found)]
        counts += cv2.calcHist(part, [0, 1], None, list(counts.shape), [0, 256, 0, num_classes + 1]).astype(np.int64)
    if counts[num_classes:IGNORE].any():
        wrong = num_classes + int(np.flatnonzero(counts[num_classes:IGNORE].any(axis=1))[0])
        raise ValueError(f"target has the label {wrong}; known are 0 to {num_classes - 1} and {IGNORE} for ignore")
    return counts[:num_classes]


def segmentation_metrics(matrix: Confusion, scheme: MaskScheme) -> dict[str, Any]:
    """The main numbers and ``per_class``; -1 stands where there is nothing to score.

    ``mIoU`` is over the classes with a union (in the ground truth or predicted there), as Cityscapes scores,
    ``mIoU_present`` over those in the ground truth, ``mIoU_all`` over all, an absent one counting 0. Where the scheme
    has categories, ``mIoU_categories`` is ``mIoU`` of the matrix merged by category.
    """
    iou, accuracy = _iou(matrix), _share(np.diagonal(matrix), matrix.sum(axis=1))
    numbers = {
        "mIoU": _mean(iou[iou >= 0]),
        "mIoU_present": _mean(iou[accuracy >= 0]),
        "mIoU_all": _mean(iou.clip(min=0)) if matrix.any() else -1.0,
        "pixel_accuracy": float(np.diagonal(matrix).sum() / matrix.sum()) if matrix.any() else -1.0,
    }
    if scheme.categories is not None:
        categories = _iou(_merged(matrix, scheme.categories))
        numbers["mIoU_categories"] = _mean(categories[categories >= 0])
    per_class = {
        name: {"IoU": float(iou[label]), "accuracy": float(accuracy[label])}
        for label, name in enumerate(scheme.class_names)
    }
    return {**numbers, "per_class": per_class}


def _iou(matrix: Confusion) -> np.ndarray:
    """The intersection over union of each class, -1 without a union."""
    found = np.diagonal(matrix)
    return _share(found, matrix.sum(axis=1) + matrix[:, :-1].sum(axis=0) - found)


def _share(part: Int[np.ndarray, " C"], whole: Int[np.ndarray, " C"]) -> np.ndarray:
    """``part / whole`` as float64, -1 where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(len(part), -1.0), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else -1.0


def _merged(matrix: Confusion, categories: Sequence[str]) -> Confusion:
    """The matrix of categories, in the order in which they first occur."""
    names = list(dict.fromkeys(categories))
    belongs = np.array([[name == category for category in categories] for name in names], dtype=np.int64)
    return np.concatenate([belongs @ matrix[:, :-1] @ belongs.T, belongs @ matrix[:, -1:]], axis=1)


class _Counts(NamedTuple):
    """The cells of one image's matrix that are not 0, and what they hold."""

    cells: Int64[np.ndarray, " n"]
    pixels: Int64[np.ndarray, " n"]


class MeanIoU(ImageMetric[_Counts]):
    """Segmentation metrics over the images that were given to ``update`` in any process, equal to the last bit.

    Images without a mask are not counted; ``images`` of ``images_total`` says how many were. Each image's few counts
    are kept on the CPU, for only they can tell whether it was seen elsewhere.
    """

    def __init__(
        self, *, annotations: MaskAnnotations, sink: Callable[[int | str, Labels], object] | None = None
    ) -> None:
        """``sink`` is handed the id and the labels of each image, to write them."""
        super().__init__(annotations.image_ids)
        self.annotations = annotations
        self.sink = sink
        self._matrix: Confusion | None = None

    @property
    def matrix(self) -> Confusion:
        """The pixel counts that the last ``compute`` scored, of all images in all processes."""
        if self._matrix is None:
            raise RuntimeError("the matrix exists once compute() has been called")
        return self._matrix

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._matrix = None

    def update(self, predictions: Sequence[Segmentation | InputLabels], targets: Sequence[Target]) -> None:
        """Take the predictions of a batch; masks are those of the original images.

        Raises:
            DataError: an image is not in the annotations, or its mask has another size than itself.
            TrainingError: logits are not finite, or not of as many classes as the annotations.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            if target.mask is None:
                continue
            image = self.place(target)
            if image not in self._images:
                self._images[image] = self._count(prediction, target, target.mask)

    def _count(self, prediction: Segmentation | InputLabels, target: Target, mask: torch.Tensor) -> _Counts:
        height, width = target.geometry.original
        if tuple(mask.shape) != (height, width):
            raise DataError(
                f"image {target.image_id!r}: its mask is {mask.shape[1]}x{mask.shape[0]}, the picture {width}x{height};"
                " masks are scored at the picture's own size, so leave them unscaled"
            )
        classes = len(self.annotations.scheme.class_names)
        if isinstance(prediction, Segmentation):
            _check_logits(prediction, target, classes)
        labels = upsampled_labels(prediction, target.geometry)
        if self.sink:
            self.sink(target.image_id, labels)
        matrix = confusion_matrix(mask.cpu().numpy(), labels, classes).reshape(-1)
        cells = np.flatnonzero(matrix)
        return _Counts(cells, matrix[cells])

    def compute(self) -> dict[str, Any]:
        """The main numbers, ``per_class``, ``images`` (scored) and ``images_total``; equal in every process."""
        images = self.gathered()
        classes = len(self.annotations.scheme.class_names)
        self._matrix = np.zeros((classes, classes + 1), dtype=np.int64)
        for counts in images.values():
            self._matrix.reshape(-1)[counts.cells] += counts.pixels
        return {
            **segmentation_metrics(self._matrix, self.annotations.scheme),
            "images": len(images),
            "images_total": len(self.annotations),
        }


def _check_logits(prediction: Segmentation, target: Target, classes: int) -> None:
    if len(prediction.logits) != classes:
        raise TrainingError(
            f"image {target.image_id!r}: logits of {len(prediction.logits)} classes, but there are {classes}; "
            "build the network for this data set's classes"
        )
    if not prediction.logits.isfinite().all():
        raise TrainingError(f"logits of image {target.image_id!r} are not finite; the network's weights are broken")
