"""COCO's average precision by its definition, in plain Python: slow, and written without pycocotools."""

from collections.abc import Sequence

import numpy as np

from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations

Box = Sequence[float]
IOUS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()


def overlap(found: Box, box: Box, crowd: bool) -> float:
    """Intersection over union of two xywh boxes; of a crowd, over the found box alone."""
    sides = [min(found[i] + found[i + 2], box[i] + box[i + 2]) - max(found[i], box[i]) for i in (0, 1)]
    shared = max(sides[0], 0.0) * max(sides[1], 0.0)
    own = found[2] * found[3]
    whole = own if crowd else own + box[2] * box[3] - shared
    return shared / whole if whole > 0 else 0.0


def matches(
    found: Sequence[tuple[float, Box]], truth: Sequence[tuple[Box, bool]], iou: float
) -> list[tuple[float, bool]]:
    """(score, right) of the detections of one image and class that count: those on a crowd do not."""
    free = set(range(len(truth)))
    counted = []
    for score, box in found:
        overlaps = [(overlap(box, other, crowd), row) for row, (other, crowd) in enumerate(truth)]
        objects = [(value, row) for value, row in overlaps if row in free and not truth[row][1] and value >= iou]
        if objects:
            free.remove(max(objects)[1])
            counted.append((score, True))
        elif not any(value >= iou for value, row in overlaps if truth[row][1]):
            counted.append((score, False))
    return counted


def average_precision(annotations: BoxAnnotations, results: BoxResults, label: int, iou: float) -> float:
    """Of one class, over boxes of any area and the 100 best detections of an image; -1 without an object."""
    counted: list[tuple[float, bool]] = []
    objects = 0
    for image in range(len(annotations)):
        rows = range(annotations.offsets[image], annotations.offsets[image + 1])
        truth = [
            (annotations.xywh[row].tolist(), bool(annotations.crowd[row]))
            for row in rows
            if annotations.labels[row] == label
        ]
        objects += sum(not crowd for _, crowd in truth)
        own = [row for row in range(len(results)) if results.image_index[row] == image and results.labels[row] == label]
        own.sort(key=lambda row: -results.scores[row])
        counted += matches([(results.scores[row], results.xywh[row].tolist()) for row in own[:100]], truth, iou)
    if not objects:
        return -1.0
    counted.sort(key=lambda pair: -pair[0])
    right, points = 0, []
    for number, (_, good) in enumerate(counted, start=1):
        right += good
        points.append((right / objects, right / number))
    return sum(max((p for r, p in points if r >= recall), default=0.0) for recall in RECALLS) / len(RECALLS)
