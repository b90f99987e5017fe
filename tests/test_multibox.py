"""Matching and losses against torchvision's SSD and against hand-worked cases."""

import pytest
import torch
from torchvision.models.detection import _utils as tv
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou, sigmoid_focal_loss

from mbvision.boxes import centre_size, corners
from mbvision.errors import ConfigError
from mbvision.heads.anchors import SSDAnchors
from mbvision.losses import multibox
from mbvision.losses.multibox import MultiBoxLoss, hard_negatives, match_anchors
from tests.test_boxes import random_boxes

SIZES = [(10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


def batch(seed: int, counts: list[int], classes: int = 5):
    generator = torch.Generator().manual_seed(seed)
    anchors = SSDAnchors(layout="torchvision")(SIZES, torch.zeros(1))
    boxes = random_boxes(generator, sum(counts)).clamp(0, 1)
    labels = torch.randint(classes, (sum(counts),), generator=generator)
    logits = torch.randn(len(counts), len(anchors), classes + 1, generator=generator)
    deltas = torch.randn(len(counts), len(anchors), 4, generator=generator)
    return anchors, boxes, labels, logits, deltas


def torchvision_matches(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    if len(boxes) == 0:
        return torch.full((len(anchors),), -1)
    return tv.SSDMatcher(0.5)(box_iou(boxes, corners(anchors)))


@pytest.mark.parametrize("counts", [[3], [1, 7, 2], [0, 4, 0, 30], [0, 0]])
def test_matches_equal_torchvisions_image_by_image(counts: list[int]) -> None:
    anchors, boxes, *_ = batch(0, counts)
    rows = match_anchors(anchors, boxes, counts).rows
    start = 0
    for image, count in enumerate(counts):
        expected = torchvision_matches(anchors, boxes[start : start + count])
        assert torch.equal(rows[image], torch.where(expected >= 0, expected + start, -1))
        start += count


@pytest.mark.parametrize(("most", "sizes"), [(9, [3, 1]), (30, [3, 1]), (1, [1, 1, 1, 1]), (50, [4])])
def test_crowded_batches_are_matched_in_parts_with_the_same_result(
    most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [0, 4, 3, 30]
    anchors, boxes, *_ = batch(0, counts)
    expected = match_anchors(anchors, boxes, counts).rows
    seen = []

    def iou(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        seen.append(len(some))
        return box_iou(some, others)

    monkeypatch.setattr(multibox, "box_iou", iou)
    monkeypatch.setattr(multibox, "MAX_PAIRS", most * len(anchors))
    assert torch.equal(match_anchors(anchors, boxes, counts).rows, expected)
    images = iter(counts)
    parts = [sum(next(images) for _ in range(size)) for size in sizes]
    assert seen == [part for part in parts if part]


@pytest.mark.parametrize("counts", [[3], [1, 7, 2], [2, 4, 0, 30]])
def test_softmax_loss_equals_torchvisions(counts: list[int]) -> None:
    anchors, boxes, labels, logits, deltas = batch(1, counts)
    ssd = SSD.__new__(SSD)
    torch.nn.Module.__init__(ssd)
    ssd.box_coder, ssd.neg_to_pos_ratio = tv.BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)), 3
    targets, matched, start = [], [], 0
    for count in counts:
        own = boxes[start : start + count]
        targets.append({"boxes": own, "labels": labels[start : start + count] + 1})
        matched.append(torchvision_matches(anchors, own))
        start += count
    expected = ssd.compute_loss(
        targets, {"bbox_regression": deltas, "cls_logits": logits}, [corners(anchors)] * len(counts), matched
    )
    found = MultiBoxLoss(min_negatives=0)(logits, deltas, anchors, boxes, labels, counts)
    torch.testing.assert_close(found["box"], expected["bbox_regression"])
    torch.testing.assert_close(found["class"], expected["classification"])


def test_focal_loss_is_the_sum_over_all_anchors_and_classes() -> None:
    anchors, boxes, labels, logits, deltas = batch(2, [2, 3])
    found = MultiBoxLoss(classification="focal")(logits, deltas, anchors, boxes, labels, [2, 3])
    rows = match_anchors(anchors, boxes, [2, 3]).rows
    goal = torch.zeros(2, len(anchors), 5)
    for image, anchor in (rows >= 0).nonzero().tolist():
        goal[image, anchor, labels[rows[image, anchor]]] = 1
    expected = sigmoid_focal_loss(logits[..., 1:], goal, alpha=0.75, gamma=2.0).sum() / (rows >= 0).sum()
    torch.testing.assert_close(found["class"], expected)


def test_sigmoid_loss_sums_the_classes_of_matched_and_hard_anchors() -> None:
    anchors, boxes, labels, logits, deltas = batch(4, [2])
    found = MultiBoxLoss(classification="sigmoid")(logits, deltas, anchors, boxes, labels, [2])
    rows = match_anchors(anchors, boxes, [2]).rows[0]
    each = []
    for anchor, row in enumerate(rows.tolist()):
        goal = torch.zeros(5)
        if row >= 0:
            goal[labels[row]] = 1
        probability = logits[0, anchor, 1:].sigmoid()
        each.append(-(goal * probability.log() + (1 - goal) * (1 - probability).log()).sum())
    losses, matched = torch.stack(each), rows >= 0
    negatives = losses[~matched].sort(descending=True).values[: max(3 * int(matched.sum()), 3)]
    torch.testing.assert_close(found["class"], (losses[matched].sum() + negatives.sum()) / matched.sum())


def test_an_empty_image_still_teaches_and_the_loss_is_finite() -> None:
    anchors, boxes, labels, logits, deltas = batch(3, [0, 0])
    logits.requires_grad_()
    losses = MultiBoxLoss(min_negatives=3)(logits, deltas, anchors, boxes, labels, [0, 0])
    assert losses["box"] == 0 and 0 < losses["class"] < 100
    losses["class"].backward()
    assert (logits.grad.abs().sum(dim=(1, 2)) > 0).all()


def test_hard_negatives_are_the_worst_of_each_image() -> None:
    losses = torch.tensor([[5.0, 1.0, 4.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    positive = torch.tensor([[True, False, False, False, False], [False] * 5])
    chosen = hard_negatives(losses, positive, 2.0, 1)
    assert chosen.tolist() == [[False, False, True, True, False], [False, False, False, False, True]]


def test_each_box_gets_its_best_anchor_even_below_the_threshold() -> None:
    anchors = centre_size(torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]))
    rows = match_anchors(anchors, torch.tensor([[0.6, 0.6, 0.7, 0.7]]), [1]).rows
    assert rows.tolist() == [[-1, 0]]


def test_an_unknown_loss_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"hinge.*softmax, sigmoid or focal"):
        MultiBoxLoss(classification="hinge")  # type: ignore[arg-type]  # a wrong value on purpose
