"""The layers MobileNets are made of. Feature maps are ``[B, C, H, W]``; a stride ``s`` gives ``ceil(H / s)`` rows."""

from abc import ABC, abstractmethod
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mbvision.backbones.rows import Activation, Row, make_divisible
from mbvision.errors import ConfigError

Padding = Literal["symmetric", "same"]


def make_activation(name: Activation | None) -> nn.Module:
    """The activation of that name; None gives the identity."""
    if name is None:
        return nn.Identity()
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "relu6":
        return nn.ReLU6(inplace=True)
    if name == "hardswish":
        return nn.Hardswish()  # not in place: its gradient needs the input, so autograd would copy it first
    raise ConfigError(f"activation is {name!r}; choose relu, relu6, hardswish or null")


def initialise_convolutions(module: nn.Module) -> None:
    """Fill every convolution below ``module``: Kaiming normal over the outputs, biases 0, as torchvision does."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class SamePad(nn.Module):
    """TensorFlow's "SAME" zero padding: what is odd goes to the bottom and the right. Needs ``reach >= stride``."""

    def __init__(self, *, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.stride = stride
        self.reach = (kernel - 1) * dilation + 1
        if self.reach < stride:
            raise ValueError(f"a kernel that reaches {self.reach} pixels cannot be padded for stride {stride}")

    def forward(self, inputs: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        """Pad so that a convolution without padding gives ``ceil(size / stride)``."""
        height, width = inputs.shape[-2:]
        # (ceil(n / s) - 1) * s + reach - n, with ceil(n / s) * s - n = -n mod s
        rows = self.reach - self.stride + -height % self.stride
        columns = self.reach - self.stride + -width % self.stride
        top, left = rows // 2, columns // 2
        return functional.pad(inputs, (left, columns - left, top, rows - top))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"reach={self.reach}, stride={self.stride}"


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, activation (None for a linear one). ``kernel`` is odd.

    ``padding`` "symmetric" is torch's, ``dilation * (kernel - 1) / 2`` on each side; "same" is TensorFlow's. They
    differ only where a stride meets an even size. ``norm_eps`` > 0; ``norm_momentum``, the share of the new batch in
    the running statistics, lies in (0, 1].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        activation: Activation | None,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        if padding not in ("symmetric", "same"):
            raise ConfigError(f"padding is {padding!r}; choose symmetric (torch) or same (TensorFlow)")
        if not isinstance(norm_eps, int | float) or not norm_eps > 0:
            raise ConfigError(f"norm_eps is {norm_eps!r}; give a number above 0")
        if not isinstance(norm_momentum, int | float) or not 0 < norm_momentum <= 1:
            raise ConfigError(f"norm_momentum is {norm_momentum!r}; give a number above 0 and at most 1")
        # without a stride both paddings are the same, and the convolution pads for nothing
        uneven = padding == "same" and stride > 1
        self.pad = SamePad(kernel=kernel, stride=stride, dilation=dilation) if uneven else nn.Identity()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=0 if uneven else dilation * (kernel - 1) // 2,
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=norm_eps, momentum=norm_momentum)
        self.act = make_activation(activation)

    def forward(self, inputs: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        """Apply the three in turn."""
        return self.act(self.norm(self.conv(self.pad(inputs))))


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means (arXiv:1905.02244 section 5.3).

    A quarter of ``channels`` in between, ReLU, then hard sigmoid; both convolutions have a bias and no norm.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = make_divisible(channels / 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, inputs: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The inputs, each channel scaled by its gate in 0..1."""
        return inputs * self.gate(self.expand(self.act(self.reduce(self.pool(inputs)))))


class Block(nn.Module, ABC):
    """One row of a table, in three steps whose results others may read: expand, depthwise, finish."""

    expand: nn.Module
    depthwise: nn.Module

    @abstractmethod
    def finish(self, inputs: Float[Tensor, "B C H W"], depthwise: Float[Tensor, "B E H2 W2"]) -> Tensor:
        """The block's output ``[B, D, H2, W2]`` from its input and its depthwise result."""

    def forward(self, inputs: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        """All three steps."""
        return self.finish(inputs, self.depthwise(self.expand(inputs)))


class DepthwiseBlock(Block):
    """MobileNetV1's layer: depthwise, then pointwise, each with norm and activation (arXiv:1704.04861 figure 3)."""

    def __init__(
        self, in_channels: int, row: Row, *, norm_eps: float, norm_momentum: float, padding: Padding = "symmetric"
    ) -> None:
        super().__init__()
        self.expand = nn.Identity()
        self.depthwise = ConvNormAct(
            in_channels,
            in_channels,
            activation=row.activation,
            kernel=row.kernel,
            stride=row.stride,
            dilation=row.dilation,
            groups=in_channels,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
            padding=padding,
        )
        self.project = ConvNormAct(
            in_channels, row.out, activation=row.activation, norm_eps=norm_eps, norm_momentum=norm_momentum
        )

    def finish(self, inputs: Float[Tensor, "B C H W"], depthwise: Float[Tensor, "B C H2 W2"]) -> Tensor:
        """The pointwise convolution; ``inputs`` is not needed."""
        return self.project(depthwise)


class DenseBlock(Block):
    """What MobileNetV1's layer replaces: one full convolution with norm and activation (arXiv:1704.04861 table 4)."""

    def __init__(
        self, in_channels: int, row: Row, *, norm_eps: float, norm_momentum: float, padding: Padding = "symmetric"
    ) -> None:
        super().__init__()
        self.expand = nn.Identity()
        self.depthwise = nn.Identity()
        self.conv = ConvNormAct(
            in_channels,
            row.out,
            activation=row.activation,
            kernel=row.kernel,
            stride=row.stride,
            dilation=row.dilation,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
            padding=padding,
        )

    def finish(self, inputs: Float[Tensor, "B C H W"], depthwise: Float[Tensor, "B C H W"]) -> Tensor:
        """The convolution; ``depthwise`` is ``inputs``."""
        return self.conv(inputs)


class InvertedResidual(Block):
    """Expand, depthwise, squeeze, project without activation, add the input (arXiv:1801.04381 section 3.3).

    There is no expansion where the row does not widen its input, no squeeze where the row has none (both are then
    ``nn.Identity``), and the input is added only where size and channels stay.
    """

    def __init__(
        self, in_channels: int, row: Row, *, norm_eps: float, norm_momentum: float, padding: Padding = "symmetric"
    ) -> None:
        super().__init__()
        self.residual = row.stride == 1 and in_channels == row.out
        self.expand = nn.Identity()
        if row.expanded != in_channels:
            self.expand = ConvNormAct(
                in_channels, row.expanded, activation=row.activation, norm_eps=norm_eps, norm_momentum=norm_momentum
            )
        self.depthwise = ConvNormAct(
            row.expanded,
            row.expanded,
            activation=row.activation,
            kernel=row.kernel,
            stride=row.stride,
            dilation=row.dilation,
            groups=row.expanded,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
            padding=padding,
        )
        self.squeeze = SqueezeExcite(row.expanded) if row.squeeze else nn.Identity()
        self.project = ConvNormAct(
            row.expanded, row.out, activation=None, norm_eps=norm_eps, norm_momentum=norm_momentum
        )

    def finish(self, inputs: Float[Tensor, "B C H W"], depthwise: Float[Tensor, "B E H2 W2"]) -> Tensor:
        """Squeeze, project, and add the input where the block is residual."""
        outputs = self.project(self.squeeze(depthwise))
        return inputs + outputs if self.residual else outputs
