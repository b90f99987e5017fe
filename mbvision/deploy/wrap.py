"""A network as other runtimes get it: its outputs named, in pixels and probabilities, and nothing left to decode.

    boxes [B, A, 4], scores [B, A, C]                                  detection, of every anchor
    boxes [B, K, 4], scores [B, K], labels [B, K], count [B]           detection with ``nms``
    labels [B, H, W] uint8, or logits [B, C, h, w]                     segmentation
    scores [B, C]                                                      classification, attributes
    embedding [B, D]                                                   embedding

Where two heads have an output of the same name, each of the two is called HEAD_NAME.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mbvision.boxes import decode
from mbvision.deploy.about import names_of
from mbvision.deploy.any_size import AnySizePool
from mbvision.errors import ConfigError
from mbvision.heads.anchors import SSDAnchors
from mbvision.heads.lraspp import LRASPP, LargePool
from mbvision.heads.ssdlite import SSDLite, SSDOutput
from mbvision.network import Network
from mbvision.tasks.base import Task
from mbvision.tasks.detection import Detection

Masks = Literal["labels", "logits"]
Suppress = Callable[[Tensor, Tensor, float, float, int], Tensor]
"""Candidates ``[B, C, k, 4]`` and their falling scores ``[B, C, k]``, IoU and score threshold, and how many may stay of
each class, to which of them stay."""

RAW, SELECTED = ("boxes", "scores"), ("boxes", "scores", "labels", "count")


class DeployedNetwork(nn.Module):
    """Images in 0..1 to the outputs named by ``outputs``, one of (head, name) each.

    With ``suppress`` detections are selected in the graph, at most ``max_detections`` of them. ``any_size`` computes
    the anchors from the maps' sizes in the graph, for files whose input has no fixed height and width.
    Raises ConfigError for a form that the network's heads do not have.
    """

    def __init__(
        self,
        *,
        network: Network,
        tasks: Mapping[str, Task[Any, Any]],
        suppress: Suppress | None = None,
        masks: Masks = "labels",
        any_size: bool = False,
    ) -> None:
        super().__init__()
        if masks not in ("labels", "logits"):
            raise ConfigError(f"masks={masks!r}: choose labels or logits")
        if suppress and "detection" not in tasks:
            raise ConfigError(f"nms=true is for detection; this network is for {', '.join(tasks)}")
        self.network = copy.deepcopy(network) if any_size else network
        self.tasks, self.suppress, self.masks = dict(tasks), suppress, masks
        if any_size:
            for head in self.network.heads.values():
                if isinstance(head, SSDLite):
                    head.anchors = AnySizeAnchors(like=head.anchors)
                if isinstance(head, LRASPP) and isinstance(head.pool, LargePool):
                    head.pool = AnySizePool(like=head.pool)
        kinds = {
            "detection": SELECTED if suppress else RAW,
            "segmentation": (masks,),
            "embedding": ("embedding",),
        }
        self.outputs = [(head, name) for head in self.tasks for name in kinds.get(head, ("scores",))]

    @property
    def output_names(self) -> list[str]:
        """The names in the file; where two heads have the same, with the head's before it."""
        return names_of(self.outputs)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """The outputs, in the order of ``outputs``."""
        size = (images.shape[2], images.shape[3])
        found: list[Tensor] = []
        for head, raw in self.network(images).items():
            found += self._decoded(head, raw, size)
        return tuple(found)

    def _decoded(self, head: str, raw: Any, size: tuple[int, int]) -> Sequence[Tensor]:
        task = self.tasks[head]
        if isinstance(task, Detection):
            boxes, scores = all_boxes(raw, size), task.scores(raw.logits)
            return (boxes, scores) if self.suppress is None else select(boxes, scores, task, self.suppress)
        if head == "segmentation":
            return [raw.logits if self.masks == "logits" else labels(raw.logits, size)]
        if head == "embedding":
            return [raw.vectors]
        return [raw.softmax(dim=1) if head == "classification" else raw.sigmoid()]


class AnySizeAnchors(SSDAnchors):
    """The same from operations that a graph can hold, for maps whose sizes it does not know."""

    def __init__(self, *, like: SSDAnchors) -> None:
        super().__init__(
            min_scale=like.min_scale,
            max_scale=like.max_scale,
            aspect_ratios=like.aspect_ratios,
            layout=like.layout,
        )

    def forward(self, sizes: Sequence[tuple[int, int]], like: Tensor) -> Float[Tensor, "A 4"]:
        """The anchors of feature maps with these (height, width), row by row."""
        levels = []
        for (height, width), shapes in zip(sizes, self.shapes(len(sizes)), strict=True):
            y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
            x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
            cells = (height, width, len(shapes))
            sides = like.new_tensor(shapes)
            columns = [x[None, :, None], y[:, None, None], sides[:, 0], sides[:, 1]]
            levels.append(torch.stack([column.expand(cells) for column in columns], dim=-1).reshape(-1, 4))
        return torch.cat(levels)


def all_boxes(raw: SSDOutput, size: tuple[int, int]) -> Float[Tensor, "B A 4"]:
    """The boxes of all anchors in pixels of the input, clipped to it."""
    boxes = decode(raw.deltas, raw.anchors).clamp(min=0, max=1)
    height, width = size
    return torch.stack(
        [boxes[..., 0] * width, boxes[..., 1] * height, boxes[..., 2] * width, boxes[..., 3] * height], -1
    )


def select(
    boxes: Float[Tensor, "B A 4"], scores: Float[Tensor, "B A C"], task: Detection, suppress: Suppress
) -> tuple[Float[Tensor, "B K 4"], Float[Tensor, "B K"], Int[Tensor, "B K"], Int[Tensor, " B"]]:
    """What `mbvision.boxes.select_detections` finds, filled up to K with zeros (labels: -1), and how many there are."""
    batch, anchors, classes = scores.shape
    few = min(task.max_candidates or anchors, anchors)
    values, places = scores.transpose(1, 2).topk(few)  # [B, C, k]
    rows = places.reshape(batch, classes * few, 1).expand(-1, -1, 4)
    candidates = boxes.gather(1, rows)
    kept = suppress(
        candidates.reshape(batch, classes, few, 4),
        values,
        task.nms_threshold,
        task.score_threshold,
        min(task.max_detections_per_class or task.max_detections, task.max_detections),
    )
    left = torch.where(kept, values, -1.0).reshape(batch, classes * few)
    best, order = left.topk(min(task.max_detections, classes * few))
    found = best >= 0
    corners = candidates.gather(1, order[..., None].expand(-1, -1, 4)) * found[..., None]
    names = torch.where(found, torch.div(order, few, rounding_mode="floor"), -1)
    return corners, best.clamp(min=0), names, found.sum(dim=1)


def labels(logits: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Tensor:
    """The best class of every pixel of the input, as uint8."""
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(dim=1).to(torch.uint8)


def suppress(
    boxes: Float[Tensor, "B C k 4"],
    scores: Float[Tensor, "B C k"],
    nms_threshold: float,
    score_threshold: float,
    most: int,
) -> Bool[Tensor, "B C k"]:
    """Exact suppression in each image and class, by torchvision's operator; the ``most`` best of each stay."""
    batch, classes, few = scores.shape
    apart = (boxes.amax().double() + 1) * torch.arange(batch, device=boxes.device)[:, None, None]
    nowhere = apart.new_tensor([-2.0, -2.0, -1.0, -1.0])
    kept = []
    # The operator takes as long as the boxes that stay times all boxes that it is given: one class at a time, and what
    # is not over the threshold lies in one place, where one box stays.
    for label in range(classes):
        index = torch.tensor([label], device=boxes.device)  # a slice's strides would be fixed to one size of batch
        ranks = scores.index_select(1, index).reshape(-1).double()
        places = (boxes.index_select(1, index).reshape(batch, few, 4).double() + apart).reshape(-1, 4)
        places = torch.where(ranks[:, None] > score_threshold, places, nowhere)
        keep = torch.ops.torchvision.nms(places, ranks, nms_threshold)
        stays = torch.zeros(batch * few, dtype=torch.bool, device=boxes.device).index_fill(0, keep, True)
        kept.append(stays.reshape(batch, few))
    stays = torch.stack(kept, dim=1) & (scores > score_threshold)
    return stays & (stays.cumsum(dim=-1) <= most)
