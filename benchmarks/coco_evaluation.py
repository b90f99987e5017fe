"""Our COCO evaluation with hotcoco beside pycocotools' own, on seeded synthetic detections the size of val2017.

Both run in this process, turn about. Ours is timed from annotations and results in memory to the twelve numbers and the
scores of each class; pycocotools from a results list in memory: loadRes, evaluate, accumulate, summarize. CPU time is
that of all threads, so hotcoco's own threads win it nothing.

    python benchmarks/coco_evaluation.py            # minutes
    python benchmarks/coco_evaluation.py --quick
"""

import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.timing import Case, Table, check, measure, one_thread, parser, report
from mbvision.metrics.coco_ap import coco_ap
from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations

CLASSES = 80
CROWD_SHARE = 0.012  # 446 of the 36,781 objects of val2017
NEAR_SHARE = 0.3  # detections made by shifting an object, so that they match at some thresholds; the rest are noise


def synthetic(images: int, objects: int, detections: int, seed: int = 0) -> tuple[BoxAnnotations, BoxResults]:
    """A seeded data set of 640 x 480 images with detections, some of them near an object; scores have ties."""
    random = np.random.default_rng(seed)
    image = np.sort(random.integers(images, size=objects))
    xywh = _boxes(random, objects)
    labels = _labels(random, objects)
    crowd = random.random(objects) < CROWD_SHARE
    annotations = BoxAnnotations(
        class_names=tuple(f"class {label}" for label in range(CLASSES)),
        category_ids=tuple(range(1, CLASSES + 1)),
        image_ids=tuple(range(1, images + 1)),
        file_names=tuple(f"{number:012}.jpg" for number in range(1, images + 1)),
        sizes=np.tile([480, 640], (images, 1)),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(image, minlength=images))]),
        xywh=xywh,
        labels=labels,
        areas=xywh[:, 2] * xywh[:, 3] * random.uniform(0.4, 1, objects),
        crowd=crowd,
        difficult=np.zeros(objects, dtype=np.bool_),
        usable=~crowd,
        annotation_ids=np.arange(1, objects + 1),
    )
    near = int(detections * NEAR_SHARE)
    source = random.integers(objects, size=near)
    found_image = np.concatenate([image[source], random.integers(images, size=detections - near)])
    jitter = random.normal(0, 0.12, (near, 4)) * np.tile(xywh[source, 2:], 2)
    found_xywh = np.concatenate([xywh[source] + jitter, _boxes(random, detections - near)])
    found_labels = np.concatenate([labels[source], _labels(random, detections - near)])
    order = np.argsort(found_image, kind="stable")
    return annotations, BoxResults(
        image_index=found_image[order],
        xywh=found_xywh.clip(0)[order],
        scores=random.random(detections).round(4),
        labels=found_labels[order],
    )


def _boxes(random: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    sizes = np.exp(random.uniform(np.log(8), np.log(400), (count, 2)))
    return np.concatenate([random.uniform(0, (600, 440), (count, 2)), sizes], axis=1)


def _labels(random: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Classes as uneven as COCO's, where the first is a third of all."""
    return (random.random(count) ** 3 * CLASSES).astype(np.int64)


def pycocotools_inputs(annotations: BoxAnnotations, results: BoxResults) -> tuple[COCO, list[dict[str, Any]]]:
    """The same sets as pycocotools takes them; making them is not timed."""
    image_of = np.repeat(annotations.image_ids, np.diff(annotations.offsets)).tolist()
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image_id} for image_id in annotations.image_ids],
        "categories": [
            {"id": i, "name": n} for i, n in zip(annotations.category_ids, annotations.class_names, strict=True)
        ],
        "annotations": [
            {"id": i, "image_id": image, "category_id": label + 1, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for i, image, label, box, area, crowd in zip(
                annotations.annotation_ids.tolist(),
                image_of,
                annotations.labels.tolist(),
                annotations.xywh.tolist(),
                annotations.areas.tolist(),
                annotations.crowd.tolist(),
                strict=True,
            )
        ],
    }
    truth.createIndex()
    rows = zip(
        results.image_index.tolist(),
        results.labels.tolist(),
        results.xywh.tolist(),
        results.scores.tolist(),
        strict=True,
    )
    return truth, [{"image_id": i + 1, "category_id": k + 1, "bbox": box, "score": s} for i, k, box, s in rows]


def evaluate_pycocotools(truth: COCO, rows: list[dict[str, Any]]) -> list[float]:
    """pycocotools' own way from a results list to the twelve numbers."""
    evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(number) for number in evaluation.stats]


def compare(annotations: BoxAnnotations, results: BoxResults, rounds: int, title: str) -> Table:
    """Time both, and compare the numbers they gave while timed."""
    numbers: dict[str, list[float]] = {}

    def theirs(inputs: tuple[COCO, list[dict[str, Any]]]) -> None:
        numbers["pycocotools"] = evaluate_pycocotools(*inputs)

    def ours(_: None) -> None:
        numbers["mbvision"] = list(coco_ap(annotations, results, backend="hotcoco").numbers.values())

    cases = [
        # Inputs are made afresh for every run, since loadRes and evaluate change them.
        Case(name="pycocotools", prepare=lambda: pycocotools_inputs(annotations, results), run=theirs),
        Case(name="mbvision, hotcoco", run=ours),
    ]
    coco_ap(*synthetic(10, 50, 100), backend="hotcoco")  # imports
    with contextlib.redirect_stdout(io.StringIO()):
        rows = measure(cases, rounds=rounds, warm_up=False)
    apart = max(abs(a - b) for a, b in zip(numbers["pycocotools"], numbers["mbvision"], strict=True))
    claim = f"the twelve numbers are equal: their largest difference is {apart:g}"
    return Table(title=title, rows=rows, rounds=rounds, checks=[check(apart < 1e-9, claim)])


def main(argv: Sequence[str] | None = None) -> None:
    """Time both and print the table."""
    arguments = parser(__doc__, rounds=3).parse_args(argv)
    one_thread()
    images, objects, detections = (50, 370, 2_500) if arguments.quick else (5_000, 37_000, 500_000)
    annotations, results = synthetic(images, objects, detections)
    title = f"{images} images, {objects} objects, {detections} detections"
    report([compare(annotations, results, 1 if arguments.quick else arguments.rounds, title)], arguments.output)


if __name__ == "__main__":
    main()
