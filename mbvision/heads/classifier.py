"""Image classification: global pool, optional hidden layer, dropout, linear."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from mbvision.backbones.base import FeatureSpec, check_taps
from mbvision.backbones.blocks import make_activation
from mbvision.backbones.rows import Activation
from mbvision.errors import ConfigError
from mbvision.heads.base import Head


class Classifier(Head):
    """Logits from the one tap in ``taps``, for any size of its map.

    ``hidden`` is the width of the layer between pool and output, with a bias and no norm (MobileNetV3: 1280 in Large
    and 1024 in Small, arXiv:1905.02244 tables 1 and 2), None for none (V1, V2); ``activation`` follows it and is
    unused without it. ``dropout`` is the share that is dropped, in [0, 1); 0.2 is arXiv:1801.04381's and 1905.02244's.
    Raises ConfigError for a tap the backbone lacks and for numbers out of range.
    """

    def __init__(
        self,
        *,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        taps: Sequence[str] = ("c5",),
        hidden: int | None = None,
        activation: Activation = "hardswish",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if len(taps) != 1:
            raise ConfigError(f"heads.classification.taps is {list(taps)}; a classifier reads exactly one tap")
        check_taps(taps, features)
        if num_classes < 1:
            raise ConfigError(f"num_classes is {num_classes!r}; a classifier needs at least one class")
        if hidden is not None and hidden < 1:
            raise ConfigError(f"heads.classification.hidden is {hidden!r}; give a width of at least 1, or null")
        if not 0 <= dropout < 1:
            raise ConfigError(f"heads.classification.dropout is {dropout!r}; give a share of at least 0 and below 1")
        self.taps = tuple(taps)
        channels = features[self.taps[0]].channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Identity() if hidden is None else nn.Linear(channels, hidden)
        self.act = make_activation(None if hidden is None else activation)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(channels if hidden is None else hidden, num_classes)
        for layer in (self.hidden, self.output):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)  # as torchvision's MobileNets
                nn.init.zeros_(layer.bias)

    def forward(self, features: Mapping[str, Tensor]) -> Float[Tensor, "B classes"]:
        """One logit per class, not normalised."""
        pooled = self.pool(features[self.taps[0]]).flatten(1)
        return self.output(self.dropout(self.act(self.hidden(pooled))))
