"""What damaged pictures cost: loading for training with 0.5 % of them in the set, beside the same set without.

Both sets are 1,000 built-in scenes as COCO; five files of one are cut off, empty, no pictures, or gone. Blocks of both
loaders take turns in one process, in the recipe's augmentation, epoch after epoch, for at least one. CPU time per
picture is that of the whole process; memory is what it holds. A damaged file must be named once, however many epochs
pass.

    python benchmarks/bad_files.py [MINUTES=10] [--root datasets/scenes]
"""

import argparse
import json
import logging
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import one_thread
from mbvision.data.coco import coco
from mbvision.data.scenes import make_scenes
from mbvision.data.transforms.ssd import ssd_train
from mbvision.engine.data_module import VisionData
from mbvision.structures import Batch

PICTURES = 1000
BAD_SHARE = 0.005
BATCH = 20
BATCHES_A_BLOCK = 5
MOST_CPU = 1.05
MOST_GROWTH = 16 * 2**20
"""Bytes that a process may hold more at its end than after the first tenth: allocators keep some."""


def write_set(scenes: Path, root: Path, bad: Sequence[int]) -> None:
    """The first training scenes as a COCO set of their own; those at the places ``bad`` are damaged."""
    document = json.loads((scenes / "annotations" / "instances_train2017.json").read_text(encoding="utf-8"))
    document["images"] = sorted(document["images"], key=lambda image: image["id"])[:PICTURES]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [record for record in document["annotations"] if record["image_id"] in ids]
    (root / "train").mkdir(parents=True)
    (root / "train.json").write_text(json.dumps(document), encoding="utf-8")
    for image in document["images"]:
        shutil.copy(scenes / "train2017" / image["file_name"], root / "train" / image["file_name"])
    for number, place in enumerate(bad):
        damage(root / "train" / document["images"][place]["file_name"], number)


def damage(file: Path, number: int) -> None:
    """Spoil a picture in one of five ways."""
    data = file.read_bytes()
    spoilt = (data[: len(data) // 2], b"", b"<html>404 Not Found</html>", data[:2] + bytes(len(data) - 2))
    if number % 5 < len(spoilt):
        file.write_bytes(spoilt[number % 5])
    else:
        file.unlink()


def endless(root: Path) -> Iterator[Batch]:
    """Training batches of a set, epoch after epoch."""
    reader = coco(root=str(root), split="train")
    transform = ssd_train(size=(320, 320))
    data = VisionData(
        train_reader=reader,
        val_reader=reader,
        train_transform=transform,
        val_transform=transform,
        batch_size=BATCH,
        workers=0,
    )
    loader, epoch = data.train_dataloader(), 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def cpu_of_block(batches: Iterator[Batch]) -> float:
    """CPU seconds of a block of batches."""
    before = time.process_time()
    for _ in range(BATCHES_A_BLOCK):
        next(batches)
    return time.process_time() - before


def held() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()


class Names(logging.Handler):
    """Counts the lines that tell of skipped files."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        if record.getMessage().startswith("skipped"):
            self.lines[record.getMessage()] += 1


def main() -> int:
    """Print the figures; 0 if all of them are as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0)
    parser.add_argument("--root", type=Path, default=Path("datasets/scenes"))
    arguments = parser.parse_args()
    one_thread()
    make_scenes(arguments.root)
    names = Names()
    logging.getLogger("mbvision").addHandler(names)
    logging.getLogger("mbvision").propagate = False
    bad = np.random.default_rng(0).choice(PICTURES, round(BAD_SHARE * PICTURES), replace=False).tolist()
    with tempfile.TemporaryDirectory() as temporary:
        places = Path(temporary) / "clean", Path(temporary) / "damaged"
        write_set(arguments.root, places[0], [])
        write_set(arguments.root, places[1], bad)
        clean, damaged = (endless(place) for place in places)
        seconds: list[tuple[float, float]] = []
        memory: list[int] = []
        deadline = time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < deadline or len(seconds) * BATCH * BATCHES_A_BLOCK < PICTURES:
            turn = len(seconds) % 2  # neither is always the first
            pair = [cpu_of_block(damaged if turn else clean), cpu_of_block(clean if turn else damaged)]
            seconds.append((pair[turn], pair[1 - turn]))
            memory.append(held())
    return report(seconds, memory, names.lines, len(bad))


def report(seconds: list[tuple[float, float]], memory: list[int], lines: Counter[str], bad: int) -> int:
    """Print what was measured, beside what was promised."""
    pictures = len(seconds) * BATCH * BATCHES_A_BLOCK
    clean, damaged = (1000 * sum(column) / pictures for column in zip(*seconds, strict=True))
    growth = memory[-1] - memory[len(memory) // 10]
    once = len(lines) == bad and set(lines.values()) == {1}
    print(f"pictures of each set      {pictures} ({pictures / PICTURES:.1f} epochs)")
    print(f"CPU ms a picture          clean {clean:.3f}, with damaged files {damaged:.3f}: ratio {damaged / clean:.3f}")
    print(f"memory                    {memory[-1] / 2**20:.0f} MiB at the end, {growth / 2**20:+.1f} MiB since a tenth")
    print(f"damaged files             {bad}; named {len(lines)}, most often {max(lines.values(), default=0)} times")
    right = damaged <= MOST_CPU * clean and growth <= MOST_GROWTH and once
    print("as promised" if right else "NOT as promised")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
