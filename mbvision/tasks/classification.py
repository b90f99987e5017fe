"""Classification of whole images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mbvision.errors import AnnotationError, TrainingError
from mbvision.losses.classification import ClassificationLoss
from mbvision.losses.distillation import soft_classes
from mbvision.structures import ClassScores, LabelAnnotations, Target
from mbvision.tasks.base import Task

if TYPE_CHECKING:
    from mbvision.metrics.top_accuracy import TopAccuracy


class Classification(Task[Tensor, ClassScores]):
    """One class for each image, from the logits ``[B, C]`` of `Classifier`."""

    metric = "top1"

    def __init__(self, *, loss: ClassificationLoss, weight: float = 1.0) -> None:
        self.cross_entropy = loss
        self.weight = weight

    def loss(
        self, outputs: Float[Tensor, "B C"], targets: Sequence[Target], input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The loss ``class``, over the images with a label or, where several were mixed, with shares of labels.

        Raises AnnotationError for a label that is no class.
        """
        rows = [i for i, t in enumerate(targets) if t.label is not None or t.label_shares is not None]
        shares = label_shares([targets[row] for row in rows], outputs.shape[1], outputs.device)
        return self.cross_entropy(outputs[rows] if len(rows) < len(targets) else outputs, shares)

    def distillation(
        self, outputs: Float[Tensor, "B C"], teacher_outputs: Float[Tensor, "B C"], input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The loss ``class``: how far the probabilities of the classes are from the teacher's."""
        if outputs.shape != teacher_outputs.shape:
            raise TrainingError(f"it has {teacher_outputs.shape[1]} classes, the network {outputs.shape[1]}")
        return {"class": soft_classes(outputs, teacher_outputs, self.temperature).mean()}

    @torch.no_grad()
    def predict(self, outputs: Float[Tensor, "B C"], input_size: tuple[int, int]) -> list[ClassScores]:
        """The probabilities of the classes of each image."""
        return [ClassScores(scores=scores) for scores in outputs.float().softmax(dim=1)]

    def evaluator(self, annotations: LabelAnnotations) -> "TopAccuracy":
        """The share of images whose class is the best, or one of the five best."""
        from mbvision.metrics.top_accuracy import TopAccuracy  # torchmetrics needs a writable folder to import

        return TopAccuracy(annotations=annotations)


def label_shares(targets: Sequence[Target], num_classes: int, device: torch.device) -> Float[Tensor, "B C"]:
    """The shares of the classes in each image: those that were mixed, or 1 for its label.

    Raises before a kernel on the device does, which would say neither image nor label.
    """
    shares = torch.zeros(len(targets), num_classes, device=device)
    mixed = [row for row, target in enumerate(targets) if target.label_shares is not None]
    if mixed:
        shares[mixed] = torch.stack([t.label_shares for t in targets if t.label_shares is not None]).to(device)
    plain = [(row, t.label, t.image_id) for row, t in enumerate(targets) if t.label_shares is None]
    labels = [-1 if label is None else label for _, label, _ in plain]
    for (_, label, image_id), known in zip(plain, labels, strict=True):
        if not 0 <= known < num_classes:
            raise AnnotationError(
                f"image {image_id}: its label is {label}, the network has {num_classes} classes, 0 to"
                f" {num_classes - 1}; correct the annotations, or the classes of the data set"
            )
    if plain:
        shares[[row for row, _, _ in plain], labels] = 1.0
    return shares
