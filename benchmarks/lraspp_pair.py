"""torchvision's LR-ASPP on MobileNetV3-Large with random weights, and ours with the same weights."""

from typing import NamedTuple

import torch
from torch import nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from mbvision.backbones.mobilenet_v3 import mobilenet_v3_large
from mbvision.backbones.pretrained import load_strict, rename_torchvision
from mbvision.heads.lraspp import LRASPP
from mbvision.heads.pretrained import rename_lraspp
from mbvision.network import Network

NUM_CLASSES = 21
TAPS = ("c5", "c3_first")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which torchvision's preprocessing takes


class LRASPPPair(NamedTuple):
    """Both models in evaluation mode."""

    theirs: nn.Module
    ours: Network


def lraspp_pair(seed: int = 0) -> LRASPPPair:
    """Two models that compute the same; weights are drawn so that activations stay alive and classes differ."""
    theirs = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in theirs.parameters():
        if parameter.dim() > 1:
            spread = (2.0 / parameter[0].numel()) ** 0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    backbone = mobilenet_v3_large(taps=TAPS, output_stride=16, dilation_rule="torchvision")
    head = LRASPP(features=backbone.features, num_classes=NUM_CLASSES, taps=TAPS, pool="global", gate_bias=False)
    ours = Network(backbone=backbone, heads={"segmentation": head}, mean=MEAN, std=STD).eval()
    state = theirs.state_dict()
    buffers = {"mean": ours.mean, "std": ours.std}
    load_strict(ours, rename_torchvision(state, backbone) | rename_lraspp(state) | buffers)
    return LRASPPPair(theirs, ours)
