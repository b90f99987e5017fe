"""Architectures as tables, and variants as edits of them: each function takes a table and returns another.

The order in which edits compose is: minimalistic, halved tail, width, output stride.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from mbvision.errors import ConfigError

Activation = Literal["relu", "relu6", "hardswish"]
DilationRule = Literal["tensorflow", "torchvision"]
WidthRule = Literal["ratio", "absolute", "timm"]

LAST_TAP = "c5"
"""The name of the last convolution, the one that stands outside the rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an architecture table, in the paper's columns: one block.

    ``expanded`` equals the input's channels where the block has no expansion. ``stride`` and ``dilation`` are those of
    the depthwise convolution. The three names say what others may read: the block's output, the expanded tensor
    before the depthwise convolution, and the depthwise output before squeeze and projection.
    """

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    activation: Activation
    stride: int
    dilation: int = 1
    tap: str | None = None
    expanded_tap: str | None = None
    depthwise_tap: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A whole network: 3x3 stem of stride 2, rows, and a last 1x1 convolution where there is one.

    ``activation`` is that of stem and last convolution; ``stem`` and ``last`` are channels.
    """

    stem: int
    rows: tuple[Row, ...]
    last: int | None
    activation: Activation
    stem_tap: str | None = None


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``value``, at least ``divisor`` and never below 90 % of ``value``.

    arXiv:1801.04381's released code; reference for every width of V2 and V3.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def truncate_channels(value: float) -> int:
    """``value`` cut to a whole number: MobileNetV1's widths (arXiv:1704.04861, section 3.3); at least 8, as in slim."""
    return max(int(value), 8)


def check_width(width: float) -> None:
    """Raise ConfigError unless ``width`` is a finite number above 0."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not math.isfinite(width) or width <= 0:
        raise ConfigError(f"backbone.width is {width!r}; give a finite number above 0, such as 0.35 or 1.0")


def scale_by_ratio(table: Table, width: float, rounding: Callable[[float], int] = make_divisible) -> Table:
    """Scale outputs by ``width`` and keep each row's ratio of expansion to input, as TensorFlow and timm do.

    Gives the sizes of arXiv:1801.04381 and of arXiv:1905.02244, table 9.
    """
    check_width(width)
    stem = rounding(table.stem * width)
    original, scaled, rows = table.stem, stem, []
    for row in table.rows:
        out = rounding(row.out * width)
        rows.append(replace(row, expanded=rounding(scaled * (row.expanded / original)), out=out))
        original, scaled = row.out, out
    last = None if table.last is None else rounding(table.last * width)
    return replace(table, stem=stem, rows=tuple(rows), last=last)


def scale_absolutely(table: Table, width: float) -> Table:
    """Scale outputs and expansions alike by ``width``; the last convolution is 6 times its input, as in torchvision."""
    check_width(width)
    rows = tuple(
        replace(row, expanded=make_divisible(row.expanded * width), out=make_divisible(row.out * width))
        for row in table.rows
    )
    last = None if table.last is None else 6 * rows[-1].out
    return replace(table, stem=make_divisible(table.stem * width), rows=rows, last=last)


def scale_like_timm(table: Table, width: float) -> Table:
    """As ``scale_by_ratio``, but below a width of 0.75 the stem keeps its channels: timm's MobileNetV3."""
    scaled = scale_by_ratio(table, width)
    if width >= 0.75:
        return scaled
    # the first row has no expansion: it is as wide as the stem
    rows = (replace(scaled.rows[0], expanded=table.rows[0].expanded), *scaled.rows[1:])
    return replace(scaled, stem=table.stem, rows=rows)


def scale_width(table: Table, width: float, rule: WidthRule) -> Table:
    """Apply one of the three published readings of the width multiplier."""
    if rule == "ratio":
        return scale_by_ratio(table, width)
    if rule == "timm":
        return scale_like_timm(table, width)
    if rule == "absolute":
        return scale_absolutely(table, width)
    raise ConfigError(f"backbone.width_rule is {rule!r}; choose ratio (paper), absolute (torchvision) or timm")


def limit_stride(table: Table, output_stride: int, rule: DilationRule = "tensorflow") -> Table:
    """Trade stride for dilation once ``output_stride`` is reached; channels and weights stay as they are.

    A row that loses its stride runs at the rate of the rows before it ("tensorflow", arXiv:1801.04381 section 6.3's
    released code) or is itself dilated already ("torchvision").
    """
    if isinstance(output_stride, bool) or output_stride not in (8, 16, 32):
        raise ConfigError(f"backbone.output_stride is {output_stride!r}; choose 8, 16 or 32")
    if rule not in ("tensorflow", "torchvision"):
        raise ConfigError(f"backbone.dilation_rule is {rule!r}; choose tensorflow or torchvision")
    current, rate, rows = 2, 1, []  # the stem has stride 2
    for row in table.rows:
        if current < output_stride:
            rows.append(row)
            current *= row.stride
            continue
        following = rate * row.stride
        rows.append(replace(row, stride=1, dilation=following if rule == "torchvision" else rate))
        rate = following
    return replace(table, rows=tuple(rows))


def minimalistic(table: Table) -> Table:
    """3x3 kernels, no squeeze, ReLU: the variant that TensorFlow's V3 release calls minimalistic."""
    rows = tuple(replace(row, kernel=3, squeeze=False, activation="relu") for row in table.rows)
    return replace(table, rows=rows, activation="relu")


def halve_tail(table: Table, first_expansion: bool = False) -> Table:
    """Halve the channels of the stride-32 stage and of the last convolution.

    The stage's first expansion follows from its input, which is not halved, so it stays: the dagger rows of
    arXiv:1905.02244 table 6, and torchvision's ``reduced_tail``. With ``first_expansion`` it is halved too: "RF2" of
    V3 in that paper's table 7. To be applied before any change of width or stride.
    """
    first = max(index for index, row in enumerate(table.rows) if row.stride > 1)
    rows = list(table.rows)
    for index in range(first, len(rows)):
        row = rows[index]
        halved = index > first or first_expansion
        rows[index] = replace(row, out=row.out // 2, expanded=row.expanded // 2 if halved else row.expanded)
    return replace(table, rows=tuple(rows), last=None if table.last is None else table.last // 2)


def cut_below(table: Table, taps: frozenset[str]) -> Table:
    """Drop every layer deeper than the deepest of ``taps``; a block of which only an inner tap is read stays whole."""
    if table.last is not None and LAST_TAP in taps:
        return table
    needed = [
        index + 1
        for index, row in enumerate(table.rows)
        if not taps.isdisjoint((row.tap, row.expanded_tap, row.depthwise_tap))
    ]
    return replace(table, rows=table.rows[: max(needed, default=0)], last=None)
