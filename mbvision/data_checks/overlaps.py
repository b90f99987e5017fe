"""Pairs of boxes that are nearly the same, in all pictures of a data set at once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Pairs(NamedTuple):
    """Rows of two boxes of one picture, and their intersection over union (IoU)."""

    first: Int[np.ndarray, " P"]
    second: Int[np.ndarray, " P"]
    iou: Float[np.ndarray, " P"]


def similar_pairs(
    xyxy: Float[np.ndarray, "N 4"], pictures: Int[np.ndarray, " N"], *, least_iou: float, most: int | None = None
) -> Pairs:
    """All pairs of boxes of one picture that overlap by ``least_iou`` (above 0) or more; about ``most`` where given.

    Boxes without area are in no pair. Rows of a pair rise. Sorted by their left sides, a box is compared with those
    after it until one starts too far right: of a pair, the left sides are at most ``(1 / least_iou - 1)`` widths apart.
    """
    sides = xyxy[:, 2:] - xyxy[:, :2]
    rows = np.flatnonzero((sides > 0).all(axis=1))
    left = xyxy[rows, 0]
    span = left.max(initial=0) - left.min(initial=0) + 1
    rows = rows[np.argsort(pictures[rows] * span + left, kind="stable")]  # much faster than by two keys
    boxes, picture = xyxy[rows], pictures[rows]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    reach = boxes[:, 0] + (1 / least_iou - 1) * (boxes[:, 2] - boxes[:, 0])
    active = np.arange(len(rows))
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    count = 0
    for step in range(1, len(rows)):  # as often as boxes stand close together, not once a box
        active = active[active + step < len(rows)]
        other = active + step
        near = (picture[active] == picture[other]) & (boxes[other, 0] <= reach[active])
        active = active[near]
        if not len(active) or (most is not None and count >= most):
            break
        other = active + step
        overlap = _intersection(boxes[active], boxes[other])
        iou = overlap / (area[active] + area[other] - overlap)
        alike = iou >= least_iou
        pair = np.sort(np.stack([rows[active[alike]], rows[other[alike]]]), axis=0)
        found.append((pair[0], pair[1], iou[alike]))
        count += int(alike.sum())
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return Pairs(none, none, np.zeros(0))
    first, second, iou = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], iou[order])


def _intersection(a: Float[np.ndarray, "M 4"], b: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, " M"]:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inside: Float[np.ndarray, " M"] = sides.clip(0).prod(axis=1)
    return inside
