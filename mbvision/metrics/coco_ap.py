"""The twelve COCO numbers for boxes, with the matching done by pycocotools (the reference) or hotcoco (fast).

Both are given the same arrays, and one function makes the means, so the two differ only where their matching would.
The 100 best detections of each image *and category* count, as in COCOeval.
"""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from mbvision.errors import ConfigError
from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations

Backend = Literal["pycocotools", "hotcoco"]

RECALL_POINTS = 101
"""Recalls 0, 0.01, ..., 1 at which precision is read (COCOeval's ``recThrs``)."""

_THRESHOLDS = 10  # IoU 0.50, 0.55, ..., 0.95
_IOU_50, _IOU_75 = 0, 5
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # areas: all, up to 32^2, 32^2 to 96^2, from 96^2; both ends belong
_MAX_1, _MAX_10, _MAX_100 = range(3)  # detections of each image and category


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoScores:
    """The result of a COCO evaluation; -1 stands where there is no ground truth.

    ``numbers`` holds the twelve by name, from ``AP`` to ``ARlarge``; ``per_class`` each class's ``AP`` and ``AP50``;
    ``curves`` each class's precision at IoU 0.5 for the recalls 0, 0.01, ..., 1.
    """

    numbers: dict[str, float]
    per_class: dict[str, dict[str, float]]
    curves: dict[str, Float[np.ndarray, " 101"]]

    @property
    def metrics(self) -> dict[str, Any]:
        """The twelve numbers and ``per_class``, as in ``metrics.json``."""
        return {**self.numbers, "per_class": self.per_class}


class _Matched(NamedTuple):
    """What COCOeval accumulates: thresholds, recalls, classes (by rank of their id), areas, detection limits."""

    precision: Float[np.ndarray, "10 101 K 4 3"]
    recall: Float[np.ndarray, "10 K 4 3"]


class _Problem(NamedTuple):
    """Ground truth and detections with ids that both backends take, ranked like the data set's own."""

    images: int
    classes: int
    truth_images: Int[np.ndarray, " N"]
    truth_classes: Int[np.ndarray, " N"]
    truth_xywh: Float[np.ndarray, "N 4"]
    truth_areas: Float[np.ndarray, " N"]
    truth_crowd: Bool[np.ndarray, " N"]
    images_found: Int[np.ndarray, " D"]
    classes_found: Int[np.ndarray, " D"]
    results: BoxResults


def default_backend() -> Backend:
    """Return hotcoco where it is installed, else pycocotools: their numbers are equal, hotcoco's come sooner."""
    return "hotcoco" if importlib.util.find_spec("hotcoco") else "pycocotools"


def check_backend(backend: str) -> None:
    """Raise a ConfigError unless ``backend`` is known and its package is installed."""
    if backend not in get_args(Backend):
        raise ConfigError(f"backend={backend!r} is unknown; choose {' or '.join(get_args(Backend))}")
    if backend == "hotcoco" and importlib.util.find_spec("hotcoco") is None:
        raise ConfigError('backend=hotcoco needs the package hotcoco: pip install "mbvision[fast-eval]"')


def coco_ap(annotations: BoxAnnotations, results: BoxResults, *, backend: Backend = "pycocotools") -> CocoScores:
    """Score ``results`` on all images of ``annotations`` by COCO's rules.

    Without detections the numbers are 0; without ground truth they are -1.

    Raises:
        ConfigError: ``backend`` is unknown or not installed.
    """
    check_backend(backend)
    class_rank = _rank(annotations.category_ids)
    if annotations.crowd.all():  # nothing to find, in particular no objects at all
        classes = len(annotations.class_names)
        precision = np.full((_THRESHOLDS, RECALL_POINTS, classes, 4, 3), -1.0)
        return _summarise(annotations, _Matched(precision, precision[:, 0]), class_rank)
    problem = _problem(annotations, results, class_rank)
    matched = _match_hotcoco(problem) if backend == "hotcoco" else _match_pycocotools(problem)
    return _summarise(annotations, matched, class_rank)


def _rank(ids: Sequence[int | str]) -> Int[np.ndarray, " n"]:
    """The place, from 1, of each id in their order: COCOeval takes images and classes so, which decides ties."""
    rank = np.empty(len(ids), dtype=np.int64)
    rank[np.argsort(np.array(ids), kind="stable")] = np.arange(1, len(ids) + 1)
    return rank


def _problem(annotations: BoxAnnotations, results: BoxResults, class_rank: Int[np.ndarray, " K"]) -> _Problem:
    image_rank = _rank(annotations.image_ids)
    return _Problem(
        images=len(annotations),
        classes=len(class_rank),
        truth_images=np.repeat(image_rank, np.diff(annotations.offsets)),
        truth_classes=class_rank[annotations.labels],
        truth_xywh=annotations.xywh,
        truth_areas=annotations.areas,
        truth_crowd=annotations.crowd,
        images_found=image_rank[results.image_index],
        classes_found=class_rank[results.labels],
        results=results,
    )


def _match_hotcoco(problem: _Problem) -> _Matched:
    from hotcoco import COCO, COCOeval

    truth = COCO.from_arrays(
        [{"id": image} for image in range(1, problem.images + 1)],
        [{"id": category, "name": str(category)} for category in range(1, problem.classes + 1)],
        problem.truth_images,
        problem.truth_classes,
        problem.truth_xywh,
        area=problem.truth_areas,
        iscrowd=problem.truth_crowd,
    )
    found = np.empty((len(problem.results), 7))
    found[:, 0] = problem.images_found
    found[:, 1:5] = problem.results.xywh
    found[:, 5] = problem.results.scores
    found[:, 6] = problem.classes_found
    evaluation = COCOeval(truth, truth.load_res(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    accumulated = evaluation.eval
    assert accumulated is not None
    return _Matched(accumulated["precision"], accumulated["recall"])


def _match_pycocotools(problem: _Problem) -> _Matched:
    from pycocotools.cocoeval import COCOeval

    results = problem.results
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _pycoco_set(
            problem,
            problem.truth_images,
            problem.truth_classes,
            problem.truth_xywh,
            {"area": problem.truth_areas, "iscrowd": problem.truth_crowd.astype(np.int64)},
        )
        areas = results.xywh[:, 2] * results.xywh[:, 3]
        extra = {"area": areas, "score": results.scores}
        found = _pycoco_set(problem, problem.images_found, problem.classes_found, results.xywh, extra)
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return _Matched(evaluation.eval["precision"], evaluation.eval["recall"])


def _pycoco_set(
    problem: _Problem,
    images: Int[np.ndarray, " n"],
    classes: Int[np.ndarray, " n"],
    xywh: Float[np.ndarray, "n 4"],
    extra: dict[str, np.ndarray],
) -> Any:
    """A pycocotools ``COCO`` of these boxes; ids count from 1, because COCOeval takes 0 for "not matched"."""
    from pycocotools.coco import COCO

    columns = [images.tolist(), classes.tolist(), xywh.tolist(), *(column.tolist() for column in extra.values())]
    keys = ("id", "image_id", "category_id", "bbox", *extra)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(1, problem.images + 1)],
        "categories": [{"id": category} for category in range(1, problem.classes + 1)],
        "annotations": [
            dict(zip(keys, (number, *row), strict=True)) for number, row in enumerate(zip(*columns, strict=True), 1)
        ],
    }
    coco.createIndex()
    return coco


def _summarise(annotations: BoxAnnotations, matched: _Matched, class_rank: Int[np.ndarray, " K"]) -> CocoScores:
    precision, recall = matched.precision[..., _MAX_100], matched.recall
    numbers = {
        "AP": _mean(precision[..., _ALL]),
        "AP50": _mean(precision[_IOU_50, ..., _ALL]),
        "AP75": _mean(precision[_IOU_75, ..., _ALL]),
        "APsmall": _mean(precision[..., _SMALL]),
        "APmedium": _mean(precision[..., _MEDIUM]),
        "APlarge": _mean(precision[..., _LARGE]),
        "AR1": _mean(recall[..., _ALL, _MAX_1]),
        "AR10": _mean(recall[..., _ALL, _MAX_10]),
        "AR100": _mean(recall[..., _ALL, _MAX_100]),
        "ARsmall": _mean(recall[..., _SMALL, _MAX_100]),
        "ARmedium": _mean(recall[..., _MEDIUM, _MAX_100]),
        "ARlarge": _mean(recall[..., _LARGE, _MAX_100]),
    }
    of_class = {
        name: precision[:, :, rank - 1, _ALL] for name, rank in zip(annotations.class_names, class_rank, strict=True)
    }
    return CocoScores(
        numbers=numbers,
        per_class={name: {"AP": _mean(values), "AP50": _mean(values[_IOU_50])} for name, values in of_class.items()},
        curves={name: values[_IOU_50].copy() for name, values in of_class.items()},
    )


def _mean(values: Float[np.ndarray, "..."]) -> float:
    """The mean where there is ground truth; -1 where there is none."""
    present = values[values > -1]
    return float(present.mean()) if present.size else -1.0
