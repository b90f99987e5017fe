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
    """Global pool and a linear layer to ``size`` numbers, normalised: 128 is FaceNet's (arXiv:1503.03832, section 3).

    ``num_classes`` are the training identities. Their vectors are weights of the head because they are trained with
    it; what a network gives to its users is made without them. ``dropout`` (in [0, 1)) is before the linear layer.
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
        self.embed = nn.Linear(features[self.taps[0]].channels, size)
        self.output = nn.Linear(size, num_classes, bias=False)  # its rows are the identities' vectors
        nn.init.normal_(self.output.weight)  # any direction; the length plays no part

    def forward(self, features: Mapping[str, Tensor]) -> EmbeddingOutput:
        """Normalised vectors, in float32 whatever the network computes in."""
        pooled = self.pool(features[self.taps[0]]).flatten(1)
        vectors = functional.normalize(self.embed(self.dropout(pooled)).float(), dim=1)
        return EmbeddingOutput(vectors, self.output.weight)
