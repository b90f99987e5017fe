"""The loss of segmentation: cross-entropy of every pixel, or of the hard ones alone."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from mbvision.errors import ConfigError
from mbvision.losses.normalizer import Normalizer, check_normalizer, loss_divisor
from mbvision.structures import IGNORE


class SegmentationLoss:
    """Mean cross-entropy over the pixels that count, at the size of the masks.

    ``class_weights`` has one number of at least 0 for each class; the mean is then weighted, as torch's. With
    ``ohem_threshold`` (online hard example mining, arXiv:1604.03540) only pixels count whose right class has at most
    that probability (0..1), and at least the ``ohem_min_kept`` hardest of the batch. ``auxiliary_weight`` scales the
    loss of an auxiliary head: 0.4 is arXiv:1612.01105's; torchvision's references take 0.5.

    Of several processes each has a part of the batch: ``normalizer`` says whether its sum is divided by the mean of
    the weights of all (``global``) or by its own (``process``), see `loss_divisor`; hard pixels are those of its part.
    """

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        ohem_threshold: float | None = None,
        ohem_min_kept: int = 100_000,
        auxiliary_weight: float = 0.4,
        normalizer: Normalizer = "global",
    ) -> None:
        if class_weights is not None and not all(weight >= 0 for weight in class_weights):
            raise ConfigError(f"class_weights={list(class_weights)}: each must be 0 or more")
        if ohem_threshold is not None and not 0 <= ohem_threshold <= 1:
            raise ConfigError(f"ohem_threshold={ohem_threshold}: give a probability in 0..1, or null for all pixels")
        if ohem_min_kept < 1:
            raise ConfigError(f"ohem_min_kept={ohem_min_kept}: keep at least 1 pixel")
        if not auxiliary_weight >= 0:
            raise ConfigError(f"auxiliary_weight={auxiliary_weight}: must be 0 or more")
        check_normalizer(normalizer)
        self.class_weights = class_weights
        self.ohem_threshold = ohem_threshold
        self.ohem_min_kept = ohem_min_kept
        self.auxiliary_weight = auxiliary_weight
        self.normalizer = normalizer

    def __call__(
        self,
        logits: Float[Tensor, "B C h w"],
        auxiliary: Float[Tensor, "B C h2 w2"] | None,
        masks: UInt8[Tensor, "B H W"],
    ) -> dict[str, Tensor]:
        """``class``, and ``auxiliary`` for such a head; zero, with zero gradients, where no pixel counts.

        Labels are below the number of classes, or 255 (ignored): the task has checked them.
        """
        losses = {"class": self._cross_entropy(logits, masks)}
        if auxiliary is not None:
            losses["auxiliary"] = self.auxiliary_weight * self._cross_entropy(auxiliary, masks)
        return losses

    def _cross_entropy(self, logits: Tensor, masks: Tensor) -> Tensor:
        upsampled = functional.interpolate(logits.float(), masks.shape[-2:], mode="bilinear", align_corners=False)
        each = functional.cross_entropy(upsampled, masks.long(), ignore_index=IGNORE, reduction="none")
        with torch.no_grad():
            counted = masks != IGNORE
            if self.ohem_threshold is not None and len(masks):
                counted &= hard_pixels(each, counted, self.ohem_threshold, self.ohem_min_kept)
            weights = counted * self._weights(masks, logits.shape[1])
            total = loss_divisor(weights.sum(), self.normalizer)
        return (each * weights).sum() / total

    def _weights(self, masks: Tensor, num_classes: int) -> Float[Tensor, "..."]:
        """Each pixel's weight; anything where it is ignored."""
        if self.class_weights is None:
            return torch.ones((), device=masks.device)
        if len(self.class_weights) != num_classes:
            raise ConfigError(
                f"tasks.segmentation.loss.class_weights has {len(self.class_weights)} numbers for {num_classes} "
                "classes; give one for each class"
            )
        table = torch.tensor(self.class_weights, dtype=torch.float32, device=masks.device)
        return table[masks.clamp(max=num_classes - 1).long()]


def hard_pixels(
    losses: Float[Tensor, "B H W"], counted: Bool[Tensor, "B H W"], threshold: float, min_kept: int
) -> Bool[Tensor, "B H W"]:
    """Which pixels are hard, from the cross-entropy of each.

    Those of at most probability ``threshold``; where fewer than ``min_kept`` are, the ``min_kept`` least probable of
    the batch (all that ``counted`` where there are not so many). What is not counted comes out as anything.
    """
    probability = torch.exp(-losses).masked_fill(~counted, torch.inf)
    bound = probability.flatten().kthvalue(min(min_kept, probability.numel())).values
    return probability <= bound.clamp(min=threshold)
