"""An exported file beside the network that it came from, on the same images."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import box_iou

from mbvision.deploy.exported import ExportedNetwork, ExportedTask
from mbvision.deploy.runtime import Runtime
from mbvision.deploy.wrap import DeployedNetwork, all_boxes
from mbvision.structures import AttributeScores, ClassScores, Detections, Embedding, InputLabels, Segmentation
from mbvision.tasks.detection import Detection

BEST = 100
"""So many of the best detections of an image are compared."""
SAME_BOX = 0.99
"""Boxes that overlap by that much (IoU), and have the same label, are the same detection of two float networks."""
LIKE_BOX = 0.5
"""The same for 8 bits, where all boxes move a little: the overlap at which AP50 counts a box as found."""


SAME_SCORE = 1e-3
"""The same for scores, of the largest score: detections that close to each other may take each other's place."""


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
    same_score: float | None = SAME_SCORE,
) -> Parity:
    """Run both on batches of images in 0..1; boxes of a label that overlap by ``same_box`` are the same detection.

    With ``same_score`` near-ties are no difference, see `same_selection`; without, boxes and labels alone are compared.
    """
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
            if isinstance(task, Detection) and same_score is not None:
                candidates = zip(*_candidates(network, task, ours[head], batch), strict=True)
                same = partial(same_selection, same_box=same_box, same_score=same_score, least=task.score_threshold)
                found = [same(one, other, *some) for (one, other), some in zip(pairs, candidates, strict=True)]
            else:
                found = [agreement(one, other, same_box) for one, other in pairs]
            shares.setdefault(head, []).extend(found)
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
    """Of the best detections of one, how many the other has too."""
    if not len(one.boxes):
        return float(not len(other.boxes))
    return float(_found(one, other, same_box).float().mean()) if len(other.boxes) else 0.0


def _candidates(
    network: DeployedNetwork, task: Detection, outputs: Mapping[str, Tensor], images: Float[Tensor, "B 3 H W"]
) -> tuple[Float[Tensor, "B A 4"], Float[Tensor, "B A C"]]:
    """The boxes and scores of all anchors, from which detections are selected."""
    if "count" not in outputs:
        return outputs["boxes"], outputs["scores"]
    raw = network.network(images)["detection"]
    return all_boxes(raw, (images.shape[2], images.shape[3])), task.scores(raw.logits)


def same_selection(
    one: Detections,
    other: Detections,
    boxes: Float[Tensor, "A 4"],
    scores: Float[Tensor, "A C"],
    *,
    same_box: float,
    same_score: float,
    least: float,
) -> float:
    """The share of one image's detections that agree, where near-ties may be decided either way.

    Rounding decides which of two boxes with almost equal scores is first, suppresses the other, or is the last one
    kept. So a detection of ``one`` agrees if the ``other`` has its box, or a score that close in the same place of the
    ranking (``least`` where that is shorter); and one of the ``other`` agrees if it is a candidate: its box is among
    the ``boxes``, with that score for its label.
    """
    count = min(len(one.boxes), BEST)
    close = same_score * max(float(one.scores.max()), least) if count else same_score
    ranked = torch.cat([other.scores[:count], other.scores.new_full((max(count - len(other.scores), 0),), least)])
    agree = [_found(one, other, same_box) | ((one.scores[:count] - ranked).abs() <= close)] if count else []
    if len(other.boxes):
        is_box = box_iou(other.boxes[:BEST], boxes) >= same_box
        is_score = (scores[:, other.labels[:BEST]].T - other.scores[:BEST, None]).abs() <= close
        agree.append((is_box & is_score).any(dim=1))
    return min((float(part.float().mean()) for part in agree), default=1.0)


def _found(one: Detections, other: Detections, same_box: float) -> Bool[Tensor, " N"]:
    """Which of the best detections of one the other has too, wherever it ranks them."""
    same = (box_iou(one.boxes[:BEST], other.boxes) >= same_box) & (one.labels[:BEST, None] == other.labels)
    return same.any(dim=1)
