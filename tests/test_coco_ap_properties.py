"""Properties of the average precision that hold for any set, and its definition on sets without ties."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbvision.metrics.coco_ap import Backend, coco_ap
from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations
from tests.box_sets import make_annotations, make_results
from tests.brute_force_ap import IOUS, average_precision

IMAGES, CLASSES = 3, ("a", "b")
both_backends = pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])

sides = st.integers(1, 12).map(lambda side: side * 8.0)  # areas of 1024 and 9216, the borders of the ranges, are common
boxes = st.tuples(st.integers(0, 20).map(float), st.integers(0, 20).map(float), sides, sides)
objects = st.lists(st.tuples(st.integers(0, IMAGES - 1), st.integers(0, 1), boxes, st.booleans()), max_size=8)
found = st.lists(st.tuples(st.integers(0, IMAGES - 1), st.integers(0, 1), boxes), max_size=12)
moves = st.lists(st.integers(0, 7), max_size=8)


@st.composite
def sets(draw: st.DrawFn) -> tuple[BoxAnnotations, BoxResults]:
    """Objects with crowds among them; detections anywhere and on some of the objects, each with a score of its own."""
    truth = sorted(draw(objects), key=lambda row: row[0])
    annotations = make_annotations(
        [row[:3] for row in truth],
        images=range(IMAGES),
        classes=CLASSES,
        crowd=[row[3] for row in truth],
    )
    rows = draw(found) + [truth[index][:3] for index in draw(moves) if index < len(truth)]
    scores = draw(st.permutations(range(1, len(rows) + 1)))
    return annotations, make_results([(i, c, s / 32, box) for (i, c, box), s in zip(rows, scores, strict=True)])


@both_backends
@settings(max_examples=60, deadline=None)
@given(case=sets())
def test_each_class_scores_as_the_definition_says(backend: Backend, case: tuple[BoxAnnotations, BoxResults]) -> None:
    annotations, results = case
    scores = coco_ap(annotations, results, backend=backend)
    for label, name in enumerate(CLASSES):
        at_ious = [average_precision(annotations, results, label, iou) for iou in IOUS]
        assert scores.per_class[name]["AP50"] == pytest.approx(at_ious[0], abs=1e-12)
        assert scores.per_class[name]["AP"] == pytest.approx(np.mean(at_ious), abs=1e-12)


@both_backends
@settings(max_examples=30, deadline=None)
@given(case=sets(), seed=st.integers(0, 1000))
def test_the_order_of_detections_does_not_matter(
    backend: Backend, case: tuple[BoxAnnotations, BoxResults], seed: int
) -> None:
    annotations, results = case
    order = np.random.default_rng(seed).permutation(len(results))
    shuffled = replace(
        results,
        image_index=results.image_index[order],
        xywh=results.xywh[order],
        scores=results.scores[order],
        labels=results.labels[order],
    )
    expected = coco_ap(annotations, results, backend=backend)
    assert coco_ap(annotations, shuffled, backend=backend).numbers == expected.numbers


@both_backends
@settings(max_examples=30, deadline=None)
@given(case=sets())
def test_only_the_order_of_scores_matters(backend: Backend, case: tuple[BoxAnnotations, BoxResults]) -> None:
    annotations, results = case
    squeezed = replace(results, scores=results.scores**3 / 7 + 0.5)
    expected = coco_ap(annotations, results, backend=backend)
    assert coco_ap(annotations, squeezed, backend=backend).numbers == expected.numbers


@both_backends
@settings(max_examples=30, deadline=None)
@given(case=sets(), box=boxes)
def test_a_detection_below_all_others_lowers_no_recall(
    backend: Backend, case: tuple[BoxAnnotations, BoxResults], box: tuple[float, ...]
) -> None:
    annotations, results = case
    more = replace(
        results,
        image_index=np.append(results.image_index, 0),
        xywh=np.concatenate([results.xywh, [box]]),
        scores=np.append(results.scores, 1e-3),
        labels=np.append(results.labels, 0),
    )
    before, after = (coco_ap(annotations, rows, backend=backend).numbers for rows in (results, more))
    assert all(after[name] >= before[name] for name in before if name.startswith("AR"))
