"""Lite R-ASPP (arXiv:1905.02244, section 6.4 and figure 10): a gate from a coarse pool, and a skip from stride 8."""

from collections.abc import Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mbvision.backbones.base import FeatureSpec
from mbvision.backbones.blocks import ConvNormAct
from mbvision.errors import ConfigError
from mbvision.heads.base import Head
from mbvision.heads.segmentation import SegmentationOutput, check_arguments, resize

LARGE_POOLS = {8: (97, (32, 40)), 16: (49, (16, 20)), 32: (25, (4, 5))}
"""Kernel, and stride (vertical, horizontal), of the large pool by the stride of what is pooled.

16: arXiv:1905.02244, figure 10; 32: the released models. 8 is ours: that of 16 doubled, so that the grid stays.
"""


class LargePool(nn.Module):
    """Average pool without padding, over the whole side where a side is shorter than the kernel."""

    def __init__(self, *, kernel: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, inputs: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h2 w2"]:
        """A coarse grid of means, at least 1x1."""
        height, width = inputs.shape[-2:]
        return functional.avg_pool2d(inputs, (min(self.kernel, height), min(self.kernel, width)), self.stride)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"kernel={self.kernel}, stride={self.stride}"


class LRASPP(Head):
    """Deep features through a 1x1, gated by their pooled selves, brought to the size of shallow ones and added to them.

    ``taps`` are the deep and the shallow one; the classes are told apart at the shallow one's size, on both.
    ``filters`` is the width of the 1x1. ``pool`` is ``large`` (`LARGE_POOLS`) or ``global``; ``gate`` is ``sigmoid`` or
    ``hardsigmoid``, its 1x1 has a bias unless ``gate_bias`` is false. Raises ConfigError for taps that the backbone
    lacks and for values out of range.
    """

    def __init__(
        self,
        *,
        features: Mapping[str, FeatureSpec],
        num_classes: int,
        taps: Sequence[str],
        filters: int = 128,
        pool: Literal["large", "global"] = "large",
        gate: Literal["sigmoid", "hardsigmoid"] = "sigmoid",
        gate_bias: bool = True,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        roles = "exactly two: the deep tap, then the shallow one"
        check_arguments(features=features, taps=taps, roles=roles, num_classes=num_classes, filters=filters)
        if len(taps) != 2:
            raise ConfigError(f"heads.segmentation.taps is {list(taps)}; name {roles}")
        if gate not in ("sigmoid", "hardsigmoid"):
            raise ConfigError(f"heads.segmentation.gate is {gate!r}; choose sigmoid or hardsigmoid")
        self.taps = tuple(taps)
        high, low = (features[tap] for tap in taps)
        self.project = ConvNormAct(
            high.channels, filters, activation="relu", norm_eps=1e-5, norm_momentum=norm_momentum
        )
        self.pool = _pool(pool, high.stride)
        self.gate_conv = nn.Conv2d(high.channels, filters, 1, bias=gate_bias)
        self.gate = nn.Sigmoid() if gate == "sigmoid" else nn.Hardsigmoid()
        self.high_output = nn.Conv2d(filters, num_classes, 1)
        self.low_output = nn.Conv2d(low.channels, num_classes, 1)

    def forward(self, features: Mapping[str, Tensor]) -> SegmentationOutput:
        """Logits as coarse as the shallow tap; there is no auxiliary head."""
        high, low = (features[tap] for tap in self.taps)
        projected = self.project(high)
        gate = self.gate(self.gate_conv(self.pool(high)))
        gated = projected * resize(gate, high.shape[-2:])
        # classes come after the resizing, as in the paper, although the two could change places for the same logits
        logits = self.high_output(resize(gated, low.shape[-2:])) + self.low_output(low)
        return SegmentationOutput(logits, None)


def _pool(kind: str, stride: int) -> nn.Module:
    if kind == "global":
        return nn.AdaptiveAvgPool2d(1)
    if kind != "large":
        raise ConfigError(f"heads.segmentation.pool is {kind!r}; choose large or global")
    if stride not in LARGE_POOLS:
        raise ConfigError(
            f"heads.segmentation.pool is 'large', which is not defined for a tap of stride {stride}, only for "
            f"{list(LARGE_POOLS)}; choose a deeper tap or pool=global"
        )
    kernel, steps = LARGE_POOLS[stride]
    return LargePool(kernel=kernel, stride=steps)
