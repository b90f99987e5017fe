"""Attributes of a picture: any number of yes-or-no questions, one logit each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mbvision.errors import AnnotationError, TrainingError
from mbvision.losses.attributes import attribute_loss
from mbvision.losses.distillation import soft_yes_no
from mbvision.structures import AttributeAnnotations, AttributeScores, Target
from mbvision.tasks.base import Task

if TYPE_CHECKING:
    from mbvision.metrics.attribute_ap import AttributeAP


class Attributes(Task[Tensor, AttributeScores]):
    """Independent probabilities from a classifier's logits ``[B, A]``."""

    metric = "mean_AP"

    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = weight

    def loss(
        self, outputs: Float[Tensor, "B A"], targets: Sequence[Target], input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Loss ``class``: binary cross-entropy of the attributes that are known.

        Raises AnnotationError for another number of attributes than the network has.
        """
        rows = [index for index, target in enumerate(targets) if target.attributes is not None]
        known = [target.attributes for target in targets if target.attributes is not None]
        if wrong := [row for row, own in zip(rows, known, strict=True) if len(own) != outputs.shape[1]]:
            raise AnnotationError(
                f"image {targets[wrong[0]].image_id}: not the {outputs.shape[1]} attributes of the network"
            )
        values = torch.stack(known) if known else outputs.new_zeros((0, outputs.shape[1]), dtype=torch.uint8)
        return {"class": attribute_loss(outputs if len(rows) == len(targets) else outputs[rows], values)}

    def distillation(
        self, outputs: Float[Tensor, "B A"], teacher_outputs: Float[Tensor, "B A"], input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Loss ``class``: each attribute's cross-entropy against the teacher's (arXiv:1704.04861, section 4.6)."""
        if outputs.shape != teacher_outputs.shape:
            raise TrainingError(f"it has {teacher_outputs.shape[1]} attributes, the network {outputs.shape[1]}")
        return {"class": soft_yes_no(outputs, teacher_outputs, self.temperature).mean()}

    @torch.no_grad()
    def predict(self, outputs: Float[Tensor, "B A"], input_size: tuple[int, int]) -> list[AttributeScores]:
        """The probability of each attribute."""
        return [AttributeScores(scores=scores) for scores in outputs.float().sigmoid()]

    def evaluator(self, annotations: AttributeAnnotations) -> "AttributeAP":
        """The average precision of each attribute, and their mean."""
        from mbvision.metrics.attribute_ap import AttributeAP  # torchmetrics needs a writable folder to import

        return AttributeAP(annotations=annotations)
