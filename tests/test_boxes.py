"""Box coding is its own inverse; selecting detections gives what the plain per-class method gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import nms

from mbvision.boxes import centre_size, corners, decode, encode, select_detections


def random_boxes(generator: torch.Generator, count: int) -> Tensor:
    centres = torch.rand(count, 2, generator=generator)
    sides = torch.rand(count, 2, generator=generator) * 0.4 + 0.02
    return corners(torch.cat([centres, sides], dim=1))


def brute_force(
    scores: Tensor,
    boxes: Tensor,
    *,
    score: float,
    iou: float,
    candidates: int | None,
    per_class: int | None,
    total: int,
) -> list[tuple[int, int]]:
    """Class by class with torchvision's nms, then all classes together; ties go by label, then anchor."""
    kept = []
    for label in range(scores.shape[1]):
        index = (scores[:, label] > score).nonzero().squeeze(1)
        order = index[scores[index, label].sort(descending=True, stable=True).indices][:candidates]
        ranks = torch.arange(len(order), 0, -1).double()
        for row in order[nms(boxes[order].double(), ranks, iou)][:per_class].tolist():
            kept.append((-scores[row, label].item(), label, row))
    return [(label, row) for _, label, row in sorted(kept)[:total]]


@pytest.mark.parametrize("block", range(10))
def test_selection_equals_brute_force_on_a_thousand_cases(block: int) -> None:
    for case in range(100):
        generator = torch.Generator().manual_seed(100 * block + case)
        draw = torch.rand(6, generator=generator).tolist()
        count, classes = int(2 + draw[0] * 700), int(1 + draw[1] * 12)
        scores = torch.rand(count, classes, generator=generator) ** (1 + 4 * draw[2])
        if case % 3 == 0:
            scores = (scores * 8).round() / 8  # many ties
        anchors = centre_size(random_boxes(generator, count))
        deltas = torch.randn(count, 4, generator=generator) * 0.5
        limits = {"score": [0.0, 0.001, 0.3, 0.9][case % 4], "iou": 0.3 + 0.4 * draw[3]}
        candidates, per_class = [(int(1 + draw[4] * 400), None), (None, int(1 + draw[4] * 40)), (90, 30)][case % 3]
        total = int(1 + draw[5] * 300)
        plain = decode(deltas, anchors).clamp(0, 1)
        boxes, values, labels = select_detections(
            scores,
            plain.__getitem__,
            score_threshold=limits["score"],
            nms_threshold=limits["iou"],
            max_candidates=candidates,
            max_detections_per_class=per_class,
            max_detections=total,
        )
        expected = brute_force(scores, plain, **limits, candidates=candidates, per_class=per_class, total=total)
        assert labels.tolist() == [label for label, _ in expected]
        assert torch.equal(boxes, plain[[row for _, row in expected]].reshape(-1, 4))
        assert torch.equal(values, scores[[row for _, row in expected], labels.tolist()].reshape(-1))


def test_no_score_over_the_threshold_gives_no_detections() -> None:
    boxes, scores, labels = select_detections(
        torch.zeros(5, 3),
        torch.zeros(5, 4).__getitem__,
        score_threshold=0.5,
        nms_threshold=0.5,
        max_candidates=10,
        max_detections_per_class=None,
        max_detections=10,
    )
    assert boxes.shape == (0, 4) and scores.shape == (0,) and labels.shape == (0,)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_decode_undoes_encode(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes, anchors = random_boxes(generator, 20), centre_size(random_boxes(generator, 20))
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, atol=1e-5, rtol=1e-5)


def test_coding_equals_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, anchors = random_boxes(generator, 50), random_boxes(generator, 50)
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(encode(boxes, centre_size(anchors)), coder.encode_single(boxes, anchors))
    deltas = torch.randn(50, 4, generator=generator) * 3
    torch.testing.assert_close(decode(deltas, centre_size(anchors)), coder.decode_single(deltas, anchors))
