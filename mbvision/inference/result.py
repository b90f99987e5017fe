"""What was found in one picture, in its own pixels: as arrays, as JSON, and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from mbvision.draw import Colour, draw_boxes, write_lines
from mbvision.draw_masks import background_of, legend, overlay, with_legend
from mbvision.draw_masks import palette as default_palette
from mbvision.masks import upsampled_labels
from mbvision.structures import (
    FOUND,
    AttributeScores,
    ClassScores,
    Detections,
    Embedding,
    Geometry,
    InputLabels,
    Segmentation,
)

MOST_CLASSES = 5
"""So many of the best classes are written and drawn."""

Image3 = UInt8[np.ndarray, "H W 3"]


def _none() -> Float[np.ndarray, "0"]:
    return np.zeros(0, dtype=np.float32)


def _no_labels() -> Int[np.ndarray, "0"]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found in one picture, as NumPy arrays; boxes are ``x1 y1 x2 y2`` in its own pixels, best first.

    ``names`` are the boxes' classes. ``mask`` has a label for each of the picture's pixels, and ``mask_names`` the
    classes' names by label; None and empty where the network does not segment. ``classes`` are the names of what the
    whole picture may show, best first, with ``class_scores`` (0..1) and ``class_labels``; empty without a classifier.
    ``attribute_scores`` are probabilities, one for each of ``attribute_names``. ``embedding`` has length 1: distances
    between such vectors compare identities.
    """

    width: int
    height: int
    boxes: Float[np.ndarray, "N 4"] = field(default_factory=lambda: np.zeros((0, 4), dtype=np.float32))
    scores: Float[np.ndarray, " N"] = field(default_factory=_none)
    labels: Int[np.ndarray, " N"] = field(default_factory=_no_labels)
    names: tuple[str, ...] = ()
    mask: UInt8[np.ndarray, "H W"] | None = None
    mask_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    class_scores: Float[np.ndarray, " C"] = field(default_factory=_none)
    class_labels: Int[np.ndarray, " C"] = field(default_factory=_no_labels)
    attribute_scores: Float[np.ndarray, " A"] = field(default_factory=_none)
    attribute_names: tuple[str, ...] = ()
    embedding: Float[np.ndarray, " D"] | None = None

    def above(self, score: float) -> "Result":
        """Only the detections with at least this score."""
        kept = self.scores >= score
        names = tuple(name for name, keep in zip(self.names, kept, strict=True) if keep)
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept], names=names)

    def as_json(self, source: str) -> dict[str, Any]:
        """The JSON of one picture: its source, its size, its detections, and what else the network says of it.

        ``classes`` (the best), ``pixels`` (how many the mask has of each class), ``attributes`` (a score for each name)
        and ``embedding`` are there where the network has such a head.
        """
        found = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), self.names, strict=True)
        content: dict[str, Any] = {
            "source": source,
            "width": self.width,
            "height": self.height,
            "detections": [{"box": b, "score": s, "label": n, "name": name} for b, s, n, name in found],
        }
        if self.classes:
            best = zip(self.class_labels.tolist(), self.classes, self.class_scores.tolist(), strict=True)
            content["classes"] = [{"label": n, "name": name, "score": s} for n, name, s in list(best)[:MOST_CLASSES]]
        if self.mask is not None:
            counts = np.bincount(self.mask.reshape(-1), minlength=len(self.mask_names)).tolist()
            content["pixels"] = {name: count for name, count in zip(self.mask_names, counts, strict=False) if count}
        if self.attribute_names:
            content["attributes"] = dict(zip(self.attribute_names, self.attribute_scores.tolist(), strict=True))
        if self.embedding is not None:
            content["embedding"] = self.embedding.tolist()
        return content


def make_result(
    predictions: Mapping[str, Any], geometry: Geometry, class_names: Mapping[str, tuple[str, ...]]
) -> Result:
    """The predictions for one picture in its own pixels; both mappings are by task."""
    height, width = geometry.original
    result = Result(width=width, height=height)
    for name, found in predictions.items():
        names = class_names[name]
        if isinstance(found, Detections):
            labels = found.labels.cpu().numpy()
            result = replace(
                result,
                boxes=geometry.to_original(found.boxes.cpu()).float().numpy(),
                scores=found.scores.cpu().numpy(),
                labels=labels,
                names=tuple(names[label] for label in labels.tolist()),
            )
        elif isinstance(found, Segmentation | InputLabels):
            result = replace(result, mask=upsampled_labels(found, geometry), mask_names=names)
        elif isinstance(found, ClassScores):
            scores, order = found.scores.cpu().sort(descending=True, stable=True)
            best = tuple(names[label] for label in order.tolist())
            result = replace(result, classes=best, class_scores=scores.numpy(), class_labels=order.numpy())
        elif isinstance(found, AttributeScores):
            result = replace(result, attribute_scores=found.scores.cpu().numpy(), attribute_names=names)
        elif isinstance(found, Embedding):
            result = replace(result, embedding=found.vector.cpu().numpy())
    return result


def draw_result(
    image: Image3, result: Result, *, box_names: Sequence[str] | None, palette: Sequence[Colour] | None
) -> Image3:
    """A copy of a picture with its result: the mask below, the boxes on top, the best classes in the corner.

    Strips below it name the mask's classes, and the attributes with a score of at least `FOUND`, the best first.
    ``box_names`` are all classes of a detector, None where there is none; ``palette`` has the masks' colours.
    """
    if result.mask is not None:
        colours = palette or default_palette(len(result.mask_names))
        image = overlay(image, result.mask, colours, background=background_of(result.mask_names))
        present = np.flatnonzero(np.bincount(result.mask.reshape(-1), minlength=256))
        image = with_legend(image, legend(result.mask_names, colours, present.tolist(), width=image.shape[1]))
    if result.attribute_names:
        image = with_legend(image, _attribute_legend(result, width=image.shape[1]))
    if box_names is not None:
        image = draw_boxes(image, result.boxes, result.labels, box_names, scores=result.scores)
    best = list(zip(result.classes, result.class_scores.tolist(), strict=True))[:MOST_CLASSES]
    return write_lines(image, [f"{name} {score:.2f}" for name, score in best])


def _attribute_legend(result: Result, *, width: int) -> Image3:
    order = [
        place for place in np.argsort(-result.attribute_scores).tolist() if result.attribute_scores[place] >= FOUND
    ]
    texts = [f"{result.attribute_names[place]} {result.attribute_scores[place]:.2f}" for place in order]
    colours = default_palette(len(result.attribute_names))
    return legend(texts, [colours[place] for place in order], range(len(order)), width=width)
