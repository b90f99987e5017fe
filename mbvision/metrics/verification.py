"""Verification: do two pictures show the same identity, going by the distance of their embeddings alone?

Distances are squared Euclidean, so in 0..4 between vectors of length 1. A pair is accepted as the same at a threshold
if its distance is at most that.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mbvision.errors import TrainingError
from mbvision.metrics.image_metric import ImageMetric
from mbvision.structures import Embedding, IdentityAnnotations, Target

FALSE_ACCEPT_RATES = (0.1, 0.01, 0.001)
_PAIRS_AT_ONCE = 65_536

Distances = Float[np.ndarray, " P"]
Same = Bool[np.ndarray, " P"]


class Curve(NamedTuple):
    """What is accepted at each distance that occurs, in rising order, with nothing at first."""

    thresholds: Float[np.ndarray, " T"]
    false_accepts: Int[np.ndarray, " T"]
    true_accepts: Int[np.ndarray, " T"]


def roc_curve(distances: Distances, same: Same) -> Curve:
    """How many pairs of each kind are accepted at each threshold; those of equal distance come together."""
    order = np.argsort(distances, kind="stable")
    ranked, alike = distances[order], same[order]
    last = np.flatnonzero(np.append(ranked[:-1] != ranked[1:], True)) if len(ranked) else np.zeros(0, dtype=np.int64)
    true_accepts = np.append(0, np.cumsum(alike)[last])
    return Curve(np.append(-np.inf, ranked[last]), np.append(0, last + 1) - true_accepts, true_accepts)


def area_under(curve: Curve) -> float:
    """How often a pair of one identity is nearer than a pair of two, ties counting half; -1 without pairs."""
    positives, negatives = int(curve.true_accepts[-1]), int(curve.false_accepts[-1])
    if not positives or not negatives:
        return -1.0
    steps = np.diff(curve.false_accepts) * (curve.true_accepts[1:] + curve.true_accepts[:-1])
    return float(int(steps.sum()) / (2 * positives * negatives))


def true_accept_rate(curve: Curve, rate: float) -> float:
    """The share of pairs of one identity accepted while at most ``rate`` of the others are; -1 without pairs."""
    positives, negatives = int(curve.true_accepts[-1]), int(curve.false_accepts[-1])
    if not positives or not negatives:
        return -1.0
    allowed = curve.false_accepts <= rate * negatives
    return float(curve.true_accepts[allowed].max() / positives)


def best_threshold(curve: Curve) -> float:
    """The least threshold with the best mean of the shares of both kinds of pairs that are judged rightly."""
    positives, negatives = int(curve.true_accepts[-1]), int(curve.false_accepts[-1])
    return float(curve.thresholds[np.argmax(curve.true_accepts * negatives - curve.false_accepts * positives)])


def accuracy(distances: Distances, same: Same, folds: Int[np.ndarray, " P"]) -> float:
    """The share of pairs judged rightly at the best threshold, each kind counting half; -1 without both kinds.

    LFW has as many pairs of either kind, where that is the plain share. With folds each is judged at the best
    threshold of the others, and the mean over folds is taken (LFW's protocol); with one fold the threshold is that of
    the same pairs, which flatters a little.
    """
    numbers = np.unique(folds)
    if len(numbers) < 2:
        if same.all() or not same.any():
            return -1.0
        return _balanced(distances <= best_threshold(roc_curve(distances, same)), same)
    scores = []
    for number in numbers:  # ten of them
        held = folds == number
        threshold = best_threshold(roc_curve(distances[~held], same[~held]))
        scores.append(_balanced(distances[held] <= threshold, same[held]))
    return float(np.mean(scores))


def _balanced(accepted: Same, same: Same) -> float:
    """The mean of both kinds' shares that are judged rightly, or the share of the only kind."""
    return float(np.mean([(accepted == same)[same == kind].mean() for kind in (True, False) if (same == kind).any()]))


def verification_metrics(distances: Distances, same: Same, folds: Int[np.ndarray, " P"]) -> dict[str, float]:
    """The main numbers; ``TAR_FAR_0.01`` is the true accept rate at a false accept rate of at most 0.01."""
    curve = roc_curve(distances, same)
    return {
        "verification_AUC": area_under(curve),
        "verification_accuracy": accuracy(distances, same, folds),
        **{f"TAR_FAR_{rate}": true_accept_rate(curve, rate) for rate in FALSE_ACCEPT_RATES},
    }


class Verification(ImageMetric[Float[np.ndarray, " D"]]):
    """Verification over the pairs whose pictures were both given to ``update``, in any process.

    A picture given twice keeps its first copy. ``compute`` gathers, so every process has to call it.
    """

    def __init__(self, *, annotations: IdentityAnnotations) -> None:
        super().__init__(annotations.image_ids)
        self.annotations = annotations
        self._pairs: Int[np.ndarray, "P 2"] = annotations.pairs[:0]
        self._same: Same = annotations.same[:0]
        self._distances: Distances = np.zeros(0)

    @property
    def curve(self) -> Curve:
        """The curve of what the last ``compute`` compared."""
        return roc_curve(self._distances, self._same)

    def examples(self, count: int) -> list[tuple[int, int, bool, float]]:
        """Up to ``count`` pairs as (place, place, same, distance), half of each kind, evenly from near to far."""
        chosen: list[int] = []
        for kind in (True, False):
            rows = np.flatnonzero(self._same == kind)
            rows = rows[np.argsort(self._distances[rows], kind="stable")]
            picked = np.linspace(0, len(rows) - 1, min(count // 2, len(rows))).round().astype(np.int64)
            chosen += rows[picked].tolist()
        pairs = self._pairs.tolist()
        return [(*pairs[row], bool(self._same[row]), float(self._distances[row])) for row in chosen]

    def update(self, predictions: Sequence[Embedding], targets: Sequence[Target]) -> None:
        """Take the vectors of a batch.

        Raises:
            DataError: an image is not in the annotations.
            TrainingError: a vector is not finite.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            if target.identity is None:
                continue
            place = self.place(target)
            vector = prediction.vector.cpu().numpy()
            if not np.isfinite(vector).all():
                raise TrainingError(f"the vector of image {target.image_id!r} is not finite; the network is broken")
            self._images.setdefault(place, vector)

    def compute(self) -> dict[str, Any]:
        """The main numbers, ``pairs`` (compared), ``images`` (scored) and ``images_total``; equal in every process."""
        images = self.gathered()
        row_of = np.full(len(self.annotations), -1, dtype=np.int64)
        row_of[list(images)] = np.arange(len(images))
        rows = row_of[self.annotations.pairs]
        both = (rows >= 0).all(axis=1)
        self._pairs, self._same = self.annotations.pairs[both], self.annotations.same[both]
        self._distances = _distances(list(images.values()), rows[both])
        return {
            **verification_metrics(self._distances, self._same, self.annotations.folds[both]),
            "pairs": len(self._pairs),
            "images": len(images),
            "images_total": len(self.annotations),
        }


def _distances(vectors: Sequence[Float[np.ndarray, " D"]], pairs: Int[np.ndarray, "P 2"]) -> Distances:
    """Squared distances in float64, a part of the pairs at a time for the memory's sake."""
    if not len(pairs):
        return np.zeros(0)
    stacked = np.stack(vectors).astype(np.float64)
    parts = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        first, second = pairs[start : start + _PAIRS_AT_ONCE].T
        parts.append(np.square(stacked[first] - stacked[second]).sum(axis=1))
    return np.concatenate(parts)
