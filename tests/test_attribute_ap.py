"""Average precision of attributes against torchmetrics and by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from mbvision.errors import DataError, TrainingError
from mbvision.metrics.attribute_ap import AttributeAP, attribute_metrics, average_precision
from mbvision.structures import AttributeAnnotations, AttributeScores, Geometry, Target


def random_set(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.random((60, 7)).round(1 if ties else 6)
    truth = (rng.random((60, 7)) < rng.uniform(0.05, 0.9, 7)).astype(np.uint8)
    truth[rng.random((60, 7)) < 0.2] = 255
    truth[0] = 1  # at least one of each
    return scores, truth


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_torchmetrics_average_precision_of_what_is_known(seed: int, ties: bool) -> None:
    scores, truth = random_set(seed, ties=ties)
    found = average_precision(scores, truth)
    for place in range(7):
        known = truth[:, place] != 255
        inputs = torch.from_numpy(scores[known, place]), torch.from_numpy(truth[known, place].astype(np.int64))
        assert found[place] == pytest.approx(float(binary_average_precision(*inputs)), abs=1e-6)


def test_by_hand() -> None:
    # Ranked: 1 (precision 1/1), 0, then a tie of 1 and 0 (2 of 4), then one that is not known.
    scores = np.array([[0.9], [0.7], [0.5], [0.5], [0.1]])
    truth = np.array([[1], [0], [1], [0], [255]], dtype=np.uint8)
    assert average_precision(scores, truth)[0] == pytest.approx((1 / 1 + 2 / 4) / 2)
    metrics = attribute_metrics(scores, truth, ["Hat"])
    assert metrics["attribute_accuracy"] == 2 / 4 and metrics["per_class"] == {"Hat": {"AP": 0.75, "accuracy": 0.5}}


def test_attributes_without_positives_are_left_out_of_the_mean() -> None:
    scores = np.array([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
    truth = np.array([[1, 0, 255], [0, 0, 255]], dtype=np.uint8)
    metrics = attribute_metrics(scores, truth, ["a", "b", "c"])
    assert [metrics["per_class"][name]["AP"] for name in "abc"] == [1.0, -1.0, -1.0]
    assert metrics["mean_AP"] == 1.0 and metrics["per_class"]["c"]["accuracy"] == -1.0
    nothing = attribute_metrics(np.zeros((0, 2)), np.zeros((0, 2), dtype=np.uint8), ["a", "b"])
    assert nothing["mean_AP"] == nothing["attribute_accuracy"] == -1.0


def annotations(truth: np.ndarray) -> AttributeAnnotations:
    names = tuple(f"a{n}" for n in range(truth.shape[1]))
    return AttributeAnnotations(names=names, image_ids=tuple(range(len(truth))), values=truth)


def target(image_id: int, attributes: np.ndarray | None) -> Target:
    known = None if attributes is None else torch.from_numpy(attributes)
    return Target(image_id=image_id, geometry=Geometry(original=(4, 4)), attributes=known)


def test_order_and_repeats_do_not_matter_and_unlabelled_pictures_do_not_count() -> None:
    scores, truth = random_set(3, ties=True)
    expected = attribute_metrics(scores.astype(np.float32), truth, [f"a{n}" for n in range(7)])
    metric = AttributeAP(annotations=annotations(truth))
    for image in [*range(59, -1, -1), 4, 5]:
        shown = (
            torch.from_numpy(scores[image]).float() if image > 3 or metric._images.get(image) is None else torch.ones(7)
        )
        metric.update([AttributeScores(scores=shown)], [target(image, truth[image])])
    metric.update([AttributeScores(scores=torch.ones(7))], [target(99, None)])
    found = metric.compute()
    assert found["images"] == found["images_total"] == 60
    assert {key: found[key] for key in expected} == expected
    metric.reset()
    assert metric.compute()["mean_AP"] == -1.0


def test_what_cannot_be_scored_is_named() -> None:
    _, truth = random_set(0, ties=False)
    metric = AttributeAP(annotations=annotations(truth))
    with pytest.raises(DataError, match="image id 99 is not in the annotations"):
        metric.update([AttributeScores(scores=torch.zeros(7))], [target(99, truth[0])])
    for scores in (torch.zeros(6), torch.full((7,), torch.nan)):
        with pytest.raises(TrainingError, match="image 1: not 7 finite scores"):
            metric.update([AttributeScores(scores=scores)], [target(1, truth[1])])
