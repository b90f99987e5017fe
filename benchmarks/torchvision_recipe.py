"""Train torchvision's SSDLite or LR-ASPP on MobileNetV3 with our recipe, data and evaluation: what do both learn?

    python benchmarks/torchvision_recipe.py KEY=VALUE ... run_dir=FOLDER

takes the keys of ``train``; backbone (mobilenet_v3_large or mobilenet_v3_small), width, input size, data, steps,
optimizer, schedule, augmentation, average and seed are those of the run it stands beside. The detector's network,
anchors, matching, losses and post-processing are torchvision's own code; extra layers and tail follow its
ssdlite320_mobilenet_v3_large. Of the segmenter (task=lraspp) the network is.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lightning.pytorch as L
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _mobilenet_extractor
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3

from mbvision import checkpoint
from mbvision.build import build_tasks, deferred, input_size
from mbvision.commands import fitting, run
from mbvision.commands.run_folder import run_folder, write_config
from mbvision.commands.train import configure
from mbvision.engine.module import VisionModule
from mbvision.heads.segmentation import SegmentationOutput
from mbvision.metrics.box_evaluator import BoxEvaluator
from mbvision.structures import Detections, Target
from mbvision.tasks.base import Task


def build_model(config: dict[str, Any], num_classes: int) -> SSD:
    """As torchvision's ssdlite320_mobilenet_v3_large builds it, at another width, input or with the Small backbone."""
    name = config["backbone"]["_target_"].rpartition(".")[2]
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=config["heads"]["detection"]["norm_momentum"])
    trunk = getattr(torchvision.models, name)(
        weights=None, width_mult=config["backbone"]["width"], norm_layer=norm, reduced_tail=True
    )
    backbone = _mobilenet_extractor(trunk, 6, norm)
    anchors = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    channels = torchvision.models.detection._utils.retrieve_out_channels(backbone, input_size(config))
    head = SSDLiteHead(channels, anchors.num_anchors_per_location(), num_classes + 1, norm)
    return SSD(
        backbone,
        anchors,
        input_size(config)[::-1],
        num_classes + 1,
        head=head,
        score_thresh=0.001,
        nms_thresh=0.55,
        detections_per_img=300,
        topk_candidates=300,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


class TorchvisionNetwork(nn.Module):
    """torchvision's parts behind our network's interface: images in 0..1 to raw outputs."""

    def __init__(self, model: SSD) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Raw outputs and anchors of the head."""
        images = images * 2 - 1
        features = list(self.model.backbone(images).values())
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        anchors = self.model.anchor_generator(ImageList(images, sizes), features)
        return {"detection": (self.model.head(features), anchors)}


class TorchvisionDetection(Task[Any, Detections]):
    """torchvision's matching, losses and post-processing behind our task's interface."""

    metric, weight = "AP", 1.0

    def __init__(self, model: SSD) -> None:
        self.model = model

    def loss(self, outputs: Any, targets: Sequence[Target], input_size: tuple[int, int]) -> dict[str, Tensor]:
        """SSD.compute_loss on matches made image by image, as SSD.forward does."""
        head, anchors = outputs
        truth = [{"boxes": t.boxes, "labels": t.box_labels + 1} for t in targets]
        matches = []
        for one, own in zip(truth, anchors, strict=True):
            if len(one["boxes"]) == 0:
                matches.append(torch.full((len(own),), -1, dtype=torch.int64, device=own.device))
            else:
                matches.append(self.model.proposal_matcher(torchvision.ops.box_iou(one["boxes"], own)))
        losses = self.model.compute_loss(truth, head, anchors, matches)
        return {"box": losses["bbox_regression"], "class": losses["classification"]}

    def predict(self, outputs: Any, input_size: tuple[int, int]) -> list[Detections]:
        """SSD.postprocess_detections."""
        head, anchors = outputs
        found = self.model.postprocess_detections(head, anchors, [input_size] * len(anchors))
        return [Detections(boxes=f["boxes"], scores=f["scores"], labels=f["labels"] - 1) for f in found]

    def evaluator(self, annotations: Any) -> BoxEvaluator:
        """The twelve COCO numbers."""
        return BoxEvaluator(annotations=annotations)


def build_segmenter(config: dict[str, Any], num_classes: int) -> nn.Module:
    """torchvision's LR-ASPP on its own backbone, at the width asked for; the last stage is dilated, as it has it."""
    name = config["backbone"]["_target_"].rpartition(".")[2]
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=config["backbone"]["norm_momentum"])
    trunk = getattr(torchvision.models, name)(
        weights=None, dilated=True, width_mult=config["backbone"]["width"], norm_layer=norm
    )
    return _lraspp_mobilenetv3(trunk, num_classes)


class TorchvisionLRASPP(nn.Module):
    """torchvision's LR-ASPP behind our network's interface; its logits come as coarse as its low tap."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> dict[str, Any]:
        """The head on the backbone's features; the loss and the metric do the upsampling, as for our own."""
        features = self.model.backbone((images - self.mean) / self.std)
        return {"segmentation": SegmentationOutput(self.model.classifier(features), None)}


def main(arguments: Sequence[str]) -> int:
    """Train and score as ``train`` does."""
    config, command = configure(arguments)
    folder = run_folder(config)
    L.seed_everything(config["seed"], verbose=False)
    train_reader, val_reader = fitting.build_readers(config)
    names = {name: train_reader.class_names[name] for name in config["heads"]}
    if "detection" in config["heads"]:
        model = build_model(config, len(names["detection"]))
        network: nn.Module = TorchvisionNetwork(model)
        tasks: dict[str, Task[Any, Any]] = {"detection": TorchvisionDetection(model)}
    else:
        segmenter = build_segmenter(config, len(names["segmentation"]))
        network = TorchvisionLRASPP(segmenter, config["normalize"]["mean"], config["normalize"]["std"])
        tasks = build_tasks(config)
    data = fitting.build_data(config, train_reader, val_reader, input_size(config))
    module = VisionModule(
        network=network,
        tasks=tasks,
        optimizer=deferred(config["optimizer"], "optimizer"),
        schedule=deferred(config["schedule"], "schedule"),
        annotations=val_reader.truth,
        network_config=checkpoint.description(config, names),
    )
    write_config(folder, config, command)
    trainer = fitting.fit(config, module, data, folder, None)
    fitting.finish(config, module, data, folder, trainer)
    return 0


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
