"""An exported file beside the network that it came from, on the same images."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_iou

from mbvision.deploy.exported import ExportedNetwork, ExportedTask
from mbvision.deploy.runtime import Runtime
from mbvision.deploy.wrap import DeployedNetwork
from mbvision.structures import AttributeScores, ClassScores, Detections, Embedding, InputLabels, Segmentation

BEST = 100
"""So many of the best detections of an image are compared."""
SAME_BOX = 0.99
"""Boxes that overlap by that much (IoU), and have the same label, are the same detection of two float networks."""
LIKE_BOX = 0.5
"""The same for 8 bits, where all boxes move a little: the overlap at which AP50 counts a box as found."""


class Parity(NamedTuple):
    """How far two lots of outputs are apart.

    ``differences``: by name of output, the largest difference over the largest value; of numbers that are not picked
    from others. ``agreement``: by head, the share (0..1) of predictions that are the same.
    """

    differences: dict[str, float]
    agreement: dict[str, float]

    @property
    def largest(self) -> float:
        """The largest of the differences, 0 where everything is picked."""
        return max(self.differences.values(), default=0.0)

    @property
    def worst_agreement(self) -> float:
        """Of the heads."""
        return min(self.agreement.values())


@torch.inference_mode()
def compare(
    network: DeployedNetwork,
    runtime: Runtime,
    images: Sequence[Float[Tensor, "B 3 H W"]],
    *,
    same_box: float = SAME_BOX,
) -> Parity:
    """Run both on batches of images in 0..1; boxes of a label that overlap by ``same_box`` are the same detection."""
    exported = ExportedNetwork(runtime, network.outputs)
    names = dict(zip(network.output_names, network.outputs, strict=True))
    differences: dict[str, float] = {}
    shares: dict[str, list[float]] = {}
    for batch in images:
        ours: dict[str, dict[str, Tensor]] = {}
        for (head, name), values in zip(network.outputs, network(batch), strict=True):
            ours.setdefault(head, {})[name] = values
        theirs = exported(batch)
        for key, (head, name) in names.items():
            if ours[head][name].is_floating_point() and "count" not in ours[head]:
                apart = _apart(ours[head][name], theirs[head][name])
                differences[key] = max(differences.get(key, 0.0), apart)
        size = (batch.shape[2], batch.shape[3])
        for head, task in network.tasks.items():
            reader = ExportedTask(head, task)
            pairs = zip(reader.predict(ours[head], size), reader.predict(theirs[head], size), strict=True)
            shares.setdefault(head, []).extend(agreement(one, other, same_box) for one, other in pairs)
    return Parity(differences, {head: float(np.mean(own)) for head, own in shares.items()})


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """Infinite where one of them has a number that the other has not."""
    apart = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12))
    return math.inf if math.isnan(apart) else apart


def agreement(one: Any, other: Any, same_box: float) -> float:
    """The share of one image's predictions that are the same."""
    if isinstance(one, Detections):
        return _same_detections(one, other, same_box)
    if isinstance(one, InputLabels):
        return float((one.labels == other.labels).mean())
    if isinstance(one, Segmentation):
        return float((one.logits.argmax(dim=0) == other.logits.argmax(dim=0)).float().mean())
    if isinstance(one, Embedding):
        return float(one.vector @ other.vector)
    if isinstance(one, AttributeScores):
        return float(((one.scores > 0.5) == (other.scores > 0.5)).float().mean())
    assert isinstance(one, ClassScores)
    return float(one.scores.argmax() == other.scores.argmax())


def _same_detections(one: Detections, other: Detections, same_box: float) -> float:
    """Of the best detections of one, how many the other has too, wherever it ranks them."""
    boxes, labels = one.boxes[:BEST], one.labels[:BEST]
    if not len(boxes):
        return float(not len(other.boxes))
    if not len(other.boxes):
        return 0.0
    same = (box_iou(boxes, other.boxes) >= same_box) & (labels[:, None] == other.labels)
    return float(same.any(dim=1).float().mean())
