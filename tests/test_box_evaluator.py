import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from mbvision.errors import ConfigError, DataError, TrainingError
from mbvision.metrics import box_evaluator
from mbvision.metrics.box_evaluator import BoxEvaluator, box_metrics
from mbvision.metrics.coco_ap import coco_ap
from mbvision.metrics.results import BoxResults
from mbvision.structures import BoxAnnotations, Detections, Geometry, Target
from tests.box_sets import make_annotations, make_results, random_set

BOX = (10.0, 10.0, 50.0, 50.0)
STYLES = [("coco", "pycocotools"), ("coco", "hotcoco"), ("voc", "pycocotools")]


def unboxed(image_id: int | str, geometry: Geometry) -> Target:
    """The target of an annotated image; evaluation compares with the annotations, not with the target's boxes."""
    return Target(image_id=image_id, geometry=geometry, boxes=torch.zeros(0, 4))


def batch(annotations: BoxAnnotations, results: BoxResults, images: list[int]) -> tuple[list[Detections], list[Target]]:
    """The results of some images as a network would give them at half size, moved by (8, 16)."""
    predictions = []
    for image in images:
        rows = results.image_index == image
        xywh = results.xywh[rows]
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1) / 2 + [8, 16, 8, 16]
        predictions.append(
            Detections(
                boxes=torch.from_numpy(xyxy).float(),
                scores=torch.from_numpy(results.scores[rows]).float(),
                labels=torch.from_numpy(results.labels[rows]),
            )
        )
    geometry = Geometry(original=(480, 640), scale=(0.5, 0.5), offset=(8, 16))
    return predictions, [unboxed(annotations.image_ids[image], geometry) for image in images]


def clipped_and_by_image(annotations: BoxAnnotations, results: BoxResults) -> tuple[BoxAnnotations, BoxResults]:
    """The same set as the evaluator is to see it."""
    order = np.argsort(results.image_index, kind="stable")
    xywh = results.xywh[order]
    corner = xywh[:, :2].clip(0)
    return annotations, BoxResults(
        image_index=results.image_index[order],
        xywh=np.concatenate([corner, (xywh[:, :2] + xywh[:, 2:]).clip(0) - corner], axis=1),
        scores=results.scores[order],
        labels=results.labels[order],
    )


def evaluate(
    annotations: BoxAnnotations, results: BoxResults, batches: list[list[int]], **settings: Any
) -> dict[str, Any]:
    evaluator = BoxEvaluator(annotations=annotations, **settings)
    for images in batches:
        evaluator.update(*batch(annotations, results, images))
    return evaluator.compute()


@pytest.mark.parametrize(("style", "backend"), STYLES)
@pytest.mark.parametrize("seed", range(4))
def test_batches_score_as_the_whole_set_does(style: Any, backend: Any, seed: int) -> None:
    annotations, results = clipped_and_by_image(*random_set(seed))
    metrics = evaluate(annotations, results, [[0, 1, 2, 3], [4, 5, 6, 7], [8]], style=style, backend=backend)
    expected = box_metrics(annotations, results, style=style, backend=backend, iou=0.5)
    assert metrics == {**expected, "images": 9, "images_total": 9}


@pytest.mark.parametrize(("style", "backend"), STYLES)
def test_neither_order_nor_repetition_of_images_matters(style: Any, backend: Any) -> None:
    annotations, results = random_set(11)
    expected = evaluate(annotations, results, [list(range(9))], style=style, backend=backend)
    shuffled = [[8, 3, 3], [0], [5, 7, 1], [2, 6, 4, 8, 0]]
    assert evaluate(annotations, results, shuffled, style=style, backend=backend) == expected


def test_results_are_float64_boxes_of_the_original_image_by_image() -> None:
    annotations = make_annotations(images=("a", "b"))
    evaluator = BoxEvaluator(annotations=annotations)
    third = Geometry(original=(480, 640), scale=(1 / 3, 1 / 3), offset=(0.0, 0.0))
    one = Detections(
        boxes=torch.tensor([[0.1, 0.2, 300.0, 50.0]]), scores=torch.tensor([0.7]), labels=torch.tensor([1])
    )
    none = Detections(boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64))
    evaluator.update([one, none], [unboxed(name, third) for name in ("b", "a")])
    with pytest.raises(RuntimeError, match="compute"):
        _ = evaluator.results
    evaluator.compute()
    found = evaluator.results
    assert (found.image_index.tolist(), found.labels.tolist()) == ([1], [1])
    x, y = (float(np.float32(value)) * 3 for value in (0.1, 0.2))
    np.testing.assert_allclose(found.xywh, [[x, y, 640 - x, 150 - y]], rtol=1e-14)
    assert found.scores.tolist() == [float(np.float32(0.7))]


def test_only_the_images_scored_count_and_how_many_is_told() -> None:
    annotations = make_annotations([(0, 0, BOX), (1, 0, BOX), (2, 1, BOX)], images=(3, 1, 2))
    results = make_results([(1, 0, 0.9, BOX)])
    metrics = evaluate(annotations, results, [[1]])
    assert (metrics["images"], metrics["images_total"]) == (1, 3)
    assert metrics["AP"] == pytest.approx(1)
    assert metrics["per_class"]["dog"]["AP"] == -1


def test_no_images_at_all_score_minus_one_without_a_warning() -> None:
    metrics = evaluate(make_annotations([(0, 0, BOX)]), make_results(), [])
    assert (metrics["AP"], metrics["images"], metrics["images_total"]) == (-1, 0, 1)


def test_images_without_detections_score_zero() -> None:
    metrics = evaluate(make_annotations([(0, 0, BOX)]), make_results(), [[0]])
    assert (metrics["AP"], metrics["AR100"], metrics["images"]) == (0, 0, 1)


def test_after_a_reset_nothing_is_left() -> None:
    annotations, results = random_set(2)
    evaluator = BoxEvaluator(annotations=annotations)
    evaluator.update(*batch(annotations, results, [0, 1]))
    evaluator.compute()
    evaluator.reset()
    assert evaluator.compute()["images"] == 0
    evaluator.update(*batch(annotations, results, list(range(9))))
    assert evaluator.compute() == evaluate(annotations, results, [list(range(9))])


def test_copies_go_on_by_themselves() -> None:
    annotations, results = random_set(2)
    evaluator = BoxEvaluator(annotations=annotations)
    evaluator.update(*batch(annotations, results, [0, 1]))
    for other in (copy.deepcopy(evaluator), pickle.loads(pickle.dumps(evaluator))):
        other.update(*batch(annotations, results, [2]))
        assert other.compute()["images"] == 3
    assert evaluator.compute()["images"] == 2


def test_a_batch_has_a_target_for_each_prediction() -> None:
    annotations, results = random_set(0)
    predictions, targets = batch(annotations, results, [0, 1])
    with pytest.raises(ValueError, match="argument"):
        BoxEvaluator(annotations=annotations).update(predictions, targets[:1])


def test_an_unknown_image_is_named() -> None:
    evaluator = BoxEvaluator(annotations=make_annotations(images=("a",)))
    with pytest.raises(DataError, match="image id 'b' is not in the annotations of 1 images"):
        evaluator.update(*batch(make_annotations(images=("b",)), make_results(), [0]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0, 0, float("nan"), BOX), "image 7 are not finite"),
        ((0, 0, 0.5, (float("nan"), 1, 2, 3)), "image 7 are not finite"),
        ((0, 2, 0.5, BOX), "label 2, but there are only 2 classes"),
    ],
)
def test_a_broken_detection_names_its_image(row: Any, message: str) -> None:
    annotations = make_annotations()
    with pytest.raises(TrainingError, match=message):
        BoxEvaluator(annotations=annotations).update(*batch(annotations, make_results([row]), [0]))


@pytest.mark.parametrize("setting", [{"style": "lvis"}, {"backend": "fast"}, {"iou": 0}])
def test_a_wrong_setting_is_refused_at_once(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        BoxEvaluator(annotations=make_annotations(), **setting)


def test_the_curves_are_those_of_the_images_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    annotations, results = random_set(3)
    evaluator = BoxEvaluator(annotations=annotations)
    with pytest.raises(RuntimeError, match="curves exist once compute"):
        _ = evaluator.curves
    evaluator.update(*batch(annotations, results, list(range(9))))
    evaluator.compute()
    monkeypatch.setattr(box_evaluator, "coco_ap", None)  # the matching is not done again
    expected = coco_ap(*clipped_and_by_image(annotations, results), backend="pycocotools").curves
    assert evaluator.curves.keys() == expected.keys()
    assert all(np.array_equal(evaluator.curves[name], expected[name]) for name in expected)


@pytest.mark.parametrize("installed", [True, False])
def test_matching_is_by_hotcoco_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if installed else None)
    backend = BoxEvaluator(annotations=make_annotations()).backend
    assert backend == ("hotcoco" if installed else "pycocotools")


def test_the_score_of_one_batch_is_not_offered() -> None:
    with pytest.raises(NotImplementedError, match="update"):
        BoxEvaluator(annotations=make_annotations())([], [])


# What each of two processes scores of nine images: uneven shares, repetitions within and across, nothing in one.
SHARES: list[tuple[list[list[int]], list[list[int]]]] = [
    ([[0, 2], [4, 6], [8]], [[1, 3], [5, 7], [0]]),
    ([[8, 7], [7, 6, 5]], [[5, 4, 3, 2], [2, 1, 0, 8]]),
    ([list(range(9))], []),
    ([], [[3, 1, 2], [0, 8, 7, 6, 5, 4]]),
    ([], []),
]


def score_share(rank: int, folder: Path) -> None:
    """One of two processes: score every case of SHARES in each style and leave the metrics in a file."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    annotations, results = random_set(11)
    metrics = [
        evaluate(annotations, results, share[rank], style=style, backend=backend)
        for share in SHARES
        for style, backend in STYLES
    ]
    distributed.destroy_process_group()
    (folder / str(rank)).write_bytes(pickle.dumps(metrics))


def test_two_processes_both_get_the_numbers_of_one_to_the_last_bit(tmp_path: Path) -> None:
    spawn(score_share, args=(tmp_path,), nprocs=2)
    annotations, results = random_set(11)
    expected = [
        evaluate(annotations, results, [*share[0], *share[1]], style=style, backend=backend)
        for share in SHARES
        for style, backend in STYLES
    ]
    assert expected[0]["AP"] > 0
    for rank in "01":
        assert pickle.loads((tmp_path / rank).read_bytes()) == expected
