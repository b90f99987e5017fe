"""Training pictures per second of one core: our detection pipeline beside torchvision v2's on tensors.

Both read JPEG files, change colours, zoom out, crop by IoU, flip, resize to 320x320, drop lost boxes, and end in a
normalised float batch of 8 with its boxes; probabilities and ranges are each side's defaults for SSD. Ours crops before
it resizes and changes colours after, turns hue in YIQ, and resizes bilinearly or by area where torchvision antialiases;
its crop must overlap every box it keeps by the IoU drawn, torchvision's one of them, so that ours are tighter.

    python benchmarks/data_pipeline.py
    python benchmarks/data_pipeline.py --images FOLDER     # your own JPEG files, with seven random boxes on each
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.pictures import drawn_sample
from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.data.collate import collate
from mbvision.data.images import image_size, read_image
from mbvision.data.transforms.ssd import ssd_train
from mbvision.structures import Geometry, Sample, Target

SIZE = (320, 320)
BATCH = 8
QUALITY = 90
MEAN = STD = (0.5, 0.5, 0.5)
FILL = (124, 116, 104)  # what both sides fill a zoomed-out picture with

Pipeline = Callable[[Sequence[Path], Sequence[Target], int], tuple[Tensor, list[Tensor]]]


class OurPipeline:
    """As training does it, with the float conversion and normalisation that follow on the device."""

    def __init__(self) -> None:
        self.transform = ssd_train(size=SIZE)
        self.mean, self.std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)

    def __call__(self, files: Sequence[Path], targets: Sequence[Target], seed: int) -> tuple[Tensor, list[Tensor]]:
        """The batch and its boxes."""
        samples = []
        for number, (file, target) in enumerate(zip(files, targets, strict=True)):
            sample = Sample(image=read_image(file), target=target, path=str(file))
            samples.append(self.transform(sample, seed * len(files) + number))
        batch = collate(samples)
        images = (batch.float_images() - self.mean) / self.std
        return images, [target.boxes for target in batch.targets if target.boxes is not None]


class TheirPipeline:
    """torchvision.transforms.v2 on uint8 tensors, in the order of its SSD recipe."""

    def __init__(self) -> None:
        self.transform = v2.Compose(
            [
                v2.RandomPhotometricDistort(),
                v2.RandomZoomOut(fill={tv_tensors.Image: FILL, "others": 0}),
                v2.RandomIoUCrop(),
                v2.RandomHorizontalFlip(),
                v2.Resize(SIZE),
                v2.SanitizeBoundingBoxes(),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __call__(self, files: Sequence[Path], targets: Sequence[Target], seed: int) -> tuple[Tensor, list[Tensor]]:
        """The batch and its boxes."""
        torch.manual_seed(seed)
        images, boxes = [], []
        for file, target in zip(files, targets, strict=True):
            image = tv_tensors.Image(decode_jpeg(read_file(str(file)), mode=ImageReadMode.RGB))
            truth = {
                "boxes": tv_tensors.BoundingBoxes(target.boxes, format="XYXY", canvas_size=image.shape[-2:]),
                "labels": target.box_labels,
            }
            image, truth = self.transform(image, truth)
            images.append(image)
            boxes.append(truth["boxes"])
        return torch.stack(images), boxes


def draw_files(folder: Path, number: int) -> tuple[list[Path], list[Target]]:
    """Seeded 640x480 JPEG files of the built-in scenes, and their boxes."""
    files, targets = [], []
    for seed in range(number):
        sample = drawn_sample(seed)
        files.append(folder / f"{seed:04}.jpg")
        Image.fromarray(sample.image).save(files[-1], quality=QUALITY)
        targets.append(sample.target)
    return files, targets


def own_files(folder: Path, number: int) -> tuple[list[Path], list[Target]]:
    """The first JPEG files of a folder, with seven seeded boxes on each."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))[:number]
    if not files:
        raise SystemExit(f"{folder} holds no .jpg file")
    random, targets = np.random.default_rng(0), []
    for index, file in enumerate(files):
        height, width = image_size(file)
        sides = random.uniform(0.05, 0.5, (7, 2))
        corner = random.uniform(0, 1 - sides)
        pixels = np.concatenate([corner, corner + sides], axis=1) * (width, height, width, height)
        targets.append(
            Target(
                image_id=index,
                geometry=Geometry(original=(height, width)),
                boxes=torch.from_numpy(pixels.astype(np.float32)),
                box_labels=torch.from_numpy(random.integers(0, 80, 7)),
            )
        )
    return files, targets


def compare(files: Sequence[Path], targets: Sequence[Target], rounds: int) -> list[Table]:
    """Both pipelines, then reading alone; every round augments anew."""
    ours: Pipeline = OurPipeline()
    theirs: Pipeline = TheirPipeline()
    checks = [*_same_kind(ours, theirs, files, targets), _same_pictures(files), _sizes(files)]
    seeds = iter(range(1_000_000))
    pipelines = [
        Case(name=name, prepare=lambda: next(seeds), run=partial(_in_batches, run, files, targets))
        for name, run in (("torchvision v2", theirs), ("mbvision", ours))
    ]
    readers = [
        Case(name="torchvision", run=lambda _: [decode_jpeg(read_file(str(f)), mode=ImageReadMode.RGB) for f in files]),
        Case(name="mbvision", run=lambda _: [read_image(file) for file in files]),
    ]
    rows = measure(pipelines, rounds=rounds, divide=len(files))
    pace = [f"{row.name}: {1000 / row.cpu_ms:.0f} pictures per second of one core" for row in rows]
    return [
        Table(title="pipeline, per picture", rows=rows, rounds=rounds, checks=[*checks, *pace]),
        Table(title="reading alone", rows=measure(readers, rounds=rounds, divide=len(files)), rounds=rounds, checks=()),
    ]


def _in_batches(run: Pipeline, files: Sequence[Path], targets: Sequence[Target], seed: int) -> None:
    for start in range(0, len(files), BATCH):
        run(files[start : start + BATCH], targets[start : start + BATCH], seed)


def _same_pictures(files: Sequence[Path]) -> str:
    """Decoders may differ by rounding."""
    apart = [
        np.abs(read_image(file).astype(int) - decode_jpeg(read_file(str(file))).permute(1, 2, 0).numpy()).mean()
        for file in files[:8]
    ]
    return check(max(apart) < 0.5, f"both decode the same pictures, to {max(apart):.2f} grey levels on average")


def _same_kind(ours: Pipeline, theirs: Pipeline, files: Sequence[Path], targets: Sequence[Target]) -> list[str]:
    """Random augmentations cannot be equal: compare what comes out by shape and by its averages."""
    (x, x_boxes), (y, y_boxes) = ours(files, targets, 0), theirs(files, targets, 0)
    same = x.shape == y.shape == (len(files), 3, *SIZE) and x.dtype == y.dtype == torch.float32
    inside = all(((b >= 0) & (b <= SIZE[0])).all() for b in [*x_boxes, *y_boxes])
    kept = [sum(len(b) for b in boxes) / len(files) for boxes in (y_boxes, x_boxes)]
    side = [torch.cat([(b[:, 2:] - b[:, :2]).flatten() for b in boxes]).mean().item() for boxes in (y_boxes, x_boxes)]
    return [
        check(same and inside, f"both give normalised float batches {tuple(x.shape[1:])} with boxes in their pixels"),
        f"torchvision, mbvision: mean {y.mean():.2f}, {x.mean():.2f}, deviation {y.std():.2f}, {x.std():.2f}; "
        f"boxes a picture {kept[0]:.1f}, {kept[1]:.1f}, mean side {side[0]:.0f}, {side[1]:.0f}",
    ]


def _sizes(files: Sequence[Path]) -> str:
    return f"{len(files)} files of {sum(file.stat().st_size for file in files) / len(files) / 1024:.0f} KiB on average"


def main(argv: Sequence[str] | None = None) -> None:
    """Time both and print the tables."""
    made = parser(__doc__, rounds=15)
    made.add_argument("--images", type=Path, metavar="FOLDER", help="JPEG files to take in place of drawn ones")
    arguments = made.parse_args(argv)
    one_thread()
    number, rounds = (4, 1) if arguments.quick else (32, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.images is None:
            files, targets = draw_files(Path(folder), number)
        else:
            files, targets = own_files(arguments.images, number)
        report(compare(files, targets, rounds), arguments.output)


if __name__ == "__main__":
    main()
