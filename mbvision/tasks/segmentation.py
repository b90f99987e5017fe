"""Semantic segmentation with any segmentation head."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

from mbvision.errors import AnnotationError, TrainingError
from mbvision.heads.segmentation import SegmentationOutput
from mbvision.losses.distillation import soft_classes
from mbvision.losses.segmentation import SegmentationLoss
from mbvision.structures import IGNORE, MaskAnnotations, Segmentation, Target
from mbvision.tasks.base import Task

if TYPE_CHECKING:
    from mbvision.metrics.mean_iou import MeanIoU


class SemanticSegmentation(Task[SegmentationOutput, Segmentation]):
    """A class for every pixel. Predictions stay as coarse as the head's logits until they are scored or drawn."""

    metric = "mIoU"

    def __init__(self, *, loss: SegmentationLoss, weight: float = 1.0) -> None:
        self.cross_entropy = loss
        self.weight = weight

    def loss(
        self, outputs: SegmentationOutput, targets: Sequence[Target], input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Losses ``class`` and, of a head that has one, ``auxiliary``.

        Raises AnnotationError for a mask with a label that is no class.
        """
        rows = [index for index, target in enumerate(targets) if target.mask is not None]
        known = [target.mask for target in targets if target.mask is not None]
        masks = torch.stack(known) if known else outputs.logits.new_zeros((0, *input_size), dtype=torch.uint8)
        _check_labels(masks, outputs.logits.shape[1], [targets[row].image_id for row in rows])
        logits, auxiliary = outputs
        if len(rows) < len(targets):
            logits, auxiliary = logits[rows], None if auxiliary is None else auxiliary[rows]
        return self.cross_entropy(logits, auxiliary, masks)

    def distillation(
        self, outputs: SegmentationOutput, teacher_outputs: SegmentationOutput, input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Loss ``class``: the mean over the pixels of the network's own logits, however coarse the teacher's are."""
        logits, teacher = outputs.logits, teacher_outputs.logits
        if logits.shape[1] != teacher.shape[1]:
            raise TrainingError(f"it has {teacher.shape[1]} classes, the network {logits.shape[1]}")
        if teacher.shape[2:] != logits.shape[2:]:
            size = (logits.shape[2], logits.shape[3])
            teacher = functional.interpolate(teacher.float(), size, mode="bilinear", align_corners=False)
        return {"class": soft_classes(logits.movedim(1, -1), teacher.movedim(1, -1), self.temperature).mean()}

    @torch.no_grad()
    def predict(self, outputs: SegmentationOutput, input_size: tuple[int, int]) -> list[Segmentation]:
        """The logits of each image, which span the whole input."""
        return [Segmentation(logits=logits, input_size=input_size) for logits in outputs.logits.float()]

    def evaluator(self, annotations: MaskAnnotations) -> "MeanIoU":
        """Mean intersection over union, and what belongs to it."""
        from mbvision.metrics.mean_iou import MeanIoU  # torchmetrics needs a writable folder to import

        return MeanIoU(annotations=annotations)


def _check_labels(masks: UInt8[Tensor, "B H W"], num_classes: int, image_ids: Sequence[int | str]) -> None:
    """Raise before a kernel on the device does, which would say neither image nor label."""
    highest = masks.masked_fill(masks == IGNORE, 0).flatten(1).amax(dim=1).tolist()
    for label, image_id in zip(highest, image_ids, strict=True):
        if label >= num_classes:
            raise AnnotationError(
                f"image {image_id}: its mask holds the label {label}, the network has {num_classes} classes, 0 to "
                f"{num_classes - 1} ({IGNORE} is ignored); correct the mask, or the classes of the data set"
            )
