"""The layers: TensorFlow's padding, the residual rule, and what happens at odd sizes."""

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

from mbvision.backbones.blocks import (
    ConvNormAct,
    DepthwiseBlock,
    InvertedResidual,
    Padding,
    SqueezeExcite,
    make_activation,
)
from mbvision.backbones.rows import Row
from mbvision.errors import ConfigError


def row(*, out: int, expanded: int = 48, stride: int = 1, squeeze: bool = False) -> Row:
    return Row(3, expanded, out, squeeze, "relu6", stride)


def inverted(in_channels: int, r: Row) -> InvertedResidual:
    return InvertedResidual(in_channels, r, norm_eps=1e-3, norm_momentum=0.01)


def test_same_padding_adds_the_odd_pixel_at_the_bottom_and_right() -> None:
    layer = ConvNormAct(1, 1, activation=None, kernel=3, stride=2, padding="same")
    nn.init.ones_(layer.conv.weight)
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    # rows 0-2 and 2-3, columns 0-2 and 2-3; e.g. 0+1+2+4+5+6+8+9+10 = 45 and 10+11+14+15 = 50
    assert layer.conv(layer.pad(image))[0, 0].tolist() == [[45, 39], [66, 50]]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("size", [(8, 8), (7, 12), (1, 2), (97, 131)])
def test_same_padding_equals_timm(kernel: int, stride: int, dilation: int, size: tuple[int, int]) -> None:
    layers = pytest.importorskip("timm.layers", reason="timm is not installed")
    layer = ConvNormAct(2, 3, activation=None, kernel=kernel, stride=stride, dilation=dilation, padding="same")
    images = torch.randn(1, 2, *size)
    expected = layers.conv2d_same(images, layer.conv.weight, stride=(stride, stride), dilation=(dilation, dilation))
    torch.testing.assert_close(layer.conv(layer.pad(images)), expected)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_output_size_is_input_size_over_stride_rounded_up(padding: Padding, size: int) -> None:
    layer = ConvNormAct(1, 1, activation="relu", kernel=5, stride=2, padding=padding)
    assert layer.eval()(torch.zeros(1, 1, size, size)).shape[-1] == -(-size // 2)


def test_same_padding_keeps_channels_last() -> None:
    layer = ConvNormAct(8, 8, activation="hardswish", kernel=3, stride=2, padding="same")
    layer = layer.to(memory_format=torch.channels_last)
    images = torch.randn(2, 8, 10, 10).contiguous(memory_format=torch.channels_last)
    assert layer(images).is_contiguous(memory_format=torch.channels_last)


def test_squeeze_excite_equals_torchvision() -> None:
    ours = SqueezeExcite(72)
    theirs = SqueezeExcitation(72, 24, scale_activation=nn.Hardsigmoid)  # 72 / 4 = 18, nearest multiple of 8 is 24
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(2, 72, 5, 7)
    torch.testing.assert_close(ours(images), theirs(images))


def test_absent_parts_are_identities() -> None:
    block = inverted(48, row(out=16))
    assert isinstance(block.expand, nn.Identity)
    assert isinstance(block.squeeze, nn.Identity)
    assert isinstance(inverted(16, row(out=16)).expand, ConvNormAct)


@pytest.mark.parametrize(("stride", "out", "residual"), [(1, 16, True), (2, 16, False), (1, 24, False)])
def test_input_is_added_only_where_size_and_channels_stay(stride: int, out: int, residual: bool) -> None:
    block = inverted(16, row(out=out, stride=stride)).eval()
    nn.init.zeros_(block.project.conv.weight)
    images = torch.rand(1, 16, 4, 4) + 1
    outputs = block(images)
    assert torch.equal(outputs, images) if residual else not outputs.any()


def test_depthwise_block_activates_both_convolutions() -> None:
    block = DepthwiseBlock(8, row(out=16, expanded=8), norm_eps=1e-3, norm_momentum=0.01).eval()
    images = torch.randn(1, 8, 6, 6)
    depthwise = block.depthwise(images)
    assert depthwise.min() == 0
    assert block(images).min() == 0
    torch.testing.assert_close(block(images), block.finish(images, depthwise))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "valid"}, "padding is 'valid'; choose symmetric"),
        ({"norm_eps": 0}, "norm_eps is 0"),
        ({"norm_eps": "small"}, "norm_eps is 'small'"),
        ({"norm_momentum": 0}, "norm_momentum is 0"),
        ({"norm_momentum": 1.5}, "norm_momentum is 1.5"),
        ({"norm_momentum": None}, "norm_momentum is None"),
        ({"activation": "swish"}, "activation is 'swish'; choose relu"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConvNormAct(3, 8, **({"activation": "relu"} | arguments))


def test_no_activation_is_linear() -> None:
    assert isinstance(make_activation(None), nn.Identity)
