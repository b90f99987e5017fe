"""Numbers of 8 bits in the place of floats: which range they span, found on samples, and what rounding to them does.

Activations have one range a tensor, which holds 0; weights one a channel of the output, the same on both sides of 0.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 255
"""Of a range of 8 bits."""
BINS = 2048
"""Of a histogram: torch's own for quantisation has as many."""
SHARES = torch.linspace(1.0, 0.3, 15)
"""How much of what was seen above or below 0 a range may span."""


class Range(NamedTuple):
    """What 8 bits span; ``low`` is at most 0 and ``high`` at least 0."""

    low: float
    high: float

    def within(self, low: float, high: float) -> "Range":
        """The part between two bounds, for values which the next layer cuts off there."""
        return Range(max(self.low, low), min(self.high, high))

    def rounding(self) -> tuple[float, int]:
        """The step, and the number from 0 to 255 that stands for 0."""
        step = max((self.high - self.low) / STEPS, 1e-12)
        return step, round(-self.low / step)


WHOLE = Range(-math.inf, math.inf)
CUTS = {
    "relu": Range(0, math.inf),
    "relu6": Range(0, 6),
    "hardswish": Range(-3, math.inf),
    "hardsigmoid": Range(-3, 3),
}
"""By an activation's name, outside of what it gives what it gives at the ends, so that 8 bits need not reach further.

The last two: arXiv:1905.02244 section 5.2.
"""


def cut(span: Range, readers: Sequence[Range]) -> Range:
    """The part of a range that what reads the tensor, each within bounds of its own, can tell from its ends."""
    if not readers:
        return span
    return span.within(min(one.low for one in readers), max(one.high for one in readers))


class Histogram:
    """What a tensor held over many pictures: first ``see`` all of it, then ``count`` all of it."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self.counts = torch.zeros(BINS)

    def see(self, values: Tensor) -> None:
        """Widen to the least and the largest value, and to 0."""
        low, high = values.detach().aminmax()
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))

    def count(self, values: Tensor) -> None:
        """Count the values, all of which were seen."""
        if self.high > self.low:
            self.counts += torch.histc(values.detach().float(), BINS, self.low, self.high)

    def whole(self) -> Range:
        """All that was seen."""
        return Range(self.low, self.high)

    def best(self) -> Range:
        """The range whose rounding and cutting off leaves the least squared error: rare values may lie outside."""
        if self.high == self.low:
            return self.whole()
        width = (self.high - self.low) / BINS
        centres = self.low + width * (torch.arange(BINS) + 0.5)
        lows, highs = torch.meshgrid(self.low * SHARES, self.high * SHARES, indexing="ij")
        lows, highs = lows.reshape(-1, 1), highs.reshape(-1, 1)
        step = ((highs - lows) / STEPS).clamp(min=1e-12)
        zero = (-lows / step).round()
        levels = (centres / step + zero).round().clamp(0, STEPS)
        errors = ((levels - zero) * step - centres).square() @ self.counts
        chosen = int(errors.argmin())
        return Range(float(lows[chosen]), float(highs[chosen]))


def rounded(values: Tensor, span: Range) -> Tensor:
    """The values as 8 bits over a range hold them; gradients pass inside of it."""
    step, zero = span.rounding()
    return torch.fake_quantize_per_tensor_affine(values, step, zero, 0, STEPS)


def weight_steps(weights: Float[Tensor, "D ..."], bits: int = 8) -> Float[Tensor, " D"]:
    """The step of each output channel, so that the largest of its weights has the largest number."""
    largest = weights.detach().flatten(1).abs().amax(dim=1)
    return (largest / (2 ** (bits - 1) - 1)).clamp(min=1e-12)


def rounded_weights(weights: Float[Tensor, "D ..."], bits: int = 8) -> Float[Tensor, "D ..."]:
    """The weights as ``bits`` bits for each output channel hold them; gradients pass."""
    most = 2 ** (bits - 1) - 1
    zeros = torch.zeros(len(weights), dtype=torch.int32, device=weights.device)
    return torch.fake_quantize_per_channel_affine(weights, weight_steps(weights, bits), zeros, 0, -most, most)


def decibels(wanted: Iterable[Tensor], found: Iterable[Tensor]) -> float:
    """Signal to noise over pairs of tensors; infinite where they are the same."""
    signal = noise = 0.0
    for one, other in zip(wanted, found, strict=True):
        signal += float(one.double().square().sum())
        noise += float((one - other).double().square().sum())
    return float("inf") if noise == 0 else float(10 * torch.tensor(max(signal, 1e-30) / noise).log10())
