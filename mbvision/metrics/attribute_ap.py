"""Average precision of attributes, over a whole data set and any number of processes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from mbvision.errors import TrainingError
from mbvision.metrics.image_metric import ImageMetric
from mbvision.structures import FOUND, IGNORE, AttributeAnnotations, AttributeScores, Target


def average_precision(
    scores: Float[np.ndarray, "I A"], attributes: UInt8[np.ndarray, "I A"]
) -> Float[np.ndarray, " A"]:
    """The average precision of each attribute over the pictures where it is known; -1 without a positive among them.

    The sum over thresholds of precision times the recall gained there, with pictures of equal score coming together:
    the area under the steps, not interpolated, as scikit-learn defines it.
    """
    if len(scores) == 0:
        return np.full(scores.shape[1], -1.0)
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    truth = np.take_along_axis(attributes, order, axis=0)
    found = np.cumsum(truth == 1, axis=0)
    seen = np.cumsum(truth != IGNORE, axis=0)
    last = np.ones(scores.shape, dtype=bool)  # of its equals
    last[:-1] = ranked[:-1] != ranked[1:]
    at_last = np.maximum.accumulate(np.where(last, found, 0), axis=0)
    gained = np.diff(at_last, axis=0, prepend=np.zeros((1, scores.shape[1]), dtype=found.dtype))
    total = (gained * (found / np.maximum(seen, 1))).sum(axis=0)
    positives = found[-1]
    return np.where(positives > 0, total / np.maximum(positives, 1), -1.0)


def attribute_metrics(
    scores: Float[np.ndarray, "I A"], attributes: UInt8[np.ndarray, "I A"], names: Sequence[str]
) -> dict[str, Any]:
    """``mean_AP`` over the attributes that have one, ``attribute_accuracy`` (mean over attributes), ``per_class``."""
    precision = average_precision(scores, attributes)
    known = attributes != IGNORE
    right = (((scores >= FOUND) == (attributes == 1)) & known).sum(axis=0)
    accuracy = np.where(known.any(axis=0), right / np.maximum(known.sum(axis=0), 1), -1.0)
    return {
        "mean_AP": _mean(precision),
        "attribute_accuracy": _mean(accuracy),
        "per_class": {
            name: {"AP": float(precision[place]), "accuracy": float(accuracy[place])}
            for place, name in enumerate(names)
        },
    }


def _mean(values: Float[np.ndarray, " A"]) -> float:
    """Over what there is; -1 where there is nothing."""
    return float(values[values >= 0].mean()) if (values >= 0).any() else -1.0


class _Scored(NamedTuple):
    scores: Float[np.ndarray, " A"]
    attributes: UInt8[np.ndarray, " A"]


class AttributeAP(ImageMetric[_Scored]):
    """Attribute metrics over the images that were given to ``update`` in any process; those without are not counted."""

    def __init__(self, *, annotations: AttributeAnnotations) -> None:
        super().__init__(annotations.image_ids)
        self.annotations = annotations

    def update(self, predictions: Sequence[AttributeScores], targets: Sequence[Target]) -> None:
        """Take the scores of a batch.

        Raises:
            DataError: an image is not in the annotations.
            TrainingError: scores are not finite, or not of as many attributes as the annotations.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            if target.attributes is None:
                continue
            place = self.place(target)
            scores = prediction.scores.cpu().numpy()
            if len(scores) != len(self.annotations.names) or not np.isfinite(scores).all():
                raise TrainingError(
                    f"image {target.image_id!r}: not {len(self.annotations.names)} finite scores, but {len(scores)}"
                )
            self._images.setdefault(place, _Scored(scores, target.attributes.cpu().numpy()))

    def compute(self) -> dict[str, Any]:
        """The main numbers, ``per_class``, ``images`` (scored) and ``images_total``; equal in every process."""
        images = self.gathered()
        names = self.annotations.names
        scores = np.array([image.scores for image in images.values()], dtype=np.float64).reshape(-1, len(names))
        truth = np.array([image.attributes for image in images.values()], dtype=np.uint8).reshape(-1, len(names))
        return {
            **attribute_metrics(scores, truth, names),
            "images": len(images),
            "images_total": len(self.annotations),
        }
