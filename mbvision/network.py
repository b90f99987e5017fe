"""One backbone and any number of named heads: tensors in, tensors out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.backbones.base import Backbone
from mbvision.heads.base import Head

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
"""Training on several GPUs replaces the former by the latter, which is no subclass of it."""


class Network(nn.Module):
    """Normalises images in 0..1, runs the backbone once and every head on its features.

    ``mean`` and ``std`` (three numbers each, in 0..1) are buffers: they travel with the weights.
    """

    def __init__(
        self, *, backbone: Backbone, heads: Mapping[str, Head], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1))
        self.backbone_frozen = self.norms_frozen = False
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Any]:
        """Raw outputs by head name, for RGB images in 0..1."""
        features = self.backbone((images - self.mean).div_(self.std))
        return {name: head(features) for name, head in self.heads.items()}

    def freeze_backbone(self) -> None:
        """Keep the backbone as it is: no gradients, and its norms use and keep their running statistics."""
        self.backbone_frozen = True
        self.backbone.requires_grad_(False).eval()

    def freeze_norms(self) -> None:
        """Let batch norms use and keep their running statistics; their weights still learn."""
        self.norms_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """Training mode for all but a frozen backbone and frozen norms."""
        super().train(mode)
        if self.norms_frozen:
            for module in self.modules():
                if isinstance(module, BATCH_NORMS):
                    module.eval()
        if self.backbone_frozen:
            self.backbone.eval()
        return self
