"""Results whose boxes or classes are of another kind than scoring takes them for."""

from collections.abc import Callable

import numpy as np
import pytest

from mbvision.metrics.box_frames import box_hints
from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations
from tests.box_sets import make_annotations

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


def truth() -> BoxAnnotations:
    random = np.random.default_rng(3)
    rows = []
    for image in range(20):
        for _ in range(3):
            w, h = random.uniform(30, 120, 2)
            rows.append((image, int(random.integers(0, 3)), (random.uniform(0, 200), random.uniform(0, 120), w, h)))
    annotations = make_annotations(rows, images=range(20), classes=("a", "b", "c"))
    sizes = np.stack([random.integers(240, 300, 20), random.integers(320, 400, 20)], axis=1)
    object.__setattr__(annotations, "sizes", sizes)
    return annotations


def results(annotations: BoxAnnotations, change: Change, noise: float = 0.0) -> BoxResults:
    """A detector's boxes, right but for some noise and a few low ones that are wrong, after ``change``."""
    random = np.random.default_rng(5)
    images = np.repeat(np.arange(20), np.diff(annotations.offsets))
    xywh = annotations.xywh + random.normal(0, noise, annotations.xywh.shape) if noise else annotations.xywh
    wrong = np.tile([[5.0, 5.0, 300.0, 9.0]], (20, 1))
    boxes = np.concatenate([xywh, wrong])
    images = np.concatenate([images, np.arange(20)])
    limits = annotations.sizes[images][:, ::-1].astype(np.float64)
    return BoxResults(
        image_index=images,
        xywh=change(boxes, np.tile(limits, 2)),
        scores=np.concatenate([random.uniform(0.5, 1, len(xywh)), np.full(20, 0.1)]),
        labels=np.concatenate([annotations.labels, np.zeros(20, dtype=np.int64)]),
    )


def to_corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


MISTAKES: dict[str, Change] = {
    "x1 y1 x2 y2:": lambda b, wh: to_corners(b),
    "a centre with width and height:": lambda b, wh: np.concatenate([b[:, :2] + b[:, 2:] / 2, b[:, 2:]], axis=1),
    "y x height width:": lambda b, wh: b[:, [1, 0, 3, 2]],
    "y1 x1 y2 x2:": lambda b, wh: to_corners(b)[:, [1, 0, 3, 2]],
    "fractions of the image:": lambda b, wh: b / wh,
    "x1 y1 x2 y2 in fractions of the image:": lambda b, wh: to_corners(b) / wh,
    "those of an image 0.5 times as large:": lambda b, wh: b / 2,
    "pixels of a network's input of 512x512:": lambda b, wh: b / wh * 512,
    "x1 y1 x2 y2 in pixels of a network's input of 640x640:": lambda b, wh: to_corners(b) / wh * 640,
}


@pytest.mark.parametrize("noise", [0.0, 6.0])
@pytest.mark.parametrize("what", MISTAKES)
def test_boxes_of_another_kind_are_recognised(what: str, noise: float) -> None:
    annotations = truth()
    (hint,) = box_hints(annotations, results(annotations, MISTAKES[what], noise))
    assert hint.startswith(f"the boxes look like {what}")


@pytest.mark.parametrize("noise", [0.0, 6.0, 60.0])
def test_boxes_of_the_right_kind_give_no_hint_however_well_they_fit(noise: float) -> None:
    annotations = truth()
    assert box_hints(annotations, results(annotations, lambda boxes, limits: boxes, noise)) == []


def test_other_class_ids_and_repeated_detections_are_recognised() -> None:
    annotations = truth()
    right = results(annotations, lambda boxes, limits: boxes)
    shifted = BoxResults(
        image_index=right.image_index, xywh=right.xywh, scores=right.scores, labels=(right.labels + 1) % 3
    )
    (hint,) = box_hints(annotations, shifted)
    assert "of the boxes fit an annotated one, but only" in hint and "counted from 0?" in hint
    twice = BoxResults(
        image_index=np.tile(right.image_index, 2),
        xywh=np.tile(right.xywh, (2, 1)),
        scores=np.tile(right.scores, 2),
        labels=np.tile(right.labels, 2),
    )
    assert box_hints(annotations, twice) == ["80 of 160 detections are there more than once, and count as false"]


def test_nothing_found_or_nothing_annotated_gives_no_hint() -> None:
    annotations = truth()
    some = results(annotations, lambda boxes, limits: boxes)
    none = BoxResults(
        image_index=some.image_index[:0], xywh=some.xywh[:0], scores=some.scores[:0], labels=some.labels[:0]
    )
    assert box_hints(annotations, none) == []
    assert box_hints(make_annotations(images=range(20), classes=("a", "b", "c")), some) == []
