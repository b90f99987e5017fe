"""Counts against hand-worked layers and against the segmentation tables of the MobileNet papers."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mbvision.analysis.complexity import count
from mbvision.backbones.mobilenet_v3 import mobilenet_v3_large
from mbvision.build import build_network
from mbvision.commands.compose import compose_config
from mbvision.errors import ConfigError
from mbvision.heads.classifier import Classifier
from mbvision.heads.lraspp import LRASPP
from mbvision.network import Network

ROWS = json.loads((Path(__file__).parent / "data" / "segmentation_tables.json").read_text())["rows"]


@lru_cache
def network_of(num_classes: int, *overrides: str) -> Network:
    """What the command line builds, without values."""
    with torch.device("meta"):
        return build_network(compose_config("train", overrides), {"segmentation": num_classes})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row"])
def test_papers_segmentation_tables(row: dict[str, Any]) -> None:
    network = network_of(row["classes"], *row["overrides"])
    costs = [count(network, tuple(size), "paper") for size in row["sizes"]]
    madds = sum(cost.madds for cost in costs) * row["passes"] / 1e9
    assert madds == pytest.approx(row["madds_billions"], rel=row["madds_tolerance_percent"] / 100)
    if row["parameters_millions"] is not None:
        tolerance = row["parameters_tolerance_percent"] / 100
        assert costs[0].parameters / 1e6 == pytest.approx(row["parameters_millions"], rel=tolerance)


def test_every_kind_of_layer_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 5x6 from 9x11
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 8, 3, padding=4, dilation=4, groups=8, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    stem, depthwise, linear = 3 * 8 * 9 * 30, 8 * 9 * 30, 80
    plain = count(network, (9, 11))
    assert [(layer.kind, layer.parameters, layer.madds) for layer in plain.layers] == [
        ("Conv2d", 3 * 8 * 9 + 8, stem),
        ("BatchNorm2d", 16, 0),
        ("Conv2d", 8 * 9, depthwise),
        ("Linear", 90, linear),
    ]
    assert plain.madds == stem + depthwise + linear
    assert plain.norm_parameters == 16
    assert plain.parameters == sum(parameter.numel() for parameter in network.parameters())
    # 5x6 becomes 8x8 at a rate of 4; 2 for each of the hard swish's 8 * 30 values
    assert count(network, (9, 11), "paper").madds == stem + 2 * 8 * 30 + 8 * 9 * 64 + linear


def test_mobilenet_v3_large_as_published() -> None:
    backbone = mobilenet_v3_large(taps=["c5"])
    head = Classifier(features=backbone.features, num_classes=1000, hidden=1280)
    network = Network(backbone=backbone, heads={"classification": head}, mean=(0.5,) * 3, std=(0.5,) * 3)
    cost = count(network, (224, 224))
    assert cost.parameters == 5_483_032  # torchvision's
    assert f"{cost.madds / 1e6:.0f}" == "217"  # arXiv:1905.02244, table 9
    assert int((cost.parameters - cost.norm_parameters) / 1e5) == 54  # 5.4 million in table 3


def test_logits_are_charged_for_their_upsampling_in_the_papers_convention_alone() -> None:
    backbone = mobilenet_v3_large(taps=["c3_depthwise", "c5"], width=0.35)
    head = LRASPP(features=backbone.features, num_classes=19, taps=["c5", "c3_depthwise"])
    network = Network(backbone=backbone, heads={"segmentation": head}, mean=(0.5,) * 3, std=(0.5,) * 3)
    upsampling = [layer for layer in count(network, (33, 65), "paper").layers if layer.kind == "LRASPP"]
    assert [(layer.name, layer.madds) for layer in upsampling] == [("heads.segmentation", 19 * 33 * 65)]
    assert all(layer.kind != "LRASPP" for layer in count(network, (33, 65)).layers)


def test_counting_leaves_the_network_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    count(network, (8, 8))
    assert network.training and network[0].weight.device.type == "cpu"
    assert not network[0]._forward_hooks


def test_an_unknown_convention_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match="'flops'; choose plain or paper"):
        count(nn.Identity(), (8, 8), "flops")  # type: ignore[arg-type]  # a wrong value on purpose
