"""torchvision's model nearest to a network of ours, from pictures to answers, to compare speeds with.

Its network has the same backbone, width, input size and classes; where torchvision has the very same one, it gets our
weights, else its own random ones. Answers are as its own references make them.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import get_model
from torchvision.models.detection import _utils as detection_utils
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from torchvision.models.segmentation.deeplabv3 import _deeplabv3_mobilenetv3
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3
from torchvision.transforms import functional as transforms

from mbvision.build import Config
from mbvision.errors import CheckpointError
from mbvision.heads.classifier import Classifier
from mbvision.heads.deeplabv3 import DeepLabV3
from mbvision.heads.lraspp import LRASPP
from mbvision.heads.ssdlite import SSDLite
from mbvision.network import Network
from mbvision.tasks.detection import Detection
from mbvision.weights.models import find_model
from mbvision.weights.write import to_library

Size = tuple[int, int]
Pictures = Sequence[Image.Image]
V3 = ("mobilenet_v3_large", "mobilenet_v3_small")
SPREAD = 2.0
"""Standard deviation of a random detector's class outputs. Ours: those of trained ones are about that."""


class Peer(ABC):
    """A model in evaluation mode; ``exact`` says whether it computes what the network does."""

    def __init__(self, model: nn.Module, size: Size, mean: Sequence[float], std: Sequence[float]) -> None:
        self.model: Any = model.eval()
        self.size, self.mean, self.std = size, list(mean), list(std)
        self.exact = False

    @property
    def name(self) -> str:
        """What the model is called in tables."""
        return f"torchvision {type(self.model).__name__}"

    @abstractmethod
    def inputs(self, pictures: Pictures) -> Any:
        """Pictures as the model takes them."""

    @abstractmethod
    def compute(self, given: Any) -> Any:
        """Raw outputs from inputs."""

    @abstractmethod
    def answers(self, raw: Any) -> Any:
        """What raw outputs say of each picture."""

    def _stacked(self, pictures: Pictures, size: Sequence[int]) -> Float[Tensor, "B 3 H W"]:
        resized = [
            transforms.resize(transforms.pil_to_tensor(one), list(size), antialias=True).float() / 255
            for one in pictures
        ]
        cut = [transforms.center_crop(one, list(self.size)) for one in resized]
        return transforms.normalize(torch.stack(cut), self.mean, self.std)


class ClassifierPeer(Peer):
    """Shorter side to the input's over ``crop_fraction``, the centre, a softmax."""

    def __init__(self, *arguments: Any, crop_fraction: float) -> None:
        super().__init__(*arguments)
        self.crop_fraction = crop_fraction

    def inputs(self, pictures: Pictures) -> Any:
        """A batch."""
        return self._stacked(pictures, [round(min(self.size) / self.crop_fraction)])

    @torch.inference_mode()
    def compute(self, given: Any) -> Any:
        """Logits."""
        return self.model(given)

    def answers(self, raw: Any) -> Any:
        """Probabilities."""
        return raw.softmax(dim=1).numpy()


class SegmenterPeer(Peer):
    """Resized to the input, and labels at the picture's size: the best class of the input's pixels, spread to them."""

    def inputs(self, pictures: Pictures) -> Any:
        """A batch, and the pictures' sizes."""
        return self._stacked(pictures, self.size), [one.size[::-1] for one in pictures]

    @torch.inference_mode()
    def compute(self, given: Any) -> Any:
        """Logits as coarse as the head's."""
        batch, sizes = given
        features = self.model.backbone(batch)
        found = self.model.classifier(features if "low" in features else features["out"])
        return found, sizes

    @torch.inference_mode()
    def answers(self, raw: Any) -> Any:
        """Labels of each picture."""
        logits, sizes = raw
        labels = interpolate(logits, size=self.size, mode="bilinear", align_corners=False).argmax(dim=1).byte()
        return [interpolate(one[None, None], size=size)[0, 0].numpy() for one, size in zip(labels, sizes, strict=True)]


class DetectorPeer(Peer):
    """`torchvision.models.detection.ssd.SSD` in the parts that its ``forward`` runs one after the other."""

    @torch.inference_mode()
    def inputs(self, pictures: Pictures) -> Any:
        """Its list of images, and the pictures' sizes."""
        images = [transforms.pil_to_tensor(one).float() / 255 for one in pictures]
        return self.model.transform(images)[0], [one.size[::-1] for one in pictures]

    @torch.inference_mode()
    def compute(self, given: Any) -> Any:
        """Boxes and classes of every anchor, and the anchors."""
        images, sizes = given
        features = list(self.model.backbone(images.tensors).values())
        return self.model.head(features), self.model.anchor_generator(images, features), images.image_sizes, sizes

    @torch.inference_mode()
    def answers(self, raw: Any) -> Any:
        """Detections of each picture in its pixels."""
        outputs, anchors, inside, sizes = raw
        return self.model.transform.postprocess(
            self.model.postprocess_detections(outputs, anchors, inside), inside, sizes
        )

    @torch.inference_mode()
    def set_candidates(self, pictures: Pictures, wanted: int) -> None:
        """Spread and shift the class outputs so that about ``wanted`` scores of the pictures are over the threshold."""
        given = self.inputs(pictures)
        levels = [level[-1] for level in self.model.head.classification_head.module_list]
        spread = self.compute(given)[0]["cls_logits"].std().clamp(min=1e-6)
        for layer in levels:
            layer.weight *= SPREAD / spread
        logits = self.compute(given)[0]["cls_logits"]
        low, high = -40.0, 40.0
        for _ in range(40):
            shift = (low + high) / 2
            moved = torch.cat([logits[..., :1] + shift, logits[..., 1:]], dim=-1).softmax(dim=-1)
            over = int((moved[..., 1:] > self.model.score_thresh).sum())
            low, high = (shift, high) if over > wanted else (low, shift)
        for layer in levels:
            layer.bias.view(-1, logits.shape[-1])[:, 0] += shift


def find_peer(network: Network, tasks: Mapping[str, Any], config: Config, size: Size) -> Peer:
    """The model for a checkpoint's network, tasks and configuration, at ``size`` (height, width).

    Raises CheckpointError saying why where torchvision has none.
    """
    if len(network.heads) != 1:
        raise CheckpointError(f"torchvision has no model with the heads {', '.join(network.heads)}")
    ((name, head),) = network.heads.items()
    architecture, width = config["backbone"]["_target_"].rpartition(".")[2], float(config["backbone"]["width"])
    build = partial(get_model, architecture, weights=None, **({} if width == 1 else {"width_mult": width}))
    mean, std = ([round(value, 6) for value in one.flatten().tolist()] for one in (network.mean, network.std))
    peer: Peer | None = None
    if isinstance(head, Classifier) and architecture in ("mobilenet_v2", *V3):
        crop = float(config.get("crop_fraction") or 1)
        peer = ClassifierPeer(build(num_classes=head.output.out_features), size, mean, std, crop_fraction=crop)
    elif isinstance(head, LRASPP) and architecture in V3:
        model = _lraspp_mobilenetv3(build(dilated=True), head.high_output.out_channels)
        peer = SegmenterPeer(model, size, mean, std)
    elif isinstance(head, DeepLabV3) and architecture in V3:
        model = _deeplabv3_mobilenetv3(build(dilated=True), head.output.out_channels, None)
        peer = SegmenterPeer(model, size, mean, std)
    elif isinstance(head, SSDLite) and architecture in V3 and _is_lite(config):
        trunk = build(reduced_tail=bool(config["backbone"]["reduced_tail"]))
        peer = DetectorPeer(_ssdlite(trunk, head, tasks[name], config, size, (mean, std)), size, mean, std)
    if peer is None:
        raise CheckpointError(f"torchvision has no {type(head).__name__} like this on {architecture}")
    peer.exact = _copied(network, peer.model, architecture, width)
    return peer


def _is_lite(config: Config) -> bool:
    head = config["heads"]["detection"]
    return head["predictor"] == head["extra"] == "separable"


def _ssdlite(
    trunk: Any, head: SSDLite, task: Detection, config: Config, size: Size, normal: tuple[list[float], ...]
) -> SSD:
    """As torchvision's ``ssdlite320_mobilenet_v3_large`` puts it together, with our sizes and settings."""
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    strided = [place for place, block in enumerate(trunk.features) if getattr(block, "_is_cn", False)]
    extra_width = float(config["heads"]["detection"]["width"])
    backbone = SSDLiteFeatureExtractorMobileNet(trunk.features, strided[-1], norm, width_mult=extra_width)
    anchors = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    channels = detection_utils.retrieve_out_channels(backbone, size[::-1])
    slots = head.num_classes + 1
    return SSD(
        backbone,
        anchors,
        size[::-1],
        slots,
        head=SSDLiteHead(channels, anchors.num_anchors_per_location(), slots, norm),
        image_mean=normal[0],
        image_std=normal[1],
        score_thresh=task.score_threshold,
        nms_thresh=task.nms_threshold,
        detections_per_img=task.max_detections,
        topk_candidates=task.max_candidates or sys.maxsize,
    )


def _copied(network: Network, model: nn.Module, architecture: str, width: float) -> bool:
    """Give the model our weights if it is the same network; whether it is."""
    try:
        found = find_model(network, "torchvision", architecture=architecture, width=width)
    except CheckpointError:
        return False
    model.load_state_dict({key: value for key, value in to_library(network, found).items() if "aux_" not in key})
    return True
