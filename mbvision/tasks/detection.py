"""Detection with an SSD head."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mbvision.boxes import decode, select_detections
from mbvision.errors import ConfigError, TrainingError
from mbvision.heads.ssdlite import SSDOutput
from mbvision.losses.distillation import soft_classes, soft_detections, soft_yes_no
from mbvision.losses.multibox import MultiBoxLoss
from mbvision.structures import BoxAnnotations, Detections, Target, concatenate_boxes
from mbvision.tasks.base import Task

if TYPE_CHECKING:
    from mbvision.metrics.box_evaluator import BoxEvaluator


class Detection(Task[SSDOutput, Detections]):
    """Boxes, scores and labels from the raw outputs of `SSDLite`.

    A detection's score (0..1) is over ``score_threshold``; of two boxes of a class that overlap by more than
    ``nms_threshold`` (IoU) the better stays. At most ``max_candidates`` of a class enter that step (torchvision's
    ``topk_candidates``), and at most ``max_detections_per_class`` of a class (TensorFlow's name) and ``max_detections``
    of an image leave it; None is no limit. ``score`` is ``softmax`` over classes and background, or ``sigmoid``.
    """

    metric = "AP"

    def __init__(
        self,
        *,
        loss: MultiBoxLoss,
        score_threshold: float = 0.001,
        nms_threshold: float = 0.55,
        max_candidates: int | None = None,
        max_detections_per_class: int | None = None,
        max_detections: int = 300,
        score: Literal["softmax", "sigmoid"] = "softmax",
        weight: float = 1.0,
    ) -> None:
        for name, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:
                raise ConfigError(f"tasks.detection.{name}={value}: must be in 0..1")
        limits = {
            "max_candidates": max_candidates,
            "max_detections_per_class": max_detections_per_class,
            "max_detections": max_detections,
        }
        for name, limit in limits.items():
            if limit is not None and limit < 1:
                raise ConfigError(f"tasks.detection.{name}={limit}: must be at least 1")
        if score not in ("softmax", "sigmoid"):
            raise ConfigError(f"tasks.detection.score={score!r}: choose softmax or sigmoid")
        self.multibox = loss
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_candidates = max_candidates
        self.max_detections_per_class = max_detections_per_class
        self.max_detections = max_detections
        self.score = score
        self.weight = weight

    def loss(self, outputs: SSDOutput, targets: Sequence[Target], input_size: tuple[int, int]) -> dict[str, Tensor]:
        """Losses ``box`` and ``class``."""
        rows = [index for index, target in enumerate(targets) if target.boxes is not None]
        logits, deltas, anchors = outputs
        if len(rows) < len(targets):
            logits, deltas = logits[rows], deltas[rows]
        boxes, labels, counts = logits.new_zeros(0, 4), logits.new_zeros(0, dtype=torch.int64), list[int]()
        if rows:
            boxes, labels, counts = concatenate_boxes(targets)
        height, width = input_size
        boxes = boxes / boxes.new_tensor((width, height, width, height))
        return self.multibox(logits, deltas, anchors.float(), boxes, labels, counts)

    def distillation(
        self, outputs: SSDOutput, teacher_outputs: SSDOutput, input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Losses ``class``, of every anchor, and ``box``, of those where the teacher sees an object."""
        logits, deltas, anchors = outputs
        teacher = teacher_outputs.logits
        if logits.shape[2] != teacher.shape[2]:
            raise TrainingError(f"it has {teacher.shape[2] - 1} classes, the network {logits.shape[2] - 1}")
        if anchors.shape != teacher_outputs.anchors.shape or not torch.allclose(anchors, teacher_outputs.anchors):
            raise TrainingError(
                f"its {len(teacher_outputs.anchors)} anchors are not the {len(anchors)} of the network: give both the"
                " same heads.detection and input_size"
            )
        if self.score == "softmax":
            classes = soft_classes(logits, teacher, self.temperature)
            foreground = 1 - teacher.float().softmax(dim=-1)[..., 0]
        else:
            classes = soft_yes_no(logits[..., 1:], teacher[..., 1:], self.temperature).sum(dim=-1)
            foreground = teacher[..., 1:].float().sigmoid().amax(dim=-1)
        return soft_detections(classes, deltas, teacher_outputs.deltas, foreground)

    def scores(self, logits: Float[Tensor, "B A classes+1"]) -> Float[Tensor, "B A classes"]:
        """How probable each class is at each anchor, without the background."""
        return (logits.float().softmax(dim=-1) if self.score == "softmax" else logits.float().sigmoid())[..., 1:]

    @torch.no_grad()
    def predict(self, outputs: SSDOutput, input_size: tuple[int, int]) -> list[Detections]:
        """Detections in pixels of the input, best first."""
        deltas, scores = outputs.deltas.float(), self.scores(outputs.logits)
        height, width = input_size
        pixels = deltas.new_tensor((width, height, width, height))
        found = []
        # One image at a time: each has its own number of candidates, and suppression stops as soon as it can.
        for image_scores, image_deltas in zip(scores, deltas, strict=True):
            boxes, values, labels = select_detections(
                image_scores,
                partial(_decoded, image_deltas, outputs.anchors.float()),
                score_threshold=self.score_threshold,
                nms_threshold=self.nms_threshold,
                max_candidates=self.max_candidates,
                max_detections_per_class=self.max_detections_per_class,
                max_detections=self.max_detections,
            )
            found.append(Detections(boxes=boxes * pixels, scores=values, labels=labels))
        return found

    def evaluator(self, annotations: BoxAnnotations) -> "BoxEvaluator":
        """The twelve COCO numbers."""
        from mbvision.metrics.box_evaluator import BoxEvaluator  # torchmetrics needs a writable folder to import

        return BoxEvaluator(annotations=annotations)


def _decoded(deltas: Float[Tensor, "A 4"], anchors: Float[Tensor, "A 4"], rows: Tensor) -> Float[Tensor, "N 4"]:
    """The boxes of these anchors, clipped to the image."""
    return decode(deltas[rows], anchors[rows]).clamp(min=0, max=1)
