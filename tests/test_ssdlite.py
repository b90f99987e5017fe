"""SSDLite against torchvision's: the same network, the same detections."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from mbvision.backbones.mobilenet_v3 import mobilenet_v3_large
from mbvision.backbones.pretrained import load_strict
from mbvision.heads.anchors import SSDAnchors
from mbvision.heads.ssdlite import SSDLite
from mbvision.losses.multibox import MultiBoxLoss
from mbvision.network import Network
from mbvision.tasks.detection import Detection
from mbvision.weights import from_torchvision

PARAMETERS = 3_440_060
"""torchvision's ssdlite320_mobilenet_v3_large."""


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Random weights and running statistics that keep activations alive through a deep network."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.9)
        elif name.endswith("running_mean"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
        elif tensor.dim() > 1:
            fan_in = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2.0 / fan_in) ** 0.5)
        elif name.endswith("weight"):
            tensor.copy_(1 + torch.randn(tensor.shape, generator=generator) * 0.1)
        elif name.endswith("bias"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)


def our_network() -> Network:
    backbone = mobilenet_v3_large(
        taps=["c4_expanded", "c5"], reduced_tail=True, dilation_rule="torchvision", norm_eps=0.001, norm_momentum=0.03
    )
    head = SSDLite(
        features=backbone.features,
        num_classes=90,
        taps=["c4_expanded", "c5"],
        anchors=SSDAnchors(layout="torchvision"),
    )
    return Network(backbone=backbone, heads={"detection": head}, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Network]:
    """torchvision's model with random weights, and ours with the same."""
    theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    randomise(theirs)
    for level in theirs.head.classification_head.module_list:
        nn.init.zeros_(level[-1].bias)
    ours = our_network().eval()
    load_strict(ours, from_torchvision(theirs.state_dict(), ours))
    return theirs, ours


def test_parameters_are_torchvisions(pair: tuple[Any, Network]) -> None:
    assert sum(p.numel() for p in pair[1].parameters()) == PARAMETERS


def test_detections_equal_torchvisions_on_ten_images(pair: tuple[Any, Network]) -> None:
    theirs, ours = pair
    task = Detection(loss=MultiBoxLoss(), score_threshold=0.001, nms_threshold=0.55, max_candidates=300)
    images = torch.rand(10, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(list(images))
        found = task.predict(ours(images)["detection"], (320, 320))
    for theirs_one, ours_one in zip(expected, found, strict=True):
        assert len(ours_one.boxes) == len(theirs_one["boxes"]) > 50
        torch.testing.assert_close(ours_one.scores, theirs_one["scores"], atol=1e-4, rtol=0)
        assert torch.equal(ours_one.labels + 1, theirs_one["labels"])
        torch.testing.assert_close(ours_one.boxes, theirs_one["boxes"], atol=1e-4 * 320, rtol=0)


@pytest.mark.parametrize("size", [(256, 384), (300, 300), (512, 320)])
def test_raw_outputs_and_anchors_equal_torchvisions_at_any_size(
    pair: tuple[Any, Network], size: tuple[int, int]
) -> None:
    theirs, ours = pair
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        features = list(theirs.backbone(images * 2 - 1).values())
        expected = theirs.head(features)
        out = ours(images)["detection"]
    torch.testing.assert_close(out.logits, expected["cls_logits"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.deltas, expected["bbox_regression"], atol=1e-4, rtol=1e-4)
    images_list = type("ImageList", (), {"tensors": images, "image_sizes": [size]})()
    anchors: Tensor = theirs.anchor_generator(images_list, features)[0]
    pixels = torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float32)
    ours_corners = torch.cat(
        [out.anchors[:, :2] - out.anchors[:, 2:] / 2, out.anchors[:, :2] + out.anchors[:, 2:] / 2], 1
    )
    torch.testing.assert_close(ours_corners * pixels, anchors, atol=1e-3, rtol=0)
