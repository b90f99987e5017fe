"""DeepLabv3's head (arXiv:1706.05587) as the MobileNet papers use it, with and without its atrous branches."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.backbones.base import FeatureSpec
from mbvision.backbones.blocks import ConvNormAct
from mbvision.errors import ConfigError
from mbvision.heads.base import Head
from mbvision.heads.segmentation import AuxiliaryHead, SegmentationOutput, check_arguments

RATES_AT_16 = (6, 12, 18)
"""Atrous rates on features of stride 16: arXiv:1706.05587, section 3.3; doubled at stride 8, halved at 32."""


class ImagePool(nn.Module):
    """The mean of the whole map through a 1x1, spread over the map again: image-level features."""

    def __init__(self, channels: int, filters: int, *, norm_momentum: float) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = ConvNormAct(channels, filters, activation="relu", norm_momentum=norm_momentum)

    def forward(self, inputs: Float[Tensor, "B D h w"]) -> Float[Tensor, "B F h w"]:
        """The same features at every place."""
        return self.conv(self.pool(inputs)).expand(-1, -1, *inputs.shape[-2:])


class DeepLabV3(Head):
    """Parallel branches on one tap, joined by a 1x1: a 1x1, dilated 3x3 ones, and the image's mean. No decoder.

    ``taps`` are the tap to segment, and where wanted a shallower one for an auxiliary head. Without ``atrous`` only
    the 1x1 and the mean stay: what arXiv:1801.04381 (section 6.3) recommends for phones, and what arXiv:1905.02244
    calls R-ASPP. ``rates`` are the dilations, by default `RATES_AT_16` for the tap's stride; given ones are not
    scaled. ``filters`` is the width of every branch and of the join, ``dropout`` (a share in [0, 1)) follows the
    join, and ``extra_conv`` puts a 3x3 before the output, as torchvision does. Raises ConfigError for a tap that the
    backbone lacks and for numbers out of range.
    """

    def __init__(
        self,
        *,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        taps: Sequence[str],
        filters: int = 256,
        atrous: bool = True,
        rates: Sequence[int] | None = None,
        dropout: float = 0.1,
        extra_conv: bool = False,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        roles = "the tap to segment, then at most one for the auxiliary head"
        check_arguments(features=features, taps=taps, roles=roles, num_classes=num_classes, filters=filters)
        if len(taps) > 2:
            raise ConfigError(f"heads.segmentation.taps is {list(taps)}; name {roles}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"heads.segmentation.dropout is {dropout!r}; give a share of at least 0 and below 1")
        self.taps = tuple(taps)
        spec = features[taps[0]]
        self.rates = _rates(atrous, rates, spec.stride)
        self.branches = nn.ModuleList([_conv(spec.channels, filters, norm_momentum)])
        self.branches += [_conv(spec.channels, filters, norm_momentum, 3, rate) for rate in self.rates]
        self.image = ImagePool(spec.channels, filters, norm_momentum=norm_momentum)
        self.project = _conv((len(self.branches) + 1) * filters, filters, norm_momentum)
        self.dropout = nn.Dropout(dropout)
        self.extra = _conv(filters, filters, norm_momentum, 3) if extra_conv else nn.Identity()
        self.output = nn.Conv2d(filters, num_classes, 1)
        self.auxiliary: AuxiliaryHead | None = None
        if len(taps) == 2:
            self.auxiliary = AuxiliaryHead(features[taps[1]].channels, num_classes, norm_momentum=norm_momentum)

    def forward(self, features: Mapping[str, Tensor]) -> SegmentationOutput:
        """Logits as coarse as the tap."""
        inputs = features[self.taps[0]]
        joined = torch.cat([*(branch(inputs) for branch in self.branches), self.image(inputs)], dim=1)
        logits = self.output(self.extra(self.dropout(self.project(joined))))
        return SegmentationOutput(logits, None if self.auxiliary is None else self.auxiliary(features[self.taps[1]]))


def _rates(atrous: bool, rates: Sequence[int] | None, stride: int) -> tuple[int, ...]:
    if not atrous:
        if rates is not None:
            raise ConfigError(f"heads.segmentation.rates is {list(rates)} without atrous branches; set atrous=true")
        return ()
    if rates is None:
        return tuple(max(rate * 16 // stride, 1) for rate in RATES_AT_16)
    if not rates or any(isinstance(rate, bool) or not isinstance(rate, int) or rate < 1 for rate in rates):
        raise ConfigError(f"heads.segmentation.rates is {list(rates)}; give whole numbers of at least 1, or null")
    return tuple(rates)


def _conv(channels: int, filters: int, momentum: float, kernel: int = 1, rate: int = 1) -> ConvNormAct:
    return ConvNormAct(
        channels, filters, activation="relu", kernel=kernel, dilation=rate, norm_eps=1e-5, norm_momentum=momentum
    )
