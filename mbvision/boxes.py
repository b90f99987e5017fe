"""SSD's box coding and exact class-wise non-maximum suppression.

Boxes are ``x1 y1 x2 y2``; anchors are ``cx cy w h``. Both are relative to the input image (0..1) here, unless a
function says otherwise: coding and overlap do not depend on the unit.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import nms

CODER_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Scale of the deltas (dx, dy, dw, dh): the inverse variances of SSD, arXiv:1512.02325."""

MAX_LOG_SIZE = math.log(1000.0 / 16)
"""Largest log ratio of box to anchor that is decoded: keeps an untrained network from overflowing."""

FIRST_PREFIX = 600
"""How many of the best candidates the first round of suppression looks at."""


def centre_size(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """Turn ``x1 y1 x2 y2`` into ``cx cy w h``."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return torch.cat([boxes[..., :2] + 0.5 * sides, sides], dim=-1)


def corners(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """Turn ``cx cy w h`` into ``x1 y1 x2 y2``."""
    half = 0.5 * boxes[..., 2:]
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def encode(boxes: Float[Tensor, "*N 4"], anchors: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """The deltas that turn each anchor into its box; boxes must have an area."""
    box = centre_size(boxes)
    shift = (box[..., :2] - anchors[..., :2]) / anchors[..., 2:]
    stretch = torch.log(box[..., 2:] / anchors[..., 2:])
    return torch.cat([shift, stretch], dim=-1) * boxes.new_tensor(CODER_WEIGHTS)


def decode(deltas: Float[Tensor, "*N 4"], anchors: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """The inverse of `encode`, not clipped to the image."""
    deltas = deltas / deltas.new_tensor(CODER_WEIGHTS)
    centre = anchors[..., :2] + deltas[..., :2] * anchors[..., 2:]
    sides = anchors[..., 2:] * torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_SIZE))
    return corners(torch.cat([centre, sides], dim=-1))


def select_detections(
    scores: Float[Tensor, "A C"],
    boxes_of: Callable[[Int[Tensor, " N"]], Float[Tensor, "N 4"]],
    *,
    score_threshold: float,
    nms_threshold: float,
    max_candidates: int | None,
    max_detections_per_class: int | None,
    max_detections: int,
) -> tuple[Float[Tensor, "N 4"], Float[Tensor, " N"], Int[Tensor, " N"]]:
    """The detections of one image: boxes, scores, labels, best first; ``boxes_of`` gives the boxes of some anchors.

    Equal scores go by label, then anchor. The result is that of the plain method: for each class the ``max_candidates``
    best scores over the threshold enter suppression, and the ``max_detections_per_class`` best of those that are left
    stay (None: all); of all classes the ``max_detections`` best. Suppression visits boxes by falling score, so
    suppressing only the best candidates gives a prefix of that result: start with a short prefix and double it until
    enough survive. Boxes are asked for candidates in the prefix alone; none of their numbers may be negative.
    """
    # Most anchors have no candidate at all; the maximum of a row finds them faster than a search of all scores.
    rows = (scores.amax(dim=1) > score_threshold).nonzero().squeeze(1)
    flat = scores[rows].t().reshape(-1)
    candidates = (flat > score_threshold).nonzero().squeeze(1)
    values = flat[candidates]
    length = FIRST_PREFIX
    while True:
        whole = length >= len(values)
        order, prefix_scores = _best(values, length)
        index = candidates[order]
        labels = torch.div(index, len(rows), rounding_mode="floor")
        # A candidate's rank in its class depends on better candidates alone, and those are all in the prefix.
        if max_candidates is not None and len(index) > max_candidates:
            few = _rank_in_class(labels) < max_candidates
            index, labels, prefix_scores = index[few], labels[few], prefix_scores[few]
        boxes = boxes_of(rows[index % len(rows)])
        # Classes are laid side by side so that they never overlap; in float64 the shift loses no digit.
        apart = boxes.double()
        if len(boxes):
            apart = apart + (boxes.amax().double() + 1) * labels[:, None]
        keep = nms(apart, torch.arange(len(apart), 0, -1, device=apart.device, dtype=apart.dtype), nms_threshold)
        if max_detections_per_class is not None and len(keep) > max_detections_per_class:
            keep = keep[_rank_in_class(labels[keep]) < max_detections_per_class]
        if whole or len(keep) >= max_detections:
            keep = keep[:max_detections]
            return boxes[keep], prefix_scores[keep], labels[keep]
        length *= 2


def _best(values: Float[Tensor, " M"], length: int) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
    """Positions and values of at least the ``length`` best, sorted; equal values keep their order, no tie is cut."""
    if length >= len(values):
        chosen = torch.arange(len(values), device=values.device)
    else:
        chosen = (values >= values.topk(length).values[-1]).nonzero().squeeze(1)
    ranked, order = values[chosen].sort(descending=True, stable=True)
    return chosen[order], ranked


def _rank_in_class(labels: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """How many earlier entries have the same label."""
    by_label, order = labels.sort(stable=True)
    position = torch.arange(len(labels), device=labels.device)
    first = torch.searchsorted(by_label, by_label)
    return torch.empty_like(order).scatter_(0, order, position - first)
