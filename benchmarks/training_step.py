"""A training step of SSDLite320, batch 8: network, matching, loss, gradients and SGD, beside torchvision's.

Ours is what training runs: a uint8 batch, channels-last in memory as the weights are, made float within the step.
torchvision's is the model as its users call it, on a list of float pictures of 320 x 320 with their targets: its
GeneralizedRCNNTransform normalises, "resizes" and stacks them. Two more rows take that transform away, and give its
weights our memory format. All start from the same weights and take the same pictures.

    python benchmarks/training_step.py
"""

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models.detection.ssd import SSD

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.pictures import drawn_sample
from benchmarks.ssdlite_pair import (
    SIZE,
    detection_task,
    ssdlite_pair,
    torchvision_anchor_boxes,
    torchvision_losses,
    torchvision_targets,
)
from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.data.collate import collate
from mbvision.engine.optim import parameter_groups
from mbvision.network import Network
from mbvision.structures import Batch

LEARNING_RATE = 1e-4  # so small that random weights stay finite


def our_step(network: Network, batch: Batch) -> Callable[[], float]:
    """A step of ours; it returns the loss."""
    network.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(parameter_groups(network), lr=LEARNING_RATE, momentum=0.9, weight_decay=4e-5)
    task = detection_task()

    def step() -> float:
        losses = task.loss(network(batch.float_images())["detection"], batch.targets, SIZE)
        return _update(optimizer, torch.stack(list(losses.values())).sum())

    return step


def their_step(model: SSD, batch: Batch, *, own_transform: bool, channels_last: bool) -> Callable[[], float]:
    """A step of torchvision's model; without its transform it gets the stacked, normalised pictures."""
    model.train()
    if channels_last:
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=4e-5)
    pictures = [picture.contiguous() for picture in batch.float_images()]
    targets = torchvision_targets(batch.targets)

    def step() -> float:
        losses = model(pictures, targets) if own_transform else _without_transform(model, pictures, targets)
        return _update(optimizer, torch.stack(list(losses.values())).sum())

    return step


def _without_transform(model: SSD, pictures: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    images = (torch.stack(pictures) - 0.5) / 0.5
    outputs = model.head(list(model.backbone(images).values()))
    return torchvision_losses(model, outputs, torchvision_anchor_boxes(model, images), targets)


def _call(step: Callable[[], float], _: None) -> float:
    return step()


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def compare(batch_size: int, rounds: int) -> Table:
    """Time all four on one batch."""
    batch = collate([drawn_sample(seed, SIZE) for seed in range(batch_size)])
    theirs, ours = ssdlite_pair()
    plain, bare, last = theirs, deepcopy(theirs), deepcopy(theirs)
    steps = {
        "torchvision": their_step(plain, batch, own_transform=True, channels_last=False),
        "torchvision without its transform": their_step(bare, batch, own_transform=False, channels_last=False),
        "torchvision, channels-last weights": their_step(last, batch, own_transform=True, channels_last=True),
        "mbvision": our_step(ours, batch),
    }
    apart = _apart(plain, ours, batch)
    losses = torch.tensor([step() for step in steps.values()])
    near = torch.allclose(losses, losses[0], rtol=0.02)
    cases = [Case(name=name, run=partial(_call, step)) for name, step in steps.items()]
    return Table(
        title=f"a step, batch {batch_size} of {SIZE[0]}x{SIZE[1]}",
        rows=measure(cases, rounds=rounds),
        rounds=rounds,
        checks=[
            check(apart < 1e-3, "raw outputs in training mode are equal, on average to 0.001 of their size"),
            check(
                near, f"losses of the first step ({losses[0]:.3f}, {losses[-1]:.3f}) are equal to 2 %: where anchors"
            ),
            "overlap a box equally, rounding decides; matching.py shows that matching and loss are the same",
        ],
    )


@torch.no_grad()
def _apart(theirs: SSD, ours: Network, batch: Batch) -> float:
    """The mean difference of the raw outputs over their mean size; on 1x1 maps batch norm magnifies rounding."""
    images = batch.float_images()
    expected = theirs.head(list(theirs.backbone((images.contiguous() - 0.5) / 0.5).values()))
    found = ours(images)["detection"]
    pairs = ((found.logits, expected["cls_logits"]), (found.deltas, expected["bbox_regression"]))
    return max(((a - b).abs().mean() / b.abs().mean()).item() for a, b in pairs)


def main(argv: Sequence[str] | None = None) -> None:
    """Time all and print the table."""
    arguments = parser(__doc__, rounds=10).parse_args(argv)
    one_thread()
    table = compare(2, 1) if arguments.quick else compare(8, arguments.rounds)
    report([table], arguments.output)


if __name__ == "__main__":
    main()
