"""MobileNetV2 (arXiv:1801.04381): inverted residuals with linear bottlenecks."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mbvision.backbones.base import MobileNet
from mbvision.backbones.blocks import InvertedResidual, Padding
from mbvision.backbones.rows import Row, Table, halve_tail, limit_stride, make_divisible, scale_by_ratio
from mbvision.errors import ConfigError

# arXiv:1801.04381, table 2, its repeats written out; the first row has no expansion.
TABLE = Table(
    stem=32,
    rows=(
        Row(3, 32, 16, False, "relu6", 1, tap="c1"),
        Row(3, 96, 24, False, "relu6", 2),
        Row(3, 144, 24, False, "relu6", 1, tap="c2"),
        Row(3, 144, 32, False, "relu6", 2, tap="c3_first"),
        Row(3, 192, 32, False, "relu6", 1),
        Row(3, 192, 32, False, "relu6", 1, tap="c3", depthwise_tap="c3_depthwise"),
        Row(3, 192, 64, False, "relu6", 2, expanded_tap="c3_expanded"),
        Row(3, 384, 64, False, "relu6", 1),
        Row(3, 384, 64, False, "relu6", 1),
        Row(3, 384, 64, False, "relu6", 1),
        Row(3, 384, 96, False, "relu6", 1),
        Row(3, 576, 96, False, "relu6", 1),
        Row(3, 576, 96, False, "relu6", 1, tap="c4"),
        Row(3, 576, 160, False, "relu6", 2, expanded_tap="c4_expanded"),
        Row(3, 960, 160, False, "relu6", 1),
        Row(3, 960, 160, False, "relu6", 1),
        Row(3, 960, 320, False, "relu6", 1, tap="c5_blocks"),
    ),
    last=1280,
    activation="relu6",
)


def mobilenet_v2(
    *,
    taps: Sequence[str],
    width: float = 1.0,
    output_stride: int = 32,
    scale_last: bool = False,
    channel_divisor: int = 8,
    reduced_tail: bool = False,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    padding: Padding = "symmetric",
) -> MobileNet:
    """MobileNetV2 down to the deepest of ``taps``; ``c5`` is the 1280 convolution, ``c5_blocks`` the 320 block before.

    ``width`` > 0 scales every layer, except that below 1 the last convolution keeps its 1280 channels, as the paper's
    classifiers do; with ``scale_last`` it follows, as in TensorFlow's detectors. Widths are multiples of
    ``channel_divisor``: 8, or 1 in the narrow models that TensorFlow's DeepLab released. ``output_stride`` is 32, 16 or
    8 (by TensorFlow's rule of dilation). ``reduced_tail`` halves the stride-32 blocks, not the last convolution, which
    segmentation leaves out (arXiv:1905.02244 table 7, "RF2"). ConfigError for values out of range.
    """
    if isinstance(channel_divisor, bool) or not isinstance(channel_divisor, int) or channel_divisor < 1:
        raise ConfigError(f"backbone.channel_divisor is {channel_divisor!r}; give a whole number from 1 up, such as 8")
    table = replace(halve_tail(TABLE), last=TABLE.last) if reduced_tail else TABLE
    table = scale_by_ratio(table, width, partial(make_divisible, divisor=channel_divisor))
    if width < 1 and not scale_last:
        table = replace(table, last=TABLE.last)
    return MobileNet(
        table=limit_stride(table, output_stride),
        taps=taps,
        block=InvertedResidual,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        padding=padding,
    )
