"""SSDLite (arXiv:1801.04381, section 6.2): extra feature levels and separable predictors on a backbone's taps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.backbones.base import FeatureSpec
from mbvision.backbones.blocks import ConvNormAct
from mbvision.errors import ConfigError
from mbvision.heads.anchors import SSDAnchors
from mbvision.heads.base import Head

Conv = Callable[..., ConvNormAct]
Kind = Literal["separable", "dense", "pointwise"]
INIT_STD = 0.03
"""Normal initialisation of extra layers and predictors: the released TensorFlow configurations, and torchvision."""
MIN_EXTRA_CHANNELS = 16
"""No extra layer is narrower under a width multiplier: the released TensorFlow feature extractors."""


class SSDOutput(NamedTuple):
    """Raw outputs of an SSD head; logit 0 is background; what the deltas are relative to travels with them."""

    logits: Float[Tensor, "B A classes+1"]
    deltas: Float[Tensor, "B A 4"]
    anchors: Float[Tensor, "A 4"]


class SSDLite(Head):
    """Box and class predictions for the anchors of every level: the backbone's taps, then the extra layers.

    ``predictor`` is ``separable`` (SSDLite: depthwise 3x3, then 1x1), ``dense`` (SSD: 3x3) or ``pointwise`` (1x1, as
    arXiv:1704.04861 counts its SSD300); ``extra`` is ``separable`` or ``dense``. ``width`` scales the extra layers.
    ``class_bias`` is the first bias of the class outputs: -4.6 (a probability of 0.01) suits the focal loss.
    """

    def __init__(
        self,
        *,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        taps: Sequence[str],
        anchors: SSDAnchors,
        extra_channels: Sequence[int] = (512, 256, 256, 128),
        width: float = 1.0,
        predictor: Kind = "separable",
        extra: Literal["separable", "dense"] = "separable",
        norm_eps: float = 0.001,
        norm_momentum: float = 0.03,
        class_bias: float = 0.0,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ConfigError(f"num_classes={num_classes}: a detector needs at least one class")
        if missing := [tap for tap in taps if tap not in features]:
            raise ConfigError(f"heads.detection.taps: the backbone has no feature {missing}; it has {list(features)}")
        conv = partial(ConvNormAct, activation="relu6", norm_eps=norm_eps, norm_momentum=norm_momentum)
        if extra not in ("separable", "dense"):
            raise ConfigError(f"heads.detection.extra={extra!r}: choose separable or dense")
        self.taps = tuple(taps)
        self.num_classes = num_classes
        self.anchors = anchors
        channels = [features[tap].channels for tap in taps]
        self.extra = nn.ModuleList()
        for depth in extra_channels:
            half, full = (max(int(c * width), MIN_EXTRA_CHANNELS) for c in (depth / 2, depth))
            self.extra.append(_extra_layer(channels[-1], half, full, extra, conv))
            channels.append(full)
        counts = anchors.counts(len(channels))
        self.class_predictors = nn.ModuleList(
            _predictor(c, n * (num_classes + 1), predictor, conv) for c, n in zip(channels, counts, strict=True)
        )
        self.box_predictors = nn.ModuleList(
            _predictor(c, n * 4, predictor, conv) for c, n in zip(channels, counts, strict=True)
        )
        self._initialise(class_bias)

    def _initialise(self, class_bias: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for level in self.class_predictors:
            output = level[-1] if isinstance(level, nn.Sequential) else level
            assert isinstance(output, nn.Conv2d) and output.bias is not None
            nn.init.constant_(output.bias, class_bias)

    def forward(self, features: Mapping[str, Tensor]) -> SSDOutput:
        """Predictions for all anchors, level by level, row by row."""
        maps = [features[tap] for tap in self.taps]
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        logits = [_flatten(p(x), self.num_classes + 1) for p, x in zip(self.class_predictors, maps, strict=True)]
        deltas = [_flatten(p(x), 4) for p, x in zip(self.box_predictors, maps, strict=True)]
        anchors = self.anchors([(x.shape[2], x.shape[3]) for x in maps], deltas[0])
        return SSDOutput(torch.cat(logits, dim=1), torch.cat(deltas, dim=1), anchors)


def _extra_layer(channels: int, half: int, full: int, kind: str, conv: Conv) -> nn.Sequential:
    """1x1 to half the depth, then a 3x3 of stride 2 to the full depth."""
    reduce = conv(channels, half, kernel=1)
    if kind == "dense":
        return nn.Sequential(reduce, conv(half, full, kernel=3, stride=2))
    return nn.Sequential(
        reduce,
        conv(half, half, kernel=3, stride=2, groups=half),
        conv(half, full, kernel=1),
    )


def _predictor(channels: int, out: int, kind: Kind, conv: Conv) -> nn.Module:
    if kind == "dense":
        return nn.Conv2d(channels, out, 3, padding=1)
    if kind == "pointwise":
        return nn.Conv2d(channels, out, 1)
    if kind != "separable":
        raise ConfigError(f"predictor={kind!r} is no kind of predictor; choose separable, dense or pointwise")
    depthwise = conv(channels, channels, kernel=3, groups=channels)
    return nn.Sequential(depthwise, nn.Conv2d(channels, out, 1))


def _flatten(x: Float[Tensor, "B AK H W"], columns: int) -> Float[Tensor, "B HWA K"]:
    """Anchors of a cell lie together. Copied even where a view would do: a graph for any size cannot ask."""
    cells = x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    return cells.view(x.shape[0], -1, columns)
