"""Rules of width, dilation and the last stages, and the variants of V1."""

from typing import Any

import pytest
import torch

from mbvision.backbones import mobilenet_v3
from mbvision.backbones.rows import limit_stride, make_divisible, scale_by_ratio
from mbvision.errors import ConfigError
from tests.backbone_builds import build, parameters


@pytest.mark.parametrize(
    ("name", "arguments", "tap", "head", "millions"),
    # arXiv:1905.02244, tables 7 and 8: LR-ASPP of 128 channels and 19 classes on a halved tail. The head's parameters:
    # 128 * C + 256, 128 * C + 128, 128 * 19 + 19 and 19 * L + 19 for C channels at the end and L at stride 8.
    [
        ("v2", {}, "c5_blocks", 47_462, 0.9872),
        ("v2", {"width": 0.5}, "c5_blocks", 25_158, 0.2826),
        ("v3_large", {}, "c5", 128_014, 1.5072),
        ("v3_small", {}, "c5", 78_254, 0.4688),
    ],
)
def test_tail_halved_for_segmentation_has_the_published_size(
    name: str, arguments: dict[str, Any], tap: str, head: int, millions: float
) -> None:
    rule = True if name == "v2" else "segmentation"
    backbone = build(name, taps=["c3_depthwise", tap], reduced_tail=rule, **arguments)
    assert round((parameters(backbone) + head) / 1e6, 4) == millions


@pytest.mark.parametrize(("name", "channels"), [("v1", 256), ("v2", 192), ("v3_large", 120), ("v3_small", 88)])
def test_depthwise_tap_keeps_its_stride_under_dilation(name: str, channels: int) -> None:
    features = build(name, output_stride=8).features
    assert (features["c3_depthwise"].channels, features["c3_depthwise"].stride) == (channels, 8)
    assert features["c4"].stride == features["c5"].stride == 8


@pytest.mark.parametrize(
    ("output_stride", "rule", "dilations"),
    [
        (32, "tensorflow", [1] * 15),
        (16, "tensorflow", [1] * 13 + [2] * 2),
        (16, "torchvision", [1] * 12 + [2] * 3),
        (8, "tensorflow", [1] * 7 + [2] * 6 + [4] * 2),
        (8, "torchvision", [1] * 6 + [2] * 6 + [4] * 3),
    ],
)
def test_row_that_loses_its_stride_keeps_the_old_rate_in_tensorflow(
    output_stride: int, rule: Any, dilations: list[int]
) -> None:
    table = limit_stride(mobilenet_v3.LARGE, output_stride, rule)
    assert [row.dilation for row in table.rows] == dilations
    assert 2 * torch.tensor([row.stride for row in table.rows]).prod() == output_stride


def test_ratio_rule_keeps_the_expansion_of_the_table() -> None:
    rows = scale_by_ratio(mobilenet_v3.LARGE, 0.5).rows
    assert rows[8].expanded == 96  # 40 * 184 / 80 = 92, halfway between 88 and 96, goes up


@pytest.mark.parametrize(("value", "expected"), [(3, 8), (12, 16), (11.9, 8 + 8), (33.6, 32), (92, 96), (4.0, 8)])
def test_make_divisible_stays_above_nine_tenths(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


def test_full_convolutions_take_the_place_of_separable_ones() -> None:
    backbone = build("v1", convolution="dense", taps=["c3", "c4_expanded", "c5"])
    assert not any(layer.groups > 1 for layer in backbone.modules() if isinstance(layer, torch.nn.Conv2d))
    assert "c3_depthwise" not in backbone.features
    with torch.inference_mode():
        outputs = backbone(torch.zeros(1, 3, 64, 96))
    assert {tap: tuple(output.shape[1:]) for tap, output in outputs.items()} == {
        "c3": (256, 8, 12),
        "c4_expanded": (512, 4, 6),
        "c5": (1024, 2, 3),
    }
    with pytest.raises(ConfigError, match="no feature \\['c3_depthwise'\\]"):
        build("v1", convolution="dense", taps=["c3_depthwise"])
    with pytest.raises(ConfigError, match="'full'; choose separable or dense"):
        build("v1", convolution="full")


def test_the_shallow_variant_leaves_layers_7_to_11_out() -> None:
    whole, shallow = build("v1"), build("v1", shallow=True, taps=["c4", "c5"])
    # five layers of 512 channels: a depthwise 3x3, a 1x1, and two norms each
    assert parameters(whole) - parameters(shallow) == 5 * (9 * 512 + 512 * 512 + 4 * 512)
    with torch.inference_mode():
        outputs = shallow(torch.zeros(1, 3, 64, 64))
    assert outputs["c4"].shape == (1, 512, 4, 4) and outputs["c5"].shape == (1, 1024, 2, 2)


def test_a_divisor_of_one_keeps_any_whole_width() -> None:
    backbone = build("v2", width=0.5, channel_divisor=1)
    assert [row.out for row in backbone.rows[:3]] == [8, 12, 12]  # a multiple of 8 would be 16
    for wrong in (0, True, 2.5):
        with pytest.raises(ConfigError, match="channel_divisor is"):
            build("v2", channel_divisor=wrong)
