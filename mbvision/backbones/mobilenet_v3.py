"""MobileNetV3 (arXiv:1905.02244), Large and Small, each also in the minimalistic variant of its release."""

from collections.abc import Sequence
from typing import Literal

from mbvision.backbones.base import MobileNet
from mbvision.backbones.blocks import InvertedResidual, Padding
from mbvision.backbones.rows import (
    DilationRule,
    Row,
    Table,
    WidthRule,
    halve_tail,
    limit_stride,
    minimalistic,
    scale_width,
)
from mbvision.errors import ConfigError

ReducedTail = bool | Literal["segmentation"]

# arXiv:1905.02244v5, table 1. Earlier versions print stride 1 for the first 160 row.
LARGE = Table(
    stem=16,
    rows=(
        Row(3, 16, 16, False, "relu", 1, tap="c1"),
        Row(3, 64, 24, False, "relu", 2),
        Row(3, 72, 24, False, "relu", 1, tap="c2"),
        Row(5, 72, 40, True, "relu", 2, tap="c3_first"),
        Row(5, 120, 40, True, "relu", 1),
        Row(5, 120, 40, True, "relu", 1, tap="c3", depthwise_tap="c3_depthwise"),
        Row(3, 240, 80, False, "hardswish", 2, expanded_tap="c3_expanded"),
        Row(3, 200, 80, False, "hardswish", 1),
        Row(3, 184, 80, False, "hardswish", 1),
        Row(3, 184, 80, False, "hardswish", 1),
        Row(3, 480, 112, True, "hardswish", 1),
        Row(3, 672, 112, True, "hardswish", 1, tap="c4"),
        Row(5, 672, 160, True, "hardswish", 2, expanded_tap="c4_expanded"),
        Row(5, 960, 160, True, "hardswish", 1),
        Row(5, 960, 160, True, "hardswish", 1, tap="c5_blocks"),
    ),
    last=960,
    activation="hardswish",
)

# arXiv:1905.02244v5, table 2. It prints a squeeze for the last convolution, which the release does not have.
SMALL = Table(
    stem=16,
    stem_tap="c1",
    rows=(
        Row(3, 16, 16, True, "relu", 2, tap="c2"),
        Row(3, 72, 24, False, "relu", 2, tap="c3_first"),
        Row(3, 88, 24, False, "relu", 1, tap="c3", depthwise_tap="c3_depthwise"),
        Row(5, 96, 40, True, "hardswish", 2, expanded_tap="c3_expanded"),
        Row(5, 240, 40, True, "hardswish", 1),
        Row(5, 240, 40, True, "hardswish", 1),
        Row(5, 120, 48, True, "hardswish", 1),
        Row(5, 144, 48, True, "hardswish", 1, tap="c4"),
        Row(5, 288, 96, True, "hardswish", 2, expanded_tap="c4_expanded"),
        Row(5, 576, 96, True, "hardswish", 1),
        Row(5, 576, 96, True, "hardswish", 1, tap="c5_blocks"),
    ),
    last=576,
    activation="hardswish",
)


def mobilenet_v3_large(
    *,
    taps: Sequence[str],
    width: float = 1.0,
    output_stride: int = 32,
    reduced_tail: ReducedTail = False,
    width_rule: WidthRule = "ratio",
    dilation_rule: DilationRule = "tensorflow",
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.01,
    padding: Padding = "symmetric",
) -> MobileNet:
    """MobileNetV3-Large down to the deepest of ``taps``; ``c5`` is the last 1x1 convolution.

    ``width`` > 0; ``width_rule`` "ratio" scales expansions with their input (paper, TensorFlow), "absolute" on
    their own (torchvision), "timm" is "ratio" with a whole stem below 0.75. ``output_stride`` is 32, 16 or 8;
    ``dilation_rule`` "torchvision" dilates the block that loses its stride too. ``reduced_tail`` true halves the
    stride-32 blocks and the last convolution as detectors do (the paper's table 6, and torchvision), "segmentation"
    the stage's first expansion as well (table 7). ConfigError otherwise.
    """
    table = _edit(LARGE, reduced_tail, width, width_rule, output_stride, dilation_rule)
    return _build(table, taps, norm_eps, norm_momentum, padding)


def mobilenet_v3_small(
    *,
    taps: Sequence[str],
    width: float = 1.0,
    output_stride: int = 32,
    reduced_tail: ReducedTail = False,
    width_rule: WidthRule = "ratio",
    dilation_rule: DilationRule = "tensorflow",
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.01,
    padding: Padding = "symmetric",
) -> MobileNet:
    """MobileNetV3-Small; arguments as those of ``mobilenet_v3_large``."""
    table = _edit(SMALL, reduced_tail, width, width_rule, output_stride, dilation_rule)
    return _build(table, taps, norm_eps, norm_momentum, padding)


def mobilenet_v3_large_minimalistic(
    *,
    taps: Sequence[str],
    width: float = 1.0,
    output_stride: int = 32,
    reduced_tail: ReducedTail = False,
    width_rule: WidthRule = "ratio",
    dilation_rule: DilationRule = "tensorflow",
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.01,
    padding: Padding = "symmetric",
) -> MobileNet:
    """MobileNetV3-Large with 3x3 kernels, ReLU and no squeeze; arguments as those of ``mobilenet_v3_large``."""
    table = _edit(minimalistic(LARGE), reduced_tail, width, width_rule, output_stride, dilation_rule)
    return _build(table, taps, norm_eps, norm_momentum, padding)


def mobilenet_v3_small_minimalistic(
    *,
    taps: Sequence[str],
    width: float = 1.0,
    output_stride: int = 32,
    reduced_tail: ReducedTail = False,
    width_rule: WidthRule = "ratio",
    dilation_rule: DilationRule = "tensorflow",
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.01,
    padding: Padding = "symmetric",
) -> MobileNet:
    """MobileNetV3-Small with 3x3 kernels, ReLU and no squeeze; arguments as those of ``mobilenet_v3_large``."""
    table = _edit(minimalistic(SMALL), reduced_tail, width, width_rule, output_stride, dilation_rule)
    return _build(table, taps, norm_eps, norm_momentum, padding)


def _edit(
    table: Table,
    reduced_tail: ReducedTail,
    width: float,
    width_rule: WidthRule,
    output_stride: int,
    dilation_rule: DilationRule,
) -> Table:
    if reduced_tail not in (False, True, "segmentation"):
        raise ConfigError(f"backbone.reduced_tail is {reduced_tail!r}; choose false, true (detection) or segmentation")
    if reduced_tail:
        table = halve_tail(table, first_expansion=reduced_tail == "segmentation")
    return limit_stride(scale_width(table, width, width_rule), output_stride, dilation_rule)


def _build(table: Table, taps: Sequence[str], norm_eps: float, norm_momentum: float, padding: Padding) -> MobileNet:
    return MobileNet(
        table=table, taps=taps, block=InvertedResidual, norm_eps=norm_eps, norm_momentum=norm_momentum, padding=padding
    )
