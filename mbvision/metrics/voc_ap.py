"""Average precision by the rules of Pascal VOC's development kit: with 11 points (2007) and as area (from 2010).

The kit counts pixels inclusively, ``xmax - xmin + 1``. Our boxes have exclusive edges, since readers take 1 off
``xmin`` and ``ymin`` and leave ``xmax`` and ``ymax``: ``x2 - x1`` is then the same number, and plain IoU is the kit's.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mbvision.errors import ConfigError
from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations

_POINTS = 10  # recalls 0/10, 1/10, ..., 10/10
_PAIRS_AT_ONCE = 2_000_000  # pairs of a detection and an object in memory at a time, about 100 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class VocScores:
    """The result of a VOC evaluation; -1 stands where there is no ground truth.

    ``numbers`` holds ``mAP07`` (11 points) and ``mAP`` (area), means over the classes that have an object to find;
    ``per_class`` the ``AP07`` and ``AP`` of each class.
    """

    numbers: dict[str, float]
    per_class: dict[str, dict[str, float]]


class _Boxes(NamedTuple):
    """Boxes of one class, with the image of each."""

    images: Int[np.ndarray, " n"]
    xywh: Float[np.ndarray, "n 4"]


def check_iou(iou: float) -> None:
    """Raise a ConfigError unless ``iou`` is above 0 and at most 1."""
    if not (isinstance(iou, int | float) and 0 < iou <= 1):
        raise ConfigError(f"iou={iou!r} makes no sense; choose a number above 0 and at most 1, such as 0.5")


def voc_ap(annotations: BoxAnnotations, results: BoxResults, *, iou: float = 0.5) -> VocScores:
    """Score ``results`` on all images of ``annotations`` by VOC's rules.

    By falling score (equal ones in the order of ``results``), each detection looks at the object of its class with the
    largest overlap in its image, taken or not. An overlap of ``iou`` or more is a true positive the first time and
    false after that; difficult and crowd objects make it neither; less overlap is false.

    Raises:
        ConfigError: ``iou`` is not in (0, 1].
    """
    check_iou(iou)
    truth_images = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets))
    ignored = annotations.difficult | annotations.crowd
    order = np.argsort(-results.scores, kind="stable")
    per_class = {}
    for label, name in enumerate(annotations.class_names):  # a loop, since each class has a curve of another length
        of_class = annotations.labels == label
        ranked = order[results.labels[order] == label]
        hits, counted = _hits(
            _Boxes(results.image_index[ranked], results.xywh[ranked]),
            _Boxes(truth_images[of_class], annotations.xywh[of_class]),
            ignored[of_class],
            iou,
        )
        per_class[name] = _average_precisions(hits[counted], int((~ignored[of_class]).sum()))
    present = [scores for scores in per_class.values() if scores["AP"] >= 0]
    return VocScores(
        numbers={
            "mAP07": float(np.mean([scores["AP07"] for scores in present])) if present else -1.0,
            "mAP": float(np.mean([scores["AP"] for scores in present])) if present else -1.0,
        },
        per_class=per_class,
    )


def _hits(
    found: _Boxes, truth: _Boxes, ignored: Bool[np.ndarray, " N"], iou: float
) -> tuple[Bool[np.ndarray, " D"], Bool[np.ndarray, " D"]]:
    """Which ranked detections of one class are true positives, and which count at all."""
    overlap, best = _largest_overlaps(found, truth)
    near = np.flatnonzero(overlap >= iou)
    hits = np.zeros(len(overlap), dtype=np.bool_)
    # An object goes to the first detection that is nearest to it: being taken never sends one to another object.
    _, first = np.unique(best[near], return_index=True)
    hits[near[first]] = True
    counted = np.ones(len(overlap), dtype=np.bool_)
    counted[near] = ~ignored[best[near]]
    return hits & counted, counted


def _largest_overlaps(found: _Boxes, truth: _Boxes) -> tuple[Float[np.ndarray, " D"], Int[np.ndarray, " D"]]:
    """The IoU of each detection with the nearest object of its image, and that object; 0 and -1 if there is none.

    Of objects with equal overlap the first is taken, as in the development kit. ``truth`` is sorted by image.
    """
    overlap, best = np.zeros(len(found.images)), np.full(len(found.images), -1)
    first = np.searchsorted(truth.images, found.images, side="left")
    count = np.searchsorted(truth.images, found.images, side="right") - first
    rows = np.flatnonzero(count)
    ends = np.cumsum(count[rows])
    parts = ends[-1] // _PAIRS_AT_ONCE + 1 if rows.size else 0
    for part in np.array_split(rows, parts) if parts else []:  # in parts only to bound the memory
        starts = np.cumsum(count[part]) - count[part]
        detection = np.repeat(part, count[part])
        obj = np.arange(len(detection)) - np.repeat(starts - first[part], count[part])
        iou = _paired_iou(found.xywh[detection], truth.xywh[obj])
        overlap[part] = np.maximum.reduceat(iou, starts)
        is_best = np.flatnonzero(iou == np.repeat(overlap[part], count[part]))[::-1]
        best[detection[is_best]] = obj[is_best]  # written backwards, so that the first of equal ones stays
    return overlap, best


def _paired_iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """The IoU of each box of ``a`` with the box of ``b`` in the same row; 0 where neither has any area."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    intersection = (high - low).clip(min=0).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _average_precisions(hits: Bool[np.ndarray, " D"], positives: int) -> dict[str, float]:
    """``AP07`` and ``AP`` from the ranked detections that count; -1 without an object to find.

    The 11 recalls are exactly i/10, compared in whole numbers. A grid of summed floats puts its seventh point at
    0.6000000000000001 and so loses the precision at a recall of just 6/10, which some published values do: on a known
    example at IoU 0.1 that gives 0.3333 in place of 0.3689.
    """
    if positives == 0:
        return {"AP07": -1.0, "AP": -1.0}
    if hits.size == 0:
        return {"AP07": 0.0, "AP": 0.0}
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # recall >= i/10 without a division: 10 * true positives >= i * positives
    reached = np.searchsorted(_POINTS * true_positives, np.arange(_POINTS + 1) * positives)
    steps = np.flatnonzero(hits)  # recall grows by 1 / positives at each
    return {"AP07": float(envelope[reached].mean()), "AP": float(envelope[steps].sum() / positives)}
