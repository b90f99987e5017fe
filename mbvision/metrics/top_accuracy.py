"""Accuracy of a classifier: one matrix of image counts over the whole data set, never a mean over batches."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from mbvision.errors import DataError, TrainingError
from mbvision.metrics.image_metric import ImageMetric
from mbvision.structures import ClassScores, LabelAnnotations, Target

MOST_GUESSES = 5
"""ImageNet's second measure lets a classifier name five classes (arXiv:1409.0575, section 4.1)."""


class _Outcome(NamedTuple):
    """One image: its label, the best class, and whether its label is among the five best."""

    label: int
    predicted: int
    among: bool


def accuracy_metrics(matrix: Int64[np.ndarray, "C C"], among: int, class_names: Sequence[str]) -> dict[str, Any]:
    """``top1``, ``top5`` and ``per_class``, from the counts of images by true (rows) and best class (columns).

    ``among`` counts the images whose class is among the five best, or among all where there are fewer: then ``top5`` is
    1. -1 stands where there is no image.
    """
    images = matrix.sum(axis=1)
    total, found = int(images.sum()), np.diagonal(matrix)
    share = np.divide(found, images, out=np.full(len(images), -1.0), where=images > 0)
    return {
        "top1": int(found.sum()) / total if total else -1.0,
        "top5": among / total if total else -1.0,
        "per_class": {name: {"top1": float(value)} for name, value in zip(class_names, share, strict=True)},
    }


class TopAccuracy(ImageMetric[_Outcome]):
    """The accuracy over the images that were given to ``update`` in any process.

    Of classes with equal scores the one with the smaller label is the better. Images without a label are not counted;
    ``images`` of ``images_total`` says how many were.
    """

    def __init__(self, *, annotations: LabelAnnotations) -> None:
        super().__init__(annotations.image_ids)
        self.annotations = annotations
        self._matrix: Int64[np.ndarray, "C C"] | None = None

    @property
    def matrix(self) -> Int64[np.ndarray, "C C"]:
        """Images by true (rows) and best class (columns), as the last ``compute`` counted them."""
        if self._matrix is None:
            raise RuntimeError("the matrix exists once compute() has been called")
        return self._matrix

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._matrix = None

    def update(self, predictions: Sequence[ClassScores], targets: Sequence[Target]) -> None:
        """Take the predictions of a batch.

        Raises:
            DataError: an image is not in the annotations, or its label is no class.
            TrainingError: scores are not finite, or not of as many classes as the annotations.
        """
        labelled = [(p, t, t.label) for p, t in zip(predictions, targets, strict=True) if t.label is not None]
        if not labelled:
            return
        self._check([target for _, target, _ in labelled], labelled[0][0])
        scores = torch.stack([prediction.scores for prediction, _, _ in labelled])
        if not scores.isfinite().all():
            raise TrainingError("scores of the classes are not finite; the network's weights are broken")
        labels = torch.tensor([label for _, _, label in labelled], device=scores.device)
        best = scores.argsort(dim=1, descending=True, stable=True)[:, :MOST_GUESSES]
        among = (best == labels[:, None]).any(dim=1)
        for (_, target, label), predicted, hit in zip(labelled, best[:, 0].tolist(), among.tolist(), strict=True):
            self._images.setdefault(self.place(target), _Outcome(label, predicted, hit))

    def _check(self, targets: Sequence[Target], prediction: ClassScores) -> None:
        classes = len(self.annotations.class_names)
        if len(prediction.scores) != classes:
            raise TrainingError(
                f"scores of {len(prediction.scores)} classes, but the data set has {classes}; build the network for"
                " this data set's classes"
            )
        for target in targets:
            self.place(target)
            if target.label is None or not 0 <= target.label < classes:
                raise DataError(f"image {target.image_id!r}: its label is {target.label}, there are {classes} classes")

    def compute(self) -> dict[str, Any]:
        """The main numbers, ``per_class``, ``images`` (scored) and ``images_total``; equal in every process."""
        outcomes = self.gathered().values()
        classes = len(self.annotations.class_names)
        cells = np.array([one.label * classes + one.predicted for one in outcomes], dtype=np.int64)
        self._matrix = np.bincount(cells, minlength=classes**2).astype(np.int64).reshape(classes, classes)
        among = sum(one.among for one in outcomes)
        return {
            **accuracy_metrics(self._matrix, among, self.annotations.class_names),
            "images": len(outcomes),
            "images_total": len(self.annotations),
        }
