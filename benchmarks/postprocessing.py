"""From raw SSD outputs to detections: our task beside torchvision's SSD.postprocess_detections.

One image of 3,234 anchors and 90 classes with seeded random outputs; the background's logit is set so that about 300,
3,000 or 30,000 class scores exceed the threshold of 0.001. Softmax, decoding and suppression are timed on both sides.

    python benchmarks/postprocessing.py
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.models.detection.ssd import SSD

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ssdlite_pair import (
    LEVELS,
    NUM_CLASSES,
    SIZE,
    background_bias,
    detection_task,
    ssdlite_pair,
    torchvision_anchor_boxes,
    torchvision_anchors,
    with_background,
)
from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.heads.ssdlite import SSDOutput


def compare(ssd: SSD, candidates: int, rounds: int) -> Table:
    """Time both on outputs with about so many candidates."""
    generator = torch.Generator().manual_seed(candidates)
    anchors = torchvision_anchors()(LEVELS, torch.empty(0))
    logits = 1.5 * torch.randn(1, len(anchors), NUM_CLASSES + 1, generator=generator)
    logits = with_background(logits, background_bias(logits, candidates))
    deltas = torch.randn(1, len(anchors), 4, generator=generator)
    boxes = torchvision_anchor_boxes(ssd, torch.empty(1, 3, *SIZE))
    theirs = {"cls_logits": logits, "bbox_regression": deltas}
    ours, task = SSDOutput(logits, deltas, anchors), detection_task()
    (expected,), (found,) = ssd.postprocess_detections(theirs, boxes, [SIZE]), task.predict(ours, SIZE)
    same = torch.equal(found.labels + 1, expected["labels"]) and torch.equal(found.scores, expected["scores"])
    same = same and torch.allclose(found.boxes, expected["boxes"], atol=1e-3, rtol=0)
    exact = int((logits.softmax(dim=-1)[..., 1:] > task.score_threshold).sum())
    cases = [
        Case(name="torchvision", run=lambda _: ssd.postprocess_detections(theirs, boxes, [SIZE])),
        Case(name="mbvision", run=lambda _: task.predict(ours, SIZE)),
    ]
    return Table(
        title=f"{exact} candidates, {len(found.boxes)} detections",
        rows=measure(cases, rounds=rounds),
        rounds=rounds,
        checks=[check(same, "labels and scores are equal, boxes to 0.001 pixels")],
    )


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Time all three and print the tables."""
    arguments = parser(__doc__, rounds=50).parse_args(argv)
    one_thread()
    ssd = ssdlite_pair().theirs
    rounds = 2 if arguments.quick else arguments.rounds
    tables = [compare(ssd, candidates, rounds) for candidates in (300, 3_000, 30_000)]
    report(tables, arguments.output)


if __name__ == "__main__":
    main()
