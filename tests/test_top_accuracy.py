"""Accuracy over a whole data set, whoever saw which image how often."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from mbvision.data.sampling import EpochSampler
from mbvision.errors import DataError, TrainingError
from mbvision.metrics.top_accuracy import TopAccuracy
from mbvision.structures import ClassScores, Geometry, LabelAnnotations, Target

IMAGES, CLASSES = 23, 7


def annotations(classes: int = CLASSES, images: int = IMAGES) -> LabelAnnotations:
    labels = np.random.default_rng(1).integers(0, classes - 1, images)  # the last class has no image
    return LabelAnnotations(
        class_names=tuple(f"class {n}" for n in range(classes)),
        image_ids=tuple(f"{n}.jpg" for n in range(images)),
        labels=labels,
    )


def target(truth: LabelAnnotations, index: int, label: int | None = None) -> Target:
    known = int(truth.labels[index]) if label is None else label
    return Target(image_id=truth.image_ids[index], geometry=Geometry(original=(4, 4)), label=known)


def probabilities(classes: int = CLASSES, images: int = IMAGES) -> torch.Tensor:
    return torch.rand(images, classes, generator=torch.Generator().manual_seed(0)).softmax(dim=1)


def feed(metric: TopAccuracy, scores: torch.Tensor, indices: list[int]) -> None:
    truth = metric.annotations
    metric.update([ClassScores(scores=scores[i]) for i in indices], [target(truth, i) for i in indices])


@pytest.mark.parametrize("classes", [5, 6, 7, 40])
def test_numbers_are_those_of_torchmetrics(classes: int) -> None:
    truth, scores = annotations(classes), probabilities(classes)
    metric = TopAccuracy(annotations=truth)
    for start in range(0, IMAGES, 5):
        feed(metric, scores, list(range(start, min(start + 5, IMAGES))))
    found, labels = metric.compute(), torch.from_numpy(truth.labels)
    for name, k in (("top1", 1), ("top5", 5)):
        theirs = MulticlassAccuracy(num_classes=classes, top_k=k, average="micro")(scores, labels)
        assert found[name] == pytest.approx(float(theirs), abs=1e-6)
    confusion = MulticlassConfusionMatrix(num_classes=classes)(scores, labels)
    np.testing.assert_array_equal(metric.matrix, confusion.numpy())
    each = {name: row["top1"] for name, row in found["per_class"].items()}
    assert each.pop(f"class {classes - 1}") == -1.0
    for label, value in enumerate(each.values()):
        right = (scores.argmax(1) == labels)[labels == label]
        assert value == pytest.approx(float(right.float().mean()) if len(right) else -1.0, abs=1e-6)
    assert found["images"] == found["images_total"] == IMAGES


def test_with_five_classes_or_fewer_one_of_five_is_always_right() -> None:
    metric = TopAccuracy(annotations=annotations(3))
    feed(metric, probabilities(3), list(range(IMAGES)))
    assert metric.compute()["top5"] == 1.0


def test_of_equal_scores_the_smaller_label_is_the_better() -> None:
    truth = annotations()
    metric = TopAccuracy(annotations=truth)
    metric.update(
        [ClassScores(scores=torch.full((CLASSES,), 1 / CLASSES))] * 2, [target(truth, 0, 0), target(truth, 1, 5)]
    )
    found = metric.compute()
    assert found["top1"] == 0.5 and found["top5"] == 0.5 and metric.matrix[5, 0] == 1


def test_images_count_once_and_those_without_a_label_not_at_all() -> None:
    truth, scores = annotations(), probabilities()
    metric = TopAccuracy(annotations=truth)
    feed(metric, scores, [0, 1, 2])
    metric.update([ClassScores(scores=scores[9])], [target(truth, 0)])  # its first copy stays
    unlabelled = Target(image_id="3.jpg", geometry=Geometry(original=(4, 4)))
    metric.update([ClassScores(scores=scores[3])], [unlabelled])
    found = metric.compute()
    expected = sum(int(scores[i].argmax()) == truth.labels[i] for i in (0, 1, 2)) / 3
    assert found["images"] == 3 and found["images_total"] == IMAGES and found["top1"] == expected
    metric.reset()
    empty = metric.compute()
    assert empty["top1"] == empty["top5"] == -1.0 and empty["images"] == 0


def test_what_cannot_be_scored_is_named() -> None:
    truth = annotations()
    metric = TopAccuracy(annotations=truth)
    good = ClassScores(scores=torch.rand(CLASSES))
    stranger = Target(image_id="x.jpg", geometry=Geometry(original=(4, 4)), label=0)
    with pytest.raises(DataError, match=r"image id 'x\.jpg' is not in the annotations of 23 images"):
        metric.update([good], [stranger])
    with pytest.raises(DataError, match=r"image '0\.jpg': its label is 7, there are 7 classes"):
        metric.update([good], [target(truth, 0, CLASSES)])
    with pytest.raises(TrainingError, match="scores of 3 classes, but the data set has 7"):
        metric.update([ClassScores(scores=torch.rand(3))], [target(truth, 0)])
    with pytest.raises(TrainingError, match="not finite"):
        metric.update([ClassScores(scores=torch.full((CLASSES,), float("nan")))], [target(truth, 0)])


def _score(rank: int, folder: str) -> None:
    """One image leaves a process without any; of 23 both see the first."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for images in (1, IMAGES):
        metric, scores = TopAccuracy(annotations=annotations(images=images)), probabilities(images=images)
        sampler = EpochSampler(length=images, rank=rank, world_size=2, even=images > 1)
        feed(metric, scores, [draw.position for draw in sampler][: None if images > 1 else 1 - rank])
        content = {"metrics": metric.compute(), "matrix": torch.from_numpy(metric.matrix)}
        torch.save(content, f"{folder}/{rank}-{images}.pt")
    distributed.destroy_process_group()


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    start_processes(_score, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    for images in (1, IMAGES):
        alone = TopAccuracy(annotations=annotations(images=images))
        feed(alone, probabilities(images=images), list(range(images)))
        expected = alone.compute()
        for rank in range(2):
            found: dict[str, Any] = torch.load(tmp_path / f"{rank}-{images}.pt", weights_only=True)
            assert found["metrics"] == expected
            np.testing.assert_array_equal(found["matrix"].numpy(), alone.matrix)
