"""MobileNetV1 (arXiv:1704.04861): depthwise separable layers, one after the other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from mbvision.backbones.base import MobileNet
from mbvision.backbones.blocks import DenseBlock, DepthwiseBlock, Padding
from mbvision.backbones.rows import Row, Table, limit_stride, scale_by_ratio, truncate_channels
from mbvision.errors import ConfigError

Convolution = Literal["separable", "dense"]

# arXiv:1704.04861, table 1. It prints stride 2 for the last depthwise layer too, whose input and output are both 7x7.
# The paper says ReLU; its released code (slim), and with it the published weights, have ReLU6.
TABLE = Table(
    stem=32,
    rows=(
        Row(3, 32, 64, False, "relu6", 1, tap="c1"),
        Row(3, 64, 128, False, "relu6", 2),
        Row(3, 128, 128, False, "relu6", 1, tap="c2"),
        Row(3, 128, 256, False, "relu6", 2, tap="c3_first"),
        Row(3, 256, 256, False, "relu6", 1, tap="c3", depthwise_tap="c3_depthwise"),
        Row(3, 256, 512, False, "relu6", 2, expanded_tap="c3_expanded"),  # no expansion: the input itself
        Row(3, 512, 512, False, "relu6", 1),
        Row(3, 512, 512, False, "relu6", 1),
        Row(3, 512, 512, False, "relu6", 1),
        Row(3, 512, 512, False, "relu6", 1),
        Row(3, 512, 512, False, "relu6", 1, tap="c4"),
        Row(3, 512, 1024, False, "relu6", 2, expanded_tap="c4_expanded"),  # no expansion: the input itself, layer 11
        Row(3, 1024, 1024, False, "relu6", 1, tap="c5"),
    ),
    last=None,
    activation="relu6",
)


def mobilenet_v1(
    *,
    taps: Sequence[str],
    width: float = 1.0,
    output_stride: int = 32,
    convolution: Convolution = "separable",
    shallow: bool = False,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    padding: Padding = "symmetric",
) -> MobileNet:
    """MobileNetV1 down to the deepest of ``taps``; ``c5`` is layer 13, and there is no convolution after it.

    ``width`` > 0 scales every layer, cut to whole channels; ``output_stride`` is 32, 16 or 8 (by TensorFlow's rule of
    dilation). The paper compares it with two networks: ``convolution`` "dense" has one full 3x3 in the place of every
    depthwise separable layer (table 4), and ``shallow`` leaves layers 7 to 11 out (table 5). ConfigError otherwise.
    """
    if convolution not in ("separable", "dense"):
        raise ConfigError(f"backbone.convolution is {convolution!r}; choose separable or dense")
    table = shortened(TABLE) if shallow else TABLE
    if convolution == "dense":
        table = without_depthwise_taps(table)
    return MobileNet(
        table=limit_stride(scale_by_ratio(table, width, truncate_channels), output_stride),
        taps=taps,
        block=DenseBlock if convolution == "dense" else DepthwiseBlock,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        padding=padding,
    )


def shortened(table: Table) -> Table:
    """Without the five layers of 512 channels that follow the first: arXiv:1704.04861, section 4.2 and table 5."""
    return replace(table, rows=(*table.rows[:5], replace(table.rows[5], tap="c4"), *table.rows[11:]))


def without_depthwise_taps(table: Table) -> Table:
    """The same taps less those of depthwise outputs, which a full convolution does not have."""
    return replace(table, rows=tuple(replace(row, depthwise_tap=None) for row in table.rows))
