"""How well the best anchor of an SSD head overlaps each box, and which anchors would do better.

Boxes and anchors are relative to the network's input (0..1), as in `mbvision.heads.anchors`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mbvision.heads.anchors import Layout, SSDAnchors

MIN_SCALES = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
MAX_SCALES = (0.5, 0.65, 0.8, 0.95)
ASPECT_RATIOS = ((2.0,), (2.0, 3.0), (1.6,), (1.5, 2.5))
"""What `better_anchors` tries: every combination of these, in the layout that is configured."""

MOST_BOXES = 5_000
"""So many boxes, drawn with a fixed seed, are enough to compare anchors by."""

MapSizes = Sequence[tuple[int, int]]
Shapes = Sequence[Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorChoice:
    """Arguments of `SSDAnchors`, and the share of boxes (mean over classes) that they reach."""

    min_scale: float
    max_scale: float
    aspect_ratios: tuple[float, ...]
    layout: Layout
    recall: float


def best_overlaps(boxes: Float[np.ndarray, "N 4"], sizes: MapSizes, shapes: Shapes) -> Float[np.ndarray, " N"]:
    """The IoU of each box ``x1 y1 x2 y2`` with the anchor that overlaps it most.

    ``sizes`` are (height, width) of the feature maps, ``shapes`` (width, height) of the anchors of each. Of all anchors
    of one shape the one whose centre is nearest in x and in y overlaps most: two intervals share the less, the farther
    their centres are apart. So a single anchor of each shape is looked at.
    """
    best = np.zeros(len(boxes), dtype=np.float32)
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float32)
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(np.float32)
    area = sides[:, 0] * sides[:, 1]
    for (height, width), level in zip(sizes, shapes, strict=True):
        cells = np.array([width, height], dtype=np.float32)
        nearest = (np.floor(centres * cells).clip(0, cells - 1) + np.float32(0.5)) / cells
        apart = np.abs(centres - nearest)
        for shape in level:  # six of six levels: few, and each is done for all boxes
            anchor = np.array(shape, dtype=np.float32)
            shared = np.minimum(np.minimum(sides, anchor), (sides + anchor) / 2 - apart).clip(0)
            overlap = shared[:, 0] * shared[:, 1]
            np.maximum(best, overlap / (area + anchor[0] * anchor[1] - overlap), out=best)
    return best


def recall_by_class(
    overlaps: Float[np.ndarray, " N"], labels: Int[np.ndarray, " N"], num_classes: int, least_iou: float
) -> Float[np.ndarray, " C"]:
    """The share of each class's boxes that an anchor overlaps by ``least_iou`` or more; NaN for a class without any."""
    counts = np.bincount(labels, minlength=num_classes)
    reached = np.bincount(labels[overlaps >= least_iou], minlength=num_classes)
    return np.divide(reached, counts, out=np.full(num_classes, np.nan), where=counts > 0)


def better_anchors(
    boxes: Float[np.ndarray, "N 4"],
    labels: Int[np.ndarray, " N"],
    num_classes: int,
    *,
    sizes: MapSizes,
    layout: Layout,
    least_iou: float,
) -> AnchorChoice:
    """The choice that reaches most, every class counting the same; among equals the one that overlaps best.

    ``recall`` is that of all boxes.
    """
    few = np.arange(len(boxes))
    if len(boxes) > MOST_BOXES:
        few = np.sort(np.random.default_rng(0).choice(len(boxes), MOST_BOXES, replace=False))
    best: tuple[float, float] = (-1.0, -1.0)
    choice: SSDAnchors | None = None
    for low, high, ratios in itertools.product(MIN_SCALES, MAX_SCALES, ASPECT_RATIOS):
        anchors = SSDAnchors(min_scale=low, max_scale=high, aspect_ratios=ratios, layout=layout)
        overlaps = best_overlaps(boxes[few], sizes, anchors.shapes(len(sizes)))
        mean = float(np.nanmean(recall_by_class(overlaps, labels[few], num_classes, least_iou)))
        if (round(mean, 3), float(overlaps.mean())) > best:
            best, choice = (round(mean, 3), float(overlaps.mean())), anchors
    assert choice is not None, "there is something to choose from"
    overlaps = best_overlaps(boxes, sizes, choice.shapes(len(sizes)))
    return AnchorChoice(
        min_scale=choice.min_scale,
        max_scale=choice.max_scale,
        aspect_ratios=choice.aspect_ratios,
        layout=layout,
        recall=float(np.nanmean(recall_by_class(overlaps, labels, num_classes, least_iou))),
    )
