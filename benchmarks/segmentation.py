"""From logits to labels and from labels to counts: ours beside torch's argmax and torchvision's confusion matrix.

Labels: seeded logits, first independent in every cell, where any class may win anywhere (the worst case for us), then
smooth with six classes above the others, as a trained network gives them. Theirs is what torchvision's models and
references do: bilinear interpolation of all classes, then argmax. Counts: theirs is `ConfusionMatrix.update` of the
references, on int64 labels that are converted before the clock starts.

    python benchmarks/segmentation.py
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.masks import upsampled_labels
from mbvision.metrics.mean_iou import confusion_matrix
from mbvision.structures import Geometry, Segmentation

Size = tuple[int, int]
Labels = UInt8[np.ndarray, "H W"]
STRIDE = 8
PRESENT = 6
# classes, logits, picture: VOC at 513 and 320, Cityscapes at half size
SIZES: tuple[tuple[int, Size, Size], ...] = (
    (21, (65, 65), (480, 640)),
    (21, (40, 40), (480, 640)),
    (19, (128, 256), (1024, 2048)),
)
QUICK: tuple[tuple[int, Size, Size], ...] = ((5, (9, 9), (48, 64)),)


def independent(classes: int, cells: Size) -> Float[Tensor, "C h w"]:
    """Normal noise."""
    return torch.randn(classes, *cells, generator=torch.Generator().manual_seed(0))


def smooth(classes: int, cells: Size) -> Float[Tensor, "C h w"]:
    """Blobs of the first classes; the others are far below everywhere."""
    coarse = 6 * independent(classes, (cells[0] // 8 + 2, cells[1] // 8 + 2))
    coarse[PRESENT:] -= 30
    blobs = interpolate(coarse[None], cells, mode="bicubic")[0]
    return (blobs + 0.3 * independent(classes, cells)).contiguous()


def torch_labels(logits: Float[Tensor, "C h w"], size: Size) -> Labels:
    """What others do; uint8 at the end, as ours."""
    full = interpolate(logits[None], size, mode="bilinear", align_corners=False)
    labels: Labels = full.argmax(dim=1)[0].to(torch.uint8).numpy()
    return labels


def compare_labels(kind: str, logits: Float[Tensor, "C h w"], size: Size, rounds: int) -> Table:
    """Time both on the same logits."""
    classes, height, width = logits.shape
    input_size = (STRIDE * height, STRIDE * width)
    segmentation = Segmentation(logits=logits, input_size=input_size)
    geometry = Geometry(original=size, scale=(input_size[1] / size[1], input_size[0] / size[0]))
    share = float((torch_labels(logits, size) != upsampled_labels(segmentation, geometry)).mean())
    cases = [
        Case(name="interpolate, argmax", run=lambda _: torch_labels(logits, size)),
        Case(name="mbvision", run=lambda _: upsampled_labels(segmentation, geometry)),
    ]
    return Table(
        title=f"labels, {classes} classes {height}x{width} to {size[0]}x{size[1]}, {kind} logits",
        rows=measure(cases, rounds=rounds),
        rounds=rounds,
        checks=[check(share < 1e-5, "labels are equal but for ties within rounding"), f"different: {share:.7f}"],
    )


def torchvision_counts(target: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """The arithmetic of torchvision's references."""
    known = (target >= 0) & (target < classes)
    cells = classes * target[known] + prediction[known]
    return torch.bincount(cells, minlength=classes**2).reshape(classes, classes)


def label_pair(classes: int, size: Size) -> tuple[Labels, Labels]:
    """A target of blocks, some of them ignored, and a prediction that is a little beside it."""
    blocks = np.random.default_rng(0).integers(0, classes + 1, (-(-size[0] // 16), -(-size[1] // 16)))
    target = blocks.astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)[: size[0], : size[1]]
    prediction = np.roll(target, 5, axis=1) % classes
    return np.where(target == classes, np.uint8(255), target), prediction.astype(np.uint8)


def compare_counts(classes: int, size: Size, rounds: int) -> Table:
    """Time both on the same labels."""
    target, prediction = label_pair(classes, size)
    theirs = [torch.from_numpy(labels).long().flatten() for labels in (target, prediction)]
    expected = torchvision_counts(theirs[0], theirs[1], classes).numpy()
    found = confusion_matrix(target, prediction, classes)
    cases = [
        Case(name="torchvision references", run=lambda _: torchvision_counts(theirs[0], theirs[1], classes)),
        Case(name="mbvision", run=lambda _: confusion_matrix(target, prediction, classes)),
    ]
    same = bool((found[:, :-1] == expected).all()) and not found[:, -1].any()
    return Table(
        title=f"confusion matrix, {classes} classes, {size[0]}x{size[1]}",
        rows=measure(cases, rounds=rounds),
        rounds=rounds,
        checks=[check(same, "all counts are equal")],
    )


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Time all sizes and print the tables."""
    arguments = parser(__doc__, rounds=7).parse_args(argv)
    one_thread()
    sizes, rounds = (QUICK, 2) if arguments.quick else (SIZES, arguments.rounds)
    tables = [
        compare_labels(kind.__name__, kind(classes, cells), size, rounds)
        for classes, cells, size in sizes
        for kind in (independent, smooth)
    ]
    tables += [compare_counts(classes, size, rounds) for classes, size in dict.fromkeys((s[0], s[2]) for s in sizes)]
    report(tables, arguments.output)


if __name__ == "__main__":
    main()
