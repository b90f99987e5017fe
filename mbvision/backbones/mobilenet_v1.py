"""MobileNetV1 (arXiv:1704.04861): depthwise separable layers, one after the other."""

from collections.abc import Sequence

from mbvision.backbones.base import MobileNet
from mbvision.backbones.blocks import DepthwiseBlock, Padding
from mbvision.backbones.rows import Row, Table, limit_stride, scale_by_ratio, truncate_channels

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
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    padding: Padding = "symmetric",
) -> MobileNet:
    """MobileNetV1 down to the deepest of ``taps``; ``c5`` is layer 13, and there is no convolution after it.

    ``width`` > 0 scales every layer, cut to whole channels; ``output_stride`` is 32, 16 or 8 (by TensorFlow's rule of
    dilation). ConfigError otherwise.
    """
    table = limit_stride(scale_by_ratio(TABLE, width, truncate_channels), output_stride)
    return MobileNet(
        table=table, taps=taps, block=DepthwiseBlock, norm_eps=norm_eps, norm_momentum=norm_momentum, padding=padding
    )
