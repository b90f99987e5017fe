"""Pixel counts, the numbers made of them, and the evaluator over one and several processes."""

import copy
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from mbvision.data.sampling import EpochSampler
from mbvision.errors import DataError, TrainingError
from mbvision.metrics import mean_iou
from mbvision.metrics.mean_iou import MeanIoU, confusion_matrix, segmentation_metrics
from mbvision.structures import Geometry, MaskAnnotations, MaskScheme, Segmentation, Target

CLASSES = 4


def scheme(classes: int = CLASSES, categories: tuple[str, ...] | None = None) -> MaskScheme:
    return MaskScheme(
        class_names=tuple("abcdefg"[:classes]),
        stored=tuple(range(classes)),
        ignored=(255,),
        palette=((0, 0, 0),) * classes,
        categories=categories,
    )


def annotations(images: int = 7) -> MaskAnnotations:
    return MaskAnnotations(scheme=scheme(), image_ids=tuple(f"image {n}" for n in range(images)))


def counted(target: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Pixel by pixel."""
    matrix = np.zeros((classes, classes + 1), dtype=np.int64)
    for true, found in zip(target.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if true != 255:
            matrix[true, min(found, classes)] += 1
    return matrix


@pytest.mark.parametrize("classes", [1, 2, 19, 255])
def test_counts_are_those_of_a_loop_over_pixels(classes: int) -> None:
    rng = np.random.default_rng(classes)
    target = rng.integers(0, classes, (23, 31)).astype(np.uint8)
    target[rng.random(target.shape) < 0.2] = 255
    prediction = rng.integers(0, min(classes + 3, 256), (23, 31)).astype(np.uint8)
    prediction[:2] = 255
    found = confusion_matrix(target, prediction, classes)
    assert found.dtype == np.int64 and np.array_equal(found, counted(target, prediction, classes))


def test_parts_of_pictures_are_counted_as_they_are() -> None:
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    expected = counted(target[2:9, 3:17], prediction[::2, ::2][:7, :14], 3)
    assert np.array_equal(confusion_matrix(target[2:9, 3:17], prediction[::2, ::2][:7, :14], 3), expected)


def test_an_image_of_more_pixels_than_one_call_counts_exactly_is_counted_exactly() -> None:
    target, prediction = np.zeros((4100, 4100), dtype=np.uint8), np.zeros((4100, 4100), dtype=np.uint8)
    prediction[-1, -3:] = 1
    assert confusion_matrix(target, prediction, 2).tolist() == [[4100 * 4100 - 3, 3, 0], [0, 0, 0]]


def test_the_split_of_large_images_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    monkeypatch.setattr(mean_iou, "_MOST_PIXELS", 7)
    assert np.array_equal(confusion_matrix(target, prediction, 3), counted(target, prediction, 3))


def test_an_image_without_pixels_counts_nothing() -> None:
    empty = np.zeros((0, 5), dtype=np.uint8)
    assert not confusion_matrix(empty, empty, 3).any()


def test_other_sizes_and_unknown_targets_are_refused() -> None:
    one = np.full((2, 3), 3, dtype=np.uint8)
    with pytest.raises(ValueError, match="same size"):
        confusion_matrix(one, one.T, 4)
    with pytest.raises(ValueError, match="label 3; known are 0 to 2"):
        confusion_matrix(one, one, 3)


def test_numbers_of_a_matrix_worked_by_hand() -> None:
    # a: 8 of 10 found, 1 taken for c; b: none there, none found; c: 5 of 6; d: none there, 1 found
    matrix = np.array([[8, 0, 1, 0, 1], [0, 0, 0, 0, 0], [0, 0, 5, 1, 0], [0, 0, 0, 0, 0]])
    metrics = segmentation_metrics(matrix, scheme())
    a, c = 8 / 10, 5 / 7
    assert metrics["per_class"]["a"] == {"IoU": a, "accuracy": 0.8}
    assert metrics["per_class"]["b"] == {"IoU": -1, "accuracy": -1}
    assert metrics["per_class"]["c"] == {"IoU": c, "accuracy": 5 / 6}
    assert metrics["per_class"]["d"] == {"IoU": 0, "accuracy": -1}
    assert metrics["mIoU"] == pytest.approx((a + c) / 3, rel=1e-15)
    assert metrics["mIoU_present"] == pytest.approx((a + c) / 2, rel=1e-15)
    assert metrics["mIoU_all"] == pytest.approx((a + c) / 4, rel=1e-15)
    assert metrics["pixel_accuracy"] == 13 / 16
    assert "mIoU_categories" not in metrics
    assert all(type(value) is float for value in metrics.values() if not isinstance(value, dict))


def test_categories_are_classes_merged() -> None:
    matrix = np.array([[5, 2, 1, 0, 1], [3, 4, 0, 0, 0], [0, 1, 6, 0, 2], [0, 0, 0, 0, 0]])
    metrics = segmentation_metrics(matrix, scheme(categories=("x", "x", "y", "z")))
    x = (5 + 2 + 3 + 4) / (14 + 2 + 1)  # missed: 1 taken for c, 1 for nothing; found wrongly: 1 of c
    y = 6 / (6 + 3 + 1)
    assert metrics["mIoU_categories"] == pytest.approx((x + y) / 2, rel=1e-15)


def test_nothing_to_score_gives_minus_one_without_a_warning() -> None:
    metrics = segmentation_metrics(np.zeros((4, 5), dtype=np.int64), scheme(categories=("x", "x", "y", "y")))
    rows = metrics.pop("per_class")
    assert set(metrics.values()) == {-1.0} and len(metrics) == 5
    assert all(row == {"IoU": -1, "accuracy": -1} for row in rows.values())


def test_all_wrong_scores_zero() -> None:
    metrics = segmentation_metrics(np.array([[0, 4], [0, 0]])[:1], scheme(1))
    assert (metrics["mIoU"], metrics["mIoU_present"], metrics["mIoU_all"], metrics["pixel_accuracy"]) == (0, 0, 0, 0)


def test_the_official_cityscapes_scripts_give_the_same_numbers() -> None:
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    from mbvision.data.cityscapes import SCHEME

    rng = np.random.default_rng(0)
    by_id = rng.integers(0, 1000, (34, 34)).astype(np.ulonglong)
    by_id[:, 31] = by_id[31] = 0  # no train anywhere
    by_id[28] = 0  # buses are only predicted
    official.generateMatrix(official.args)
    scores = {label: official.getIouScoreForLabel(label, by_id, official.args) for label in SCHEME.stored}
    categories = {
        name: official.getIouScoreForCategory(name, by_id, official.args) for name in official.category2labels
    }
    matrix = np.zeros((19, 20), dtype=np.int64)
    matrix[:, :19] = by_id[np.ix_(SCHEME.stored, SCHEME.stored)]
    matrix[:, 19] = by_id[list(SCHEME.stored)].sum(axis=1) - matrix[:, :19].sum(axis=1, dtype=np.ulonglong)
    metrics = segmentation_metrics(matrix, SCHEME)
    assert metrics["mIoU"] == pytest.approx(official.getScoreAverage(scores, official.args), rel=1e-14)
    assert metrics["mIoU_categories"] == pytest.approx(official.getScoreAverage(categories, official.args), rel=1e-14)
    for name, value in zip(SCHEME.class_names, scores.values(), strict=True):
        assert metrics["per_class"][name]["IoU"] == (-1 if np.isnan(value) else value)


def image(number: int) -> tuple[Segmentation, Target]:
    """Logits of 16x16 cells for an input of 64x64, and a mask of 30x40 with some of it ignored."""
    generator = torch.Generator().manual_seed(number)
    mask = torch.randint(0, CLASSES - 1, (30, 40), generator=generator, dtype=torch.uint8)
    mask[:3] = 255
    target = Target(
        image_id=f"image {number}", geometry=Geometry(original=(30, 40), scale=(64 / 40, 64 / 30)), mask=mask
    )
    return Segmentation(logits=torch.randn(CLASSES, 16, 16, generator=generator), input_size=(64, 64)), target


def evaluate(images: int, batches: list[list[int]]) -> dict[str, Any]:
    evaluator = MeanIoU(annotations=annotations(images))
    for batch in batches:
        predictions, targets = zip(*(image(number) for number in batch), strict=True)
        evaluator.update(predictions, targets)
    return evaluator.compute()


def test_the_set_is_one_matrix_of_the_upsampled_predictions() -> None:
    total = np.zeros((CLASSES, CLASSES + 1), dtype=np.int64)
    for number in range(7):
        prediction, target = image(number)
        full = torch.nn.functional.interpolate(prediction.logits[None], (30, 40), mode="bilinear")[0]
        assert target.mask is not None
        total += counted(target.mask.numpy(), full.argmax(dim=0).numpy(), CLASSES)
    evaluator = MeanIoU(annotations=annotations())
    evaluator.update(*map(list, zip(*(image(n) for n in range(7)), strict=True)))
    with pytest.raises(RuntimeError, match="compute"):
        _ = evaluator.matrix
    assert evaluator.compute() == {**segmentation_metrics(total, scheme()), "images": 7, "images_total": 7}
    assert np.array_equal(evaluator.matrix, total) and total.sum() == 7 * 27 * 40


def test_neither_order_nor_repetition_of_images_matters() -> None:
    expected = evaluate(7, [list(range(7))])
    assert evaluate(7, [[6, 3, 3], [0], [5, 1], [2, 6, 4, 0]]) == expected


def test_images_without_a_mask_are_not_counted() -> None:
    evaluator = MeanIoU(annotations=annotations())
    prediction, target = image(2)
    evaluator.update([prediction, prediction], [replace(target, image_id="another", mask=None), target])
    assert evaluator.compute() == evaluate(7, [[2]])
    assert evaluator.compute()["images"] == 1


def test_no_images_at_all_score_minus_one_without_a_warning() -> None:
    metrics = evaluate(3, [])
    assert (metrics["mIoU"], metrics["images"], metrics["images_total"]) == (-1, 0, 3)


def test_after_a_reset_nothing_is_left_and_copies_go_on_by_themselves() -> None:
    evaluator = MeanIoU(annotations=annotations())
    evaluator.update([image(0)[0]], [image(0)[1]])
    for other in (copy.deepcopy(evaluator), pickle.loads(pickle.dumps(evaluator))):
        other.update([image(1)[0]], [image(1)[1]])
        assert other.compute() == evaluate(7, [[0, 1]])
    assert evaluator.compute()["images"] == 1
    evaluator.reset()
    assert evaluator.compute()["images"] == 0


def test_wrong_input_names_its_image() -> None:
    evaluator = MeanIoU(annotations=annotations())
    prediction, target = image(5)
    assert target.mask is not None
    with pytest.raises(DataError, match="image id 'x' is not in the annotations of 7 images"):
        evaluator.update([prediction], [replace(target, image_id="x")])
    with pytest.raises(DataError, match="'image 5': its mask is 30x40, the picture 40x30"):
        evaluator.update([prediction], [replace(target, mask=target.mask.T)])
    with pytest.raises(TrainingError, match="'image 5': logits of 3 classes, but there are 4"):
        evaluator.update([replace(prediction, logits=prediction.logits[:3])], [target])
    with pytest.raises(TrainingError, match="'image 5' are not finite"):
        evaluator.update([replace(prediction, logits=prediction.logits / 0)], [target])
    with pytest.raises(ValueError, match="argument"):
        evaluator.update([prediction], [])


def test_the_score_of_one_batch_is_not_offered() -> None:
    with pytest.raises(NotImplementedError, match="update"):
        MeanIoU(annotations=annotations())([], [])


def share_of(rank: int, world_size: int, images: int) -> list[list[int]]:
    """The batches of two that the evaluation's own sampler gives a process."""
    sampler = EpochSampler(length=images, rank=rank, world_size=world_size, even=False)
    positions = [draw.position for draw in sampler]
    return [positions[start : start + 2] for start in range(0, len(positions), 2)]


# What each process gets of seven images beside the sampler's shares: overlaps, offsets, nothing.
SHARES: list[list[list[list[int]]]] = [
    [[[6, 5], [5, 4, 3]], [[3, 2], [1, 0, 6]], [[0, 1, 2], [6]]],
    [[list(range(7))], [], []],
    [[], [[3, 1, 2], [0, 6, 5, 4]], [[4]]],
    [[], [], []],
]


def score_share(rank: int, folder: Path) -> None:
    """One of three processes, then of two: score its share of every case and leave the metrics in files."""
    for world_size in (3, 2):
        if rank >= world_size:
            return
        store = f"file://{folder}/store{world_size}"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
        metrics = [evaluate(images, share_of(rank, world_size, images)) for images in range(1, 8)]
        metrics += [evaluate(7, shares[rank]) for shares in SHARES]
        distributed.destroy_process_group()
        (folder / f"{rank} of {world_size}").write_bytes(pickle.dumps(metrics))


def test_two_and_three_processes_get_the_numbers_of_one_to_the_last_bit(tmp_path: Path) -> None:
    multiprocessing.set_forkserver_preload([__name__])  # imports torch once, not in each process
    start_processes(score_share, args=(tmp_path,), nprocs=3, start_method="forkserver")
    for world_size in (2, 3):
        expected = [evaluate(images, [list(range(images))]) for images in range(1, 8)]
        expected += [evaluate(7, [batch for share in shares[:world_size] for batch in share]) for shares in SHARES]
        assert [metrics["images"] for metrics in expected] == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 0]
        assert expected[0]["mIoU"] > 0
        for rank in range(world_size):
            assert pickle.loads((tmp_path / f"{rank} of {world_size}").read_bytes()) == expected
