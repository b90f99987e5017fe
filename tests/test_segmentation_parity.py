"""LR-ASPP and DeepLabV3 against torchvision's: the same parameters, the same logits with the same weights."""

from typing import Any

import pytest
import torch
from torch.nn import functional
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, lraspp_mobilenet_v3_large

from mbvision.backbones.mobilenet_v3 import mobilenet_v3_large
from mbvision.backbones.pretrained import load_strict, rename_torchvision
from mbvision.errors import CheckpointError
from mbvision.heads.base import Head
from mbvision.heads.deeplabv3 import DeepLabV3
from mbvision.heads.lraspp import LRASPP
from mbvision.heads.pretrained import rename_deeplabv3, rename_lraspp
from mbvision.network import Network
from tests.test_ssdlite import randomise

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
CLASSES = 21
TAPS = ["c5", "c3_first"]


def lraspp(features: Any) -> Head:
    return LRASPP(features=features, num_classes=CLASSES, taps=TAPS, pool="global", gate_bias=False)


def deeplabv3(features: Any) -> Head:
    rates, taps = (12, 24, 36), TAPS
    return DeepLabV3(features=features, num_classes=CLASSES, taps=taps, rates=rates, dropout=0.5, extra_conv=True)


@pytest.fixture(scope="module", params=["lraspp", "deeplabv3"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Network, int]:
    """torchvision's model with random weights and statistics, ours with the same, and torchvision's parameters."""
    if request.param == "lraspp":
        theirs, parameters = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), 3_221_538
    else:
        theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True)
        parameters = 11_029_328
    randomise(theirs.eval())
    for parameter in theirs.parameters():
        if len(parameter) == CLASSES:
            parameter.data *= 0.1  # logits of about 10, as trained networks give
    backbone = mobilenet_v3_large(taps=TAPS, output_stride=16, dilation_rule="torchvision")
    make, rename = (lraspp, rename_lraspp) if request.param == "lraspp" else (deeplabv3, rename_deeplabv3)
    ours = Network(
        backbone=backbone,
        heads={"segmentation": make(backbone.features)},
        mean=MEAN.flatten().tolist(),
        std=STD.flatten().tolist(),
    ).eval()
    state = theirs.state_dict()
    load_strict(ours, rename_torchvision(state, backbone) | rename(state) | {"mean": MEAN, "std": STD})
    return theirs, ours, parameters


def test_parameters_are_torchvisions(pair: tuple[Any, Network, int]) -> None:
    _, ours, parameters = pair
    assert sum(parameter.numel() for parameter in ours.parameters()) == parameters


@pytest.mark.parametrize("size", [(520, 520), (321, 257), (97, 131)])
@torch.no_grad()
def test_logits_equal_torchvisions(pair: tuple[Any, Network, int], size: tuple[int, int]) -> None:
    theirs, ours, _ = pair
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = theirs((images - MEAN) / STD)
    found = ours(images)["segmentation"]
    assert (found.auxiliary is None) == ("aux" not in expected)
    for name, logits in (("out", found.logits), ("aux", found.auxiliary)):
        if logits is not None:
            logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
            assert expected[name].std() > 0.1
            torch.testing.assert_close(logits, expected[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("rename", [rename_lraspp, rename_deeplabv3])
def test_trunk_is_left_out_and_a_foreign_layer_is_named(rename: Any) -> None:
    assert rename({"backbone.0.0.weight": torch.zeros(1)}) == {}
    with pytest.raises(CheckpointError, match=r"classifier\.9\.weight is no layer of torchvision's"):
        rename({"classifier.9.weight": torch.zeros(1)})
