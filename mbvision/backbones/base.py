"""What a backbone is, and how a table becomes one. Images come in normalised; feature maps go out by tap name."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from mbvision.backbones.blocks import (
    Block,
    ConvNormAct,
    DenseBlock,
    DepthwiseBlock,
    InvertedResidual,
    Padding,
    initialise_convolutions,
)
from mbvision.backbones.rows import LAST_TAP, Row, Table, cut_below
from mbvision.errors import ConfigError


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """The channels of a feature map, and how many input pixels one of its cells spans."""

    channels: int
    stride: int


class Backbone(nn.Module, ABC):
    """Images to named feature maps.

    ``features`` lists every tap it could return, ``taps`` those it does; ``rows`` is the table it was built from.
    ``last`` is ``nn.Identity`` where there is no last convolution. A map of stride ``s`` has ``ceil(H / s)`` rows.
    """

    features: Mapping[str, FeatureSpec]
    taps: tuple[str, ...]
    rows: tuple[Row, ...]
    stem: nn.Module
    blocks: nn.ModuleList
    last: nn.Module

    @abstractmethod
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        """The taps of normalised images, each ``[B, channels, ceil(H / stride), ceil(W / stride)]``."""


def check_taps(taps: Iterable[str], features: Mapping[str, FeatureSpec]) -> None:
    """Raise ConfigError if one of ``taps`` is not among ``features``."""
    unknown = [tap for tap in taps if tap not in features]
    if unknown:
        raise ConfigError(f"backbone has no feature {unknown}; it has {list(features)}")


def feature_specs(table: Table) -> dict[str, FeatureSpec]:
    """Every tap that a table names, shallowest first."""
    specs: dict[str | None, FeatureSpec] = {table.stem_tap: FeatureSpec(table.stem, 2)}
    stride = 2
    for row in table.rows:
        specs[row.expanded_tap] = FeatureSpec(row.expanded, stride)
        stride *= row.stride
        specs[row.depthwise_tap] = FeatureSpec(row.expanded, stride)
        specs[row.tap] = FeatureSpec(row.out, stride)
    if table.last is not None:
        specs[LAST_TAP] = FeatureSpec(table.last, stride)
    return {tap: spec for tap, spec in specs.items() if tap is not None}


class MobileNet(Backbone):
    """A table, built down to the deepest of ``taps``.

    Raises ConfigError for a tap that the table does not name, or for none at all.
    """

    def __init__(
        self,
        *,
        table: Table,
        taps: Sequence[str],
        block: type[DepthwiseBlock] | type[DenseBlock] | type[InvertedResidual],
        norm_eps: float,
        norm_momentum: float,
        padding: Padding,
    ) -> None:
        super().__init__()
        self.features = feature_specs(table)
        self.taps = tuple(dict.fromkeys(taps))
        check_taps(self.taps, self.features)
        if not self.taps:
            raise ConfigError(f"backbone.taps is empty; name at least one of {list(self.features)}")
        self.table = cut_below(table, frozenset(self.taps))
        self.rows = self.table.rows
        activation = table.activation
        self.stem = ConvNormAct(
            3,
            table.stem,
            activation=activation,
            kernel=3,
            stride=2,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
            padding=padding,
        )
        channels = [table.stem, *(row.out for row in self.rows)]
        self.blocks = nn.ModuleList(
            block(width, row, norm_eps=norm_eps, norm_momentum=norm_momentum, padding=padding)
            for width, row in zip(channels, self.rows, strict=False)
        )
        self.last = nn.Identity()
        if self.table.last is not None:
            self.last = ConvNormAct(
                channels[-1], self.table.last, activation=activation, norm_eps=norm_eps, norm_momentum=norm_momentum
            )
        initialise_convolutions(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        """The taps, shallowest first; see Backbone."""
        found: dict[str | None, Tensor] = {}  # only what was asked for, so that the rest is freed on the way
        x = self.stem(images)
        if self.table.stem_tap in self.taps:
            found[self.table.stem_tap] = x
        for block, row in zip(cast(Iterable[Block], self.blocks), self.rows, strict=True):
            if row.expanded_tap in self.taps or row.depthwise_tap in self.taps:
                expanded = block.expand(x)
                depthwise = block.depthwise(expanded)
                x = block.finish(x, depthwise)
                found |= {row.expanded_tap: expanded, row.depthwise_tap: depthwise}
            else:
                x = block(x)
            if row.tap in self.taps:
                found[row.tap] = x
        if self.table.last is not None:
            found[LAST_TAP] = self.last(x)
        return {tap: found[tap] for tap in self.features if tap in self.taps}
