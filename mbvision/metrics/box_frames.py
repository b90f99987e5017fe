"""Whether results hold boxes of another kind than ``x y width height`` in pixels of the original image.

Each usual mistake is undone, and the boxes are laid over the annotated ones of their images: where they fit much better
so, the mistake was made. Classes play no part in that.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations

MOST_DETECTIONS = 2_000
"""As many are compared: of each image as many of the best as it has annotated boxes."""

LEAST_OVERLAP = 0.4
LEAST_GAIN = 0.2
"""A mistake is reported where undoing it gives this mean overlap (IoU), and so much more than the boxes as they are.

Detectors that work have 0.6 and more there, and shifting or scaling their boxes only takes from it."""

FEW_ALIKE = 0.2
"""Where boxes fit, but fewer than this share of them have the class of what they fit, the class ids are others."""

INPUT_SIDES = (224, 299, 300, *range(96, 1312, 32))
"""Sides of square network inputs that are tried."""

Boxes = Float[np.ndarray, "N 4"]
Sizes = Float[np.ndarray, "N 2"]


class _Pairs(NamedTuple):
    """Detections, each with the annotated boxes of its image: pair ``k`` is detection ``of[k]`` with box ``with_[k]``.

    ``sizes`` are (width, height) of the detections' images.
    """

    detections: Int[np.ndarray, " N"]
    sizes: Sizes
    of: Int[np.ndarray, " P"]
    with_: Int[np.ndarray, " P"]


def box_hints(annotations: BoxAnnotations, results: BoxResults) -> list[str]:
    """A sentence for each mistake that the boxes or classes of a file look like; nothing where they look right."""
    hints = _repeated(results)
    pairs = _pairs(annotations, results)
    if not len(pairs.detections):
        return hints
    boxes = results.xywh[pairs.detections]
    as_given = _best_overlaps(boxes, annotations.xywh, pairs)
    best, what = 0.0, ""
    for name, read in _readings(pairs.sizes).items():
        overlap = float(_best_overlaps(read(boxes), annotations.xywh, pairs).mean())
        if overlap > best + 0.02:  # of readings that fit alike the simpler one, which stands first
            best, what = overlap, name
    mean = float(as_given.mean())
    if best >= max(LEAST_OVERLAP, mean + LEAST_GAIN):
        hints.append(
            f"the boxes look like {what}: read so they overlap the annotated ones by {best:.2f} (IoU), as they are by "
            f"{mean:.2f}; a box must be [x, y, width, height] in pixels of the original image"
        )
    elif np.abs(boxes).max() <= 2 and pairs.sizes.min() > 32:
        hints.append("all boxes lie within 2 pixels of the corner: they look like fractions of the image, not pixels")
    return hints + _other_classes(annotations, results, pairs, as_given)


def _repeated(results: BoxResults) -> list[str]:
    rows = np.column_stack([results.image_index, results.labels, results.xywh, results.scores])
    again = len(rows) - len(np.unique(rows, axis=0))
    return [f"{again} of {len(rows)} detections are there more than once, and count as false"] if again else []


def _pairs(annotations: BoxAnnotations, results: BoxResults) -> _Pairs:
    counts = np.diff(annotations.offsets)
    order = np.lexsort([-results.scores, results.image_index])
    images = results.image_index[order]
    place = np.arange(len(order)) - np.searchsorted(images, images)  # among the detections of its image, best first
    detections = order[place < counts[images]][:MOST_DETECTIONS]
    images = results.image_index[detections]
    number = counts[images]
    of = np.repeat(np.arange(len(detections)), number)
    ends = np.cumsum(number)
    with_ = np.arange(len(of)) - np.repeat(ends - number, number) + np.repeat(annotations.offsets[images], number)
    return _Pairs(detections, annotations.sizes[images][:, ::-1].astype(np.float64), of, with_)


def _overlaps(boxes: Boxes, truth: Boxes, pairs: _Pairs) -> Float[np.ndarray, " P"]:
    a, b = boxes[pairs.of], truth[pairs.with_]
    with np.errstate(over="ignore", invalid="ignore"):
        sides = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        shared = sides.clip(0).prod(axis=1)
        union = a[:, 2:].clip(0).prod(axis=1) + b[:, 2:].clip(0).prod(axis=1) - shared
        return np.nan_to_num(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _best_overlaps(boxes: Boxes, truth: Boxes, pairs: _Pairs) -> Float[np.ndarray, " N"]:
    best = np.zeros(len(boxes))
    np.maximum.at(best, pairs.of, _overlaps(boxes, truth, pairs))
    return best


def _readings(sizes: Sizes) -> Mapping[str, Callable[[Boxes], Boxes]]:
    """What boxes may be instead, simplest first, and how to make ``x y width height`` in pixels of them."""
    whole = np.tile(sizes, 2)

    def from_corners(boxes: Boxes) -> Boxes:
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    def from_centres(boxes: Boxes) -> Boxes:
        return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)

    def swapped(boxes: Boxes) -> Boxes:
        return boxes[:, [1, 0, 3, 2]]

    shapes: dict[str, Callable[[Boxes], Boxes]] = {
        "x1 y1 x2 y2": from_corners,
        "a centre with width and height": from_centres,
        "y x height width": swapped,
        "y1 x1 y2 x2": lambda boxes: from_corners(swapped(boxes)),
    }

    def scaled(read: Callable[[Boxes], Boxes], scale: Boxes | float) -> Callable[[Boxes], Boxes]:
        return lambda boxes: read(boxes) * scale

    readings = {**shapes, "fractions of the image": scaled(_unchanged, whole)}
    readings |= {f"{name} in fractions of the image": scaled(read, whole) for name, read in shapes.items()}
    for factor in (0.5, 2.0, 0.25, 4.0):
        readings[f"those of an image {factor:g} times as large"] = scaled(_unchanged, 1 / factor)
    for side in INPUT_SIDES:
        pixels = f"pixels of a network's input of {side}x{side}"
        readings[pixels] = scaled(_unchanged, whole / side)
        readings[f"x1 y1 x2 y2 in {pixels}"] = scaled(from_corners, whole / side)
    return readings


def _unchanged(boxes: Boxes) -> Boxes:
    return boxes


def _other_classes(
    annotations: BoxAnnotations, results: BoxResults, pairs: _Pairs, best: Float[np.ndarray, " N"]
) -> list[str]:
    """Whether boxes fit objects of other classes than they say."""
    boxes = results.xywh[pairs.detections]
    alike = annotations.labels[pairs.with_] == results.labels[pairs.detections][pairs.of]
    own = np.zeros(len(boxes))
    np.maximum.at(own, pairs.of, np.where(alike, _overlaps(boxes, annotations.xywh, pairs), 0))
    fit = best >= 0.5
    share = float((own[fit] >= 0.5).mean()) if fit.any() else 1.0
    if len(annotations.class_names) < 2 or fit.mean() < LEAST_OVERLAP or share >= FEW_ALIKE:
        return []
    return [
        f"{fit.mean():.0%} of the boxes fit an annotated one, but only {share:.0%} of those have its class: are the "
        "class ids those of the annotations, or counted from 0?"
    ]
