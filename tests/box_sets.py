"""Small box data sets for the tests of detection metrics, and pycocotools run on them in its own way."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations

NAMES = (
    "AP",
    "AP50",
    "AP75",
    "APsmall",
    "APmedium",
    "APlarge",
    "AR1",
    "AR10",
    "AR100",
    "ARsmall",
    "ARmedium",
    "ARlarge",
)


def make_annotations(
    boxes: Sequence[tuple[int, int, Sequence[float]]] = (),
    *,
    images: Sequence[int | str] = (7,),
    classes: Sequence[str] = ("cat", "dog"),
    category_ids: Sequence[int] | None = None,
    areas: Sequence[float] | None = None,
    crowd: Sequence[bool] | None = None,
    difficult: Sequence[bool] | None = None,
    annotation_ids: Sequence[int] | None = None,
) -> BoxAnnotations:
    """Annotations from rows of (image index, label, xywh), which must be sorted by image."""
    n = len(boxes)
    xywh = np.array([box for _, _, box in boxes], dtype=np.float64).reshape(n, 4)
    no = np.zeros(n, dtype=np.bool_)
    crowd_array = no if crowd is None else np.array(crowd, dtype=np.bool_)
    difficult_array = no if difficult is None else np.array(difficult, dtype=np.bool_)
    counts = np.bincount(np.array([image for image, _, _ in boxes], dtype=np.int64), minlength=len(images))
    return BoxAnnotations(
        class_names=tuple(classes),
        category_ids=tuple(range(1, len(classes) + 1)) if category_ids is None else tuple(category_ids),
        image_ids=tuple(images),
        file_names=tuple(f"folder/{image}.jpg" for image in images),
        sizes=np.tile(np.array([480, 640]), (len(images), 1)),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        xywh=xywh,
        labels=np.array([label for _, label, _ in boxes], dtype=np.int64),
        areas=xywh[:, 2] * xywh[:, 3] if areas is None else np.array(areas, dtype=np.float64),
        crowd=crowd_array,
        difficult=difficult_array,
        usable=~(crowd_array | difficult_array),
        annotation_ids=np.arange(1, n + 1) if annotation_ids is None else np.array(annotation_ids, dtype=np.int64),
    )


def make_results(rows: Sequence[tuple[int, int, float, Sequence[float]]] = ()) -> BoxResults:
    """Results from rows of (image index, label, score, xywh)."""
    return BoxResults(
        image_index=np.array([row[0] for row in rows], dtype=np.int64),
        xywh=np.array([row[3] for row in rows], dtype=np.float64).reshape(len(rows), 4),
        scores=np.array([row[2] for row in rows], dtype=np.float64),
        labels=np.array([row[1] for row in rows], dtype=np.int64),
    )


def random_set(seed: int, *, images: int = 9, detections: int = 150) -> tuple[BoxAnnotations, BoxResults]:
    """Sparse unsorted ids, crowds, ties of score and overlap, areas on the borders, images and classes with nothing.

    Half of the detections are exact or shifted copies of objects. The detections are in no order.
    """
    random = np.random.default_rng(seed)
    objects = int(random.integers(1, 6 * images))
    image = np.sort(random.integers(images, size=objects))
    labels = random.integers(3, size=objects)  # class 3 has no object
    xywh = random.integers(0, 40, (objects, 4)) * 5.0 + [0, 0, 5, 5]
    areas = random.choice([1024.0, 1023.5, 9216.0, 9216.5, 0.0, 300.0, 5000.0, 20000.0], objects)
    annotations = make_annotations(
        list(zip(image.tolist(), labels.tolist(), xywh.tolist(), strict=True)),
        images=[int(i) for i in random.permutation(1000)[:images]],
        classes=("a", "b", "c", "d"),
        category_ids=(90, 2, 17, 44),
        areas=areas.tolist(),
        crowd=(random.random(objects) < 0.15).tolist(),
        difficult=(random.random(objects) < 0.15).tolist(),
        annotation_ids=random.integers(0, 3, objects).tolist(),
    )
    source = random.integers(objects, size=detections)
    shift = random.integers(-2, 3, (detections, 4)) * random.choice([0, 0, 5], (detections, 1))
    copied = random.random(detections) < 0.5
    found = np.where(copied[:, None], xywh[source] + shift, random.integers(0, 40, (detections, 4)) * 5.0)
    found[:, 2:] = found[:, 2:].clip(0)
    results = BoxResults(
        image_index=np.where(copied, image[source], random.integers(images, size=detections)),
        xywh=found,
        scores=random.integers(0, 8, detections) / 8,
        labels=np.where(
            copied & (random.random(detections) < 0.9), labels[source], random.integers(4, size=detections)
        ),
    )
    return annotations, results


def pycocotools_scores(annotations: BoxAnnotations, results: BoxResults) -> COCOeval:
    """pycocotools on the data set's own image and category ids, through loadRes; nothing of ours takes part."""
    image_of = np.repeat(annotations.image_ids, np.diff(annotations.offsets)).tolist()
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image} for image in annotations.image_ids],
        "categories": [{"id": category} for category in annotations.category_ids],
        "annotations": [
            {
                "id": row + 1,
                "image_id": image_of[row],
                "category_id": annotations.category_ids[annotations.labels[row]],
                "bbox": annotations.xywh[row].tolist(),
                "area": float(annotations.areas[row]),
                "iscrowd": int(annotations.crowd[row]),
            }
            for row in range(len(annotations.labels))
        ],
    }
    rows = [
        {
            "image_id": annotations.image_ids[results.image_index[row]],
            "category_id": annotations.category_ids[results.labels[row]],
            "bbox": results.xywh[row].tolist(),
            "score": float(results.scores[row]),
        }
        for row in range(len(results))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def instances_annotations(path: Path) -> BoxAnnotations:
    """The boxes of an instances file in the COCO layout, read plainly."""
    document = json.loads(path.read_text())
    images = sorted(image["id"] for image in document["images"])
    categories = sorted((category["id"], category["name"]) for category in document["categories"])
    label = {category: index for index, (category, _) in enumerate(categories)}
    records = sorted(document["annotations"], key=lambda record: record["image_id"])
    return make_annotations(
        [(images.index(r["image_id"]), label[r["category_id"]], r["bbox"]) for r in records],
        images=images,
        classes=[name for _, name in categories],
        category_ids=[category for category, _ in categories],
        areas=[r["area"] for r in records],
        crowd=[bool(r["iscrowd"]) for r in records],
        annotation_ids=[r["id"] for r in records],
    )
