"""The loss of attributes: binary cross-entropy of each one that is known."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mbvision.losses.normalizer import loss_divisor
from mbvision.structures import IGNORE


def attribute_loss(logits: Float[Tensor, "B A"], attributes: UInt8[Tensor, "B A"]) -> Tensor:
    """The mean over all attributes of the batch that are 1 or 0; zero, with zero gradients, where none is known."""
    known = attributes != IGNORE
    goal = attributes.masked_fill(~known, 0).to(torch.float32)
    each = functional.binary_cross_entropy_with_logits(logits.float(), goal, reduction="none")
    return (each * known).sum() / loss_divisor(known.sum())
