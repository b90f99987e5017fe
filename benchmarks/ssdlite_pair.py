"""torchvision's SSDLite320 on MobileNetV3-Large with random weights, and ours with the same weights."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from mbvision.backbones.mobilenet_v3 import mobilenet_v3_large
from mbvision.backbones.pretrained import load_strict
from mbvision.heads.anchors import SSDAnchors
from mbvision.heads.ssdlite import SSDLite
from mbvision.losses.multibox import MultiBoxLoss
from mbvision.network import Network
from mbvision.structures import Target
from mbvision.tasks.detection import Detection
from mbvision.weights import from_torchvision

SIZE = (320, 320)
NUM_CLASSES = 90  # torchvision's 91 slots without background
TAPS = ("c4_expanded", "c5")
LEVELS = ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
"""Feature map sizes of its 3,234 anchors."""


class Pair(NamedTuple):
    """Both models in evaluation mode."""

    theirs: SSD
    ours: Network


def ssdlite_pair(seed: int = 0) -> Pair:
    """Two models that compute the same; weights and batch-norm statistics are drawn so that activations stay alive."""
    theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    _randomise(theirs, seed)
    backbone = mobilenet_v3_large(
        taps=TAPS, reduced_tail=True, dilation_rule="torchvision", norm_eps=0.001, norm_momentum=0.03
    )
    head = SSDLite(features=backbone.features, num_classes=NUM_CLASSES, taps=TAPS, anchors=torchvision_anchors())
    ours = Network(backbone=backbone, heads={"detection": head}, mean=(0.5,) * 3, std=(0.5,) * 3).eval()
    load_strict(ours, from_torchvision(theirs.state_dict(), ours))
    return Pair(theirs, ours)


def _randomise(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.9)
        elif tensor.dim() > 1:
            tensor.copy_(normal(tensor) * (2.0 / tensor[0].numel()) ** 0.5)
        elif tensor.dim() == 1:
            tensor.copy_(normal(tensor) * 0.1 + (1.0 if name.endswith("weight") else 0.0))


def torchvision_anchors() -> SSDAnchors:
    """The anchors of torchvision's SSDLite320."""
    return SSDAnchors(layout="torchvision")


def detection_task() -> Detection:
    """torchvision's settings, which are our defaults but for images without a box."""
    return Detection(loss=MultiBoxLoss(min_negatives=0))


def background_bias(logits: Tensor, candidates: int, threshold: float = 0.001) -> float:
    """What to add to the background logits for about ``candidates`` class scores an image to exceed ``threshold``."""
    low, high = -20.0, 40.0
    for _ in range(40):
        bias = (low + high) / 2
        over = (with_background(logits, bias).softmax(dim=-1)[..., 1:] > threshold).sum().item() / len(logits)
        low, high = (bias, high) if over > candidates else (low, bias)
    return bias


def with_background(logits: Tensor, bias: float) -> Tensor:
    """The logits ``[B A K]`` with ``bias`` added to the background's."""
    return torch.cat([logits[..., :1] + bias, logits[..., 1:]], dim=-1)


def torchvision_losses(
    ssd: SSD, outputs: dict[str, Tensor], anchors: list[Tensor], targets: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Its losses as ``SSD.forward`` computes them in training: each image matched by itself, then ``compute_loss``."""
    matched = []
    for image_anchors, target in zip(anchors, targets, strict=True):
        if target["boxes"].numel() == 0:
            matched.append(torch.full((len(image_anchors),), -1, dtype=torch.int64))
        else:
            matched.append(ssd.proposal_matcher(box_iou(target["boxes"], image_anchors)))
    losses: dict[str, Tensor] = ssd.compute_loss(targets, outputs, anchors, matched)
    return losses


def torchvision_targets(targets: Sequence[Target]) -> list[dict[str, Tensor]]:
    """Our targets as it takes them: background is its label 0."""
    return [
        {"boxes": target.boxes, "labels": target.box_labels + 1}
        for target in targets
        if target.boxes is not None and target.box_labels is not None
    ]


def torchvision_anchor_boxes(ssd: SSD, images: Tensor) -> list[Tensor]:
    """Its anchors in pixels, for every image of a batch."""
    maps = [torch.empty(len(images), 1, *level) for level in LEVELS]
    boxes: list[Tensor] = ssd.anchor_generator(ImageList(images, [SIZE] * len(images)), maps)
    return boxes
