"""The loss of SSD: anchors are matched to boxes for the whole batch at once, then a class and a box term."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import box_iou, sigmoid_focal_loss

from mbvision.boxes import corners, encode
from mbvision.errors import ConfigError
from mbvision.losses.normalizer import Normalizer, check_normalizer, loss_divisor

BACKGROUND = -1
MAX_PAIRS = 2**22
"""How many pairs of a box and an anchor are compared at once; each takes about 60 bytes for a moment."""


class Matches(NamedTuple):
    """For every image and anchor, the row of the concatenated boxes it is matched to, or -1 for background."""

    rows: Int[Tensor, "B A"]

    @property
    def positive(self) -> Bool[Tensor, "B A"]:
        """Which anchors are matched."""
        return self.rows >= 0


def match_anchors(
    anchors: Float[Tensor, "A 4"],
    boxes: Float[Tensor, "G 4"],
    counts: Sequence[int],
    *,
    iou_threshold: float = 0.5,
) -> Matches:
    """Match each anchor to the box of its image that it overlaps most, if enough; each box gets its best anchor.

    ``boxes`` are those of all images one after the other, ``counts`` how many each image has (0 is fine). Where two
    boxes claim the same best anchor, the later one gets it. SSD, arXiv:1512.02325, section 2.2. Usual batches are
    matched at once, crowded ones a few images at a time, which bounds the memory.
    """
    parts, first = [], 0
    for group in _groups(counts, MAX_PAIRS // max(len(anchors), 1)):
        last = first + sum(group)
        rows = _matched_rows(anchors, boxes[first:last], group, iou_threshold)
        parts.append(torch.where(rows >= 0, rows + first, rows))
        first = last
    return Matches(torch.cat(parts))


def _groups(counts: Sequence[int], most: int) -> Iterator[list[int]]:
    """The counts in order, in groups that add up to ``most`` at the most where an image has no more alone."""
    group: list[int] = []
    for count in counts:
        if group and sum(group) + count > most:
            yield group
            group = []
        group.append(count)
    yield group


def _matched_rows(
    anchors: Float[Tensor, "A 4"], boxes: Float[Tensor, "G 4"], counts: Sequence[int], iou_threshold: float
) -> Int[Tensor, "B A"]:
    """`match_anchors` of some images at once; rows count from their own first box."""
    num_images, num_anchors = len(counts), len(anchors)
    rows = torch.full((num_images, num_anchors), BACKGROUND, dtype=torch.int64, device=anchors.device)
    if len(boxes) == 0:
        return rows
    image = torch.repeat_interleave(
        torch.arange(num_images, device=anchors.device), torch.tensor(counts, device=anchors.device)
    )
    iou = box_iou(boxes, corners(anchors))
    to_image = image[:, None].expand_as(iou)
    best = iou.new_zeros(num_images, num_anchors).scatter_reduce_(0, to_image, iou, "amax")
    row = torch.arange(len(boxes), device=anchors.device)[:, None]
    # Rows where the anchor's best overlap is reached; the first one wins.
    reached = torch.where((iou == best[image]) & (iou >= iou_threshold), row, len(boxes))
    first = torch.full_like(rows, len(boxes)).scatter_reduce_(0, to_image, reached, "amin")
    rows = torch.where(first < len(boxes), first, BACKGROUND)
    best_anchor = iou.argmax(dim=1)
    claimed = torch.full_like(rows, BACKGROUND).view(-1)
    claimed.scatter_reduce_(0, image * num_anchors + best_anchor, row.squeeze(1), "amax")
    claimed = claimed.view_as(rows)
    return torch.where(claimed >= 0, claimed, rows)


class MultiBoxLoss:
    """Class and box loss of an SSD head, both summed over the batch and divided by its number of matched anchors.

    Of several processes each has a part of the batch: ``normalizer`` says whether the sum is divided by the mean of
    their numbers (``global``) or by its own (``process``), see `loss_divisor`.

    ``classification``:

    - ``softmax``: cross-entropy over the classes and background, on matched anchors and on the hardest others,
      ``negatives_per_positive`` to one, at least ``min_negatives`` an image, so that an empty image still teaches.
    - ``sigmoid``: the same with one binary cross-entropy a class, as TensorFlow's V1 and V2 configurations have it.
    - ``focal``: sigmoid focal loss on all anchors (arXiv:1708.02002) with ``alpha`` and ``gamma`` as the released
      MobileNetV3 configurations set them.

    The box loss is smooth L1 (beta 1) on the deltas; ``box_weight`` scales it.
    """

    def __init__(
        self,
        *,
        classification: Literal["softmax", "sigmoid", "focal"] = "softmax",
        iou_threshold: float = 0.5,
        negatives_per_positive: float = 3.0,
        min_negatives: int = 3,
        alpha: float = 0.75,
        gamma: float = 2.0,
        box_weight: float = 1.0,
        normalizer: Normalizer = "global",
    ) -> None:
        if classification not in ("softmax", "sigmoid", "focal"):
            raise ConfigError(f"classification={classification!r} is no loss; choose softmax, sigmoid or focal")
        if not 0 < iou_threshold <= 1:
            raise ConfigError(f"iou_threshold={iou_threshold}: must be over 0 and at most 1")
        if negatives_per_positive < 0 or min_negatives < 0:
            raise ConfigError(
                f"negatives_per_positive={negatives_per_positive}, min_negatives={min_negatives}: must be 0 or more"
            )
        check_normalizer(normalizer)
        self.classification = classification
        self.iou_threshold = iou_threshold
        self.negatives_per_positive = negatives_per_positive
        self.min_negatives = min_negatives
        self.alpha, self.gamma = alpha, gamma
        self.box_weight = box_weight
        self.normalizer = normalizer

    def __call__(
        self,
        logits: Float[Tensor, "B A K"],
        deltas: Float[Tensor, "B A 4"],
        anchors: Float[Tensor, "A 4"],
        boxes: Float[Tensor, "G 4"],
        labels: Int[Tensor, " G"],
        counts: Sequence[int],
    ) -> dict[str, Tensor]:
        """The named losses; ``boxes`` and ``labels`` (from 0) of all images in a row, ``counts`` of each image."""
        logits, deltas = logits.float(), deltas.float()
        with torch.no_grad():
            matches = match_anchors(anchors, boxes, counts, iou_threshold=self.iou_threshold)
            positive = matches.positive
            classes = torch.zeros_like(matches.rows)
            classes[positive] = labels[matches.rows[positive]] + 1
            number = loss_divisor(positive.sum(), self.normalizer)
        image_anchor = positive.nonzero(as_tuple=True)
        goal = encode(boxes[matches.rows[positive]], anchors[image_anchor[1]])
        box_loss = F.smooth_l1_loss(deltas[image_anchor], goal, reduction="sum")
        if self.classification == "focal":
            class_loss = self._focal(logits, classes)
        else:
            class_loss = self._mined(logits, classes, positive)
        return {"box": self.box_weight * box_loss / number, "class": class_loss / number}

    def _mined(self, logits: Tensor, classes: Tensor, positive: Tensor) -> Tensor:
        if self.classification == "softmax":
            each = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(classes)
        else:
            goal = _one_hot(classes, logits)
            each = F.binary_cross_entropy_with_logits(logits[..., 1:], goal, reduction="none").sum(dim=-1)
        with torch.no_grad():
            hard = hard_negatives(each, positive, self.negatives_per_positive, self.min_negatives)
        return each[positive | hard].sum()

    def _focal(self, logits: Tensor, classes: Tensor) -> Tensor:
        goal = _one_hot(classes, logits)
        return sigmoid_focal_loss(logits[..., 1:], goal, alpha=self.alpha, gamma=self.gamma, reduction="sum")


def _one_hot(classes: Int[Tensor, "B A"], logits: Float[Tensor, "B A K"]) -> Float[Tensor, "B A K-1"]:
    """Background is the absence of every class: its column is not trained."""
    return F.one_hot(classes, logits.shape[-1])[..., 1:].to(logits.dtype)


def hard_negatives(
    losses: Float[Tensor, "B A"], positive: Bool[Tensor, "B A"], per_positive: float, minimum: int
) -> Bool[Tensor, "B A"]:
    """The unmatched anchors with the largest loss: ``per_positive`` for each match of an image, ``minimum`` or more."""
    wanted = (positive.sum(dim=1, keepdim=True) * per_positive).clamp(min=minimum)
    most = min(int(wanted.max()), losses.shape[1]) if len(losses) else 0
    order = losses.masked_fill(positive, -torch.inf).topk(most, dim=1).indices
    rank = torch.arange(most, device=losses.device).expand_as(order)
    chosen = torch.zeros_like(positive).scatter_(1, order, rank < wanted)
    return chosen & ~positive
