"""The loss of classification: cross-entropy with smoothed labels."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mbvision.errors import ConfigError
from mbvision.losses.normalizer import loss_divisor


class ClassificationLoss:
    """Mean cross-entropy over the images.

    ``label_smoothing`` (0..1) is the share of a label that is spread over all classes alike (arXiv:1512.00567, section
    7); 0.1 is that paper's.
    """

    def __init__(self, *, label_smoothing: float = 0.1) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"tasks.classification.loss.label_smoothing={label_smoothing}: must be in 0..1")
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Float[Tensor, "B C"], shares: Float[Tensor, "B C"]) -> dict[str, Tensor]:
        """``class``; each row of ``shares`` adds up to 1, a plain label is 1 at its place."""
        loss = functional.cross_entropy(logits.float(), shares, label_smoothing=self.label_smoothing, reduction="sum")
        return {"class": loss / loss_divisor(torch.tensor(len(shares), device=logits.device))}
