"""Seconds and peak memory of check_data's annotation part on a seeded COCO file the size of train2017.

The file has 118,287 pictures, 860,001 boxes of 80 classes and a polygon for each; nothing of it is COCO's. The check
runs in a process of its own, as a user's command does, so its memory is all that it needs. There are no pictures: their
part takes as long as decoding them.

    python benchmarks/check_data.py            # a minute or two
    python benchmarks/check_data.py --quick
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import check, machine, parser

IMAGES, BOXES, CLASSES = 118_287, 860_001, 80  # of instances_train2017.json
POINTS = 20  # of a polygon
EVERY = 1000  # one box in so many has a planted fault
FAULTS = ("box_empty", "box_outside", "box_twice", "one_pixel_box")


def write(file: Path, images: int, boxes: int, seed: int = 0) -> dict[str, int]:
    """Write the file; how many faults of each kind it has."""
    random = np.random.default_rng(seed)
    width, height = 640, 480
    xywh = np.empty((boxes, 4))
    xywh[:, 2:] = np.exp(random.uniform(np.log(8), np.log(200), (boxes, 2)))
    xywh[:, :2] = random.random((boxes, 2)) * (np.array([width, height]) - xywh[:, 2:])
    picture = np.sort(random.integers(1, images + 1, boxes))
    category = 1 + (random.random(boxes) ** 3 * CLASSES).astype(int)
    planted = _plant(xywh.round(2), picture, category)
    with file.open("w", encoding="utf-8") as out:
        names = [{"id": i, "file_name": f"{i:012}.jpg", "height": height, "width": width} for i in range(1, images + 1)]
        classes = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
        out.write(json.dumps({"images": names, "categories": classes})[:-1] + ', "annotations": [')
        outlines = random.random((boxes, POINTS)).round(3) * 400
        rows = zip(picture.tolist(), category.tolist(), planted["xywh"].tolist(), outlines.tolist(), strict=True)
        for number, (image, label, box, outline) in enumerate(rows, start=1):
            record = {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3]}
            out.write((", " if number > 1 else "") + json.dumps({**record, "iscrowd": 0, "segmentation": [outline]}))
        out.write("]}")
    return planted["counts"]


def _plant(xywh: Any, picture: Any, category: Any) -> dict[str, Any]:
    """Change a few boxes, each by one kind of fault; the number of each kind."""
    rows = np.arange(EVERY, len(xywh) - 1, EVERY)
    for kind in range(len(FAULTS)):
        own = rows[kind :: len(FAULTS)]
        if kind == 0:
            xywh[own, 2] = 0
        elif kind == 1:
            xywh[own, 0] = 700
        elif kind == 2:
            xywh[own + 1], picture[own + 1], category[own + 1] = xywh[own], picture[own], category[own]
        else:
            xywh[own, 2:] = 1
    return {"xywh": xywh, "counts": {cause: len(rows[kind :: len(FAULTS)]) for kind, cause in enumerate(FAULTS)}}


def measure(root: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of wall and CPU time, peak memory (GiB), and the report of the command on ``root/train.json``."""
    report = root / "report.json"
    command = [sys.executable, str(Path(__file__).resolve().parent.parent / "tools" / "check_data.py")]
    keys = ["data=coco", f"data.root={root}", "data.train_split=train", "data.val_split=null", "images=false"]
    start = time.perf_counter()
    subprocess.run([*command, *keys, f"output={report}"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_GiB": used.ru_maxrss / 2**20}
    return figures, json.loads(report.read_text(encoding="utf-8"))


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file, check it, print the figures."""
    arguments = parser(__doc__, rounds=1).parse_args(argv)
    images, boxes = (300, 6_000) if arguments.quick else (IMAGES, BOXES)
    about = machine()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        planted = write(root / "train.json", images, boxes)
        megabytes = (root / "train.json").stat().st_size / 1e6
        measured, report = measure(root)
    counts = {entry["cause"]: entry["count"] for entry in report["summary"]}
    short = [cause for cause, count in planted.items() if counts.get(cause, 0) < count]
    claim = check(not short, f"all {sum(planted.values())} planted faults were found")
    figures = {"images": images, "boxes": boxes, "file_MB": megabytes, **measured}
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load']}, commit {about['commit']}\n{about['command']}")
    print(f"{images:,} pictures, {boxes:,} boxes, {megabytes:.0f} MB; {claim}")
    print("{seconds:.1f} s, {cpu_seconds:.1f} CPU seconds, {peak_GiB:.2f} GiB at most".format(**measured))
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(
            json.dumps({"machine": about, "figures": figures, "checks": [claim]}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
