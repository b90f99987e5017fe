"""Embeddings: a vector of length 1 for each picture, near to those of the same identity."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mbvision.backbones.base import FeatureSpec, check_taps
from mbvision.errors import ConfigError
from mbvision.heads.base import Head


class EmbeddingOutput(NamedTuple):
    """Vectors of length 1; ``identities`` are the training identities' own, of any length, for the loss alone."""

    vectors: Float[Tensor, "B D"]
    identities: Float[Tensor, "C D"]


class EmbeddingHead(Head):
    """Global pool, a linear layer to ``size`` numbers and a batch norm, then length 1.

    128 numbers are FaceNet's (arXiv:1503.03832, section 3). The norm is arXiv:1801.07698's (section 3.1): without it
    the vectors of an untrained network all point one way, and training hardly begins. ``num_classes`` are the training
    identities. Their vectors are weights of the head because they are trained with it; what a network gives to its
    users is made without them. ``dropout`` (in [0, 1)) is before the linear layer.
    Raises ConfigError for a tap the backbone lacks and for numbers out of range.
    """

    def __init__(
        self,
        *,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        taps: Sequence[str] = ("c5",),
        size: int = 128,
        dropout: float = 0.0,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if len(taps) != 1:
            raise ConfigError(f"heads.embedding.taps is {list(taps)}; an embedding reads exactly one tap")
        check_taps(taps, features)
        if num_classes < 1:
            raise ConfigError(f"num_classes is {num_classes!r}; embeddings are trained on at least one identity")
        if size < 2:
            raise ConfigError(f"heads.embedding.size is {size!r}; a vector of length 1 needs at least 2 numbers")
        if not 0 <= dropout < 1:
            raise ConfigError(f"heads.embedding.dropout is {dropout!r}; give a share of at least 0 and below 1")
        self.taps = tuple(taps)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.embed = nn.Conv2d(features[self.taps[0]].channels, size, 1, bias=False)
        self.norm = nn.BatchNorm2d(size, momentum=norm_momentum)
        self.output = nn.Linear(size, num_classes, bias=False)  # its rows are the identities' vectors
        nn.init.normal_(self.output.weight, std=size**-0.5)  # any direction; the length sets how fast it turns

    def forward(self, features: Mapping[str, Tensor]) -> EmbeddingOutput:
        """Normalised vectors, in float32 whatever the network computes in."""
        pooled = self.dropout(self.pool(features[self.taps[0]]))
        vectors = self.norm(self.embed(pooled)).flatten(1).float()
        return EmbeddingOutput(functional.normalize(vectors, dim=1), self.output.weight)
