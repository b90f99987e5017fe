"""Embeddings of identities: near for one, far for two, whether training has seen them or not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mbvision.errors import AnnotationError, TrainingError
from mbvision.heads.embedding import EmbeddingOutput
from mbvision.losses.distillation import squared_difference
from mbvision.losses.margin import MarginLoss
from mbvision.structures import Embedding, IdentityAnnotations, Target
from mbvision.tasks.base import Task

if TYPE_CHECKING:
    from mbvision.metrics.verification import Verification


class IdentityEmbedding(Task[EmbeddingOutput, Embedding]):
    """Learns to tell the training identities apart; is scored on pairs of pictures of others."""

    metric = "verification_AUC"

    def __init__(self, *, loss: MarginLoss, weight: float = 1.0) -> None:
        self.margin_loss = loss
        self.weight = weight

    def loss(
        self, outputs: EmbeddingOutput, targets: Sequence[Target], input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Loss ``identity``. Raises AnnotationError for an identity that the head has no vector for."""
        vectors, identities = outputs
        rows = [index for index, target in enumerate(targets) if target.identity is not None]
        known = [target.identity for target in targets if target.identity is not None]
        if (highest := max(known, default=-1)) >= len(identities):
            raise AnnotationError(
                f"image {targets[rows[known.index(highest)]].image_id}: identity {highest}, but the network has vectors"
                f" for {len(identities)}; train it on the identities that it was made for"
            )
        labels = torch.tensor(known, dtype=torch.int64, device=vectors.device)
        return {"identity": self.margin_loss(vectors[rows], identities, labels)}

    def distillation(
        self, outputs: EmbeddingOutput, teacher_outputs: EmbeddingOutput, input_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Loss ``vector``: the squared difference of embeddings (arXiv:1704.04861, section 4.7)."""
        size, teacher_size = outputs.vectors.shape[1], teacher_outputs.vectors.shape[1]
        if size != teacher_size:
            raise TrainingError(
                f"its embeddings have {teacher_size} numbers, the network's {size}: set heads.embedding.size"
            )
        return {"vector": squared_difference(outputs.vectors, teacher_outputs.vectors)}

    @torch.no_grad()
    def predict(self, outputs: EmbeddingOutput, input_size: tuple[int, int]) -> list[Embedding]:
        """The vector of each picture."""
        return [Embedding(vector=vector) for vector in outputs.vectors.float()]

    def evaluator(self, annotations: IdentityAnnotations) -> "Verification":
        """How well distances tell pairs of one identity from others."""
        from mbvision.metrics.verification import Verification  # torchmetrics needs a writable folder to import

        return Verification(annotations=annotations)
