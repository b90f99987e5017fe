"""Matching, loss and its gradients for a batch: our MultiBoxLoss beside torchvision's matcher and SSD.compute_loss.

3,234 anchors and 90 classes, seeded random outputs; the number of boxes of an image is geometric with mean 7, as skewed
as COCO's. torchvision's side is the loop over images of SSD.forward. It gets anchors and boxes relative to the image as
ours computes them: in pixels, rounding decides otherwise between anchors that overlap a box equally.

    python benchmarks/matching.py
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.ssdlite_pair import (
    LEVELS,
    NUM_CLASSES,
    SIZE,
    detection_task,
    ssdlite_pair,
    torchvision_anchors,
    torchvision_losses,
    torchvision_targets,
)
from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.boxes import corners
from mbvision.heads.ssdlite import SSDOutput
from mbvision.structures import Geometry, Target

MEAN_BOXES = 7


def random_targets(batch: int, generator: torch.Generator) -> list[Target]:
    """Boxes with log-uniform sides of 8 to 250 pixels; some images may have none."""
    counts = torch.empty(batch).geometric_(1 / (1 + MEAN_BOXES), generator=generator).long() - 1
    targets = []
    for number, count in enumerate(counts.tolist()):
        sides = torch.exp(torch.rand(count, 2, generator=generator) * 3.44 + 2.08)
        corner = torch.rand(count, 2, generator=generator) * (SIZE[0] - sides)
        labels = torch.randint(NUM_CLASSES, (count,), generator=generator)
        boxes = torch.cat([corner, corner + sides], dim=1)
        targets.append(Target(image_id=number, geometry=Geometry(original=SIZE), boxes=boxes, box_labels=labels))
    return targets


def compare(batch: int, rounds: int) -> Table:
    """Time both on one batch."""
    generator = torch.Generator().manual_seed(0)
    targets = random_targets(batch, generator)
    anchors, task, ssd = torchvision_anchors()(LEVELS, torch.empty(0)), detection_task(), ssdlite_pair().theirs
    logits = torch.randn(batch, len(anchors), NUM_CLASSES + 1, generator=generator).requires_grad_()
    deltas = torch.randn(batch, len(anchors), 4, generator=generator).requires_grad_()
    anchor_boxes = [corners(anchors)] * batch
    their_targets = [t | {"boxes": t["boxes"] / SIZE[0]} for t in torchvision_targets(targets)]
    outputs = {"cls_logits": logits, "bbox_regression": deltas}

    def theirs() -> list[Tensor]:
        losses = torchvision_losses(ssd, outputs, anchor_boxes, their_targets)
        total = losses["bbox_regression"] + losses["classification"]
        return [total, *torch.autograd.grad(total, (logits, deltas))]

    def ours() -> list[Tensor]:
        losses = task.loss(SSDOutput(logits, deltas, anchors), targets, SIZE)
        total = losses["box"] + losses["class"]
        return [total, *torch.autograd.grad(total, (logits, deltas))]

    same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(theirs(), ours(), strict=True))
    cases = [Case(name="torchvision", run=lambda _: theirs()), Case(name="mbvision", run=lambda _: ours())]
    return Table(
        title=f"a batch of {batch} with {sum(len(t['boxes']) for t in their_targets)} boxes",
        rows=measure(cases, rounds=rounds),
        rounds=rounds,
        checks=[check(same, "losses and gradients are equal to 1e-4")],
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Time both and print the table."""
    arguments = parser(__doc__, rounds=30).parse_args(argv)
    one_thread()
    table = compare(4, 1) if arguments.quick else compare(16, arguments.rounds)
    report([table], arguments.output)


if __name__ == "__main__":
    main()
