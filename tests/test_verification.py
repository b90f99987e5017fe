"""Verification against scipy, and by brute force over all thresholds."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from mbvision.errors import DataError, TrainingError
from mbvision.metrics.verification import (
    Verification,
    accuracy,
    area_under,
    best_threshold,
    roc_curve,
    true_accept_rate,
    verification_metrics,
)
from mbvision.structures import Embedding, Geometry, IdentityAnnotations, Target


def random_pairs(seed: int, *, digits: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = rng.random(200) < 0.3
    return np.where(same, rng.normal(1.0, 0.4, 200), rng.normal(1.6, 0.4, 200)).round(digits), same


@pytest.mark.parametrize("digits", [1, 9])
@pytest.mark.parametrize("seed", range(4))
def test_the_area_is_the_mann_whitney_statistic(seed: int, digits: int) -> None:
    distances, same = random_pairs(seed, digits=digits)
    expected = mannwhitneyu(distances[~same], distances[same]).statistic / (same.sum() * (~same).sum())
    assert area_under(roc_curve(distances, same)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("digits", [1, 9])
@pytest.mark.parametrize("seed", range(4))
def test_rates_and_accuracy_are_the_best_of_all_thresholds(seed: int, digits: int) -> None:
    distances, same = random_pairs(seed, digits=digits)
    thresholds = [-1.0, *distances.tolist()]
    right = [((distances[same] <= t).mean() + (distances[~same] > t).mean()) / 2 for t in thresholds]
    assert accuracy(distances, same, np.zeros(200, dtype=np.int64)) == pytest.approx(max(right), abs=1e-12)
    curve = roc_curve(distances, same)
    for rate in (0.0, 0.001, 0.01, 0.1, 0.5):
        allowed = [t for t in thresholds if (distances[~same] <= t).mean() <= rate]
        expected = max((distances[same] <= t).mean() for t in allowed)
        assert true_accept_rate(curve, rate) == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    distances, same = np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, False, True, False])
    metrics = verification_metrics(distances, same, np.zeros(4, dtype=np.int64))
    # Of the four pairs of pairs, only (0.3 same, 0.2 different) is the wrong way round.
    assert metrics["verification_AUC"] == 3 / 4 and metrics["verification_accuracy"] == 3 / 4
    assert metrics["TAR_FAR_0.1"] == metrics["TAR_FAR_0.001"] == 1 / 2
    assert best_threshold(roc_curve(distances, same)) == 0.1


def test_folds_are_judged_at_the_threshold_of_the_others() -> None:
    # Alone each fold is told apart wholly, but at the other's threshold only half of its pairs are judged rightly.
    distances = np.array([0.1, 0.2, 0.8, 0.9])
    same, folds = np.array([True, False, True, False]), np.array([0, 0, 1, 1])
    assert accuracy(distances, same, folds) == 0.5
    assert accuracy(distances, same, np.zeros(4, dtype=np.int64)) == 0.75


@pytest.mark.parametrize("same", [np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)])
def test_without_pairs_of_both_kinds_there_is_nothing_to_tell(same: np.ndarray) -> None:
    metrics = verification_metrics(np.arange(len(same), dtype=float), same, np.zeros(len(same), dtype=np.int64))
    assert set(metrics.values()) == {-1.0}


def annotations() -> IdentityAnnotations:
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    return IdentityAnnotations(
        names=("x", "y"),
        image_ids=("a", "b", "c"),
        identities=np.array([0, 0, 1]),
        pairs=pairs,
        same=np.array([True, False, False]),
        folds=np.zeros(3, dtype=np.int64),
    )


def give(metric: Verification, image_id: str, vector: tuple[float, float], identity: int | None = 0) -> None:
    target = Target(image_id=image_id, geometry=Geometry(original=(4, 4)), identity=identity)
    metric.update([Embedding(vector=torch.tensor(vector))], [target])


def test_distances_are_between_the_pictures_of_a_pair() -> None:
    metric = Verification(annotations=annotations())
    for image_id, vector in (("c", (0.0, 1.0)), ("a", (1.0, 0.0)), ("b", (0.6, 0.8)), ("a", (0.0, 1.0))):
        give(metric, image_id, vector)
    give(metric, "stranger", (1.0, 0.0), identity=None)
    found = metric.compute()
    assert found["pairs"] == found["images"] == found["images_total"] == 3
    # a-b: 0.4^2 + 0.8^2, a-c: 2, b-c: 0.6^2 + 0.2^2: the pair of one identity is the second.
    assert [distance for *_, distance in metric.examples(4)] == pytest.approx([0.8, 0.4, 2.0])
    assert found["verification_AUC"] == 0.5
    metric.reset()
    assert metric.compute()["verification_AUC"] == -1.0 and metric.examples(4) == []


def test_only_pairs_whose_pictures_were_both_seen_are_compared() -> None:
    metric = Verification(annotations=annotations())
    give(metric, "a", (1.0, 0.0))
    give(metric, "c", (0.0, 1.0))
    found = metric.compute()
    assert (found["images"], found["images_total"], found["pairs"]) == (2, 3, 1)


def test_what_cannot_be_compared_is_named() -> None:
    metric = Verification(annotations=annotations())
    with pytest.raises(DataError, match="image id 'z' is not in the annotations"):
        give(metric, "z", (1.0, 0.0))
    with pytest.raises(TrainingError, match="the vector of image 'a' is not finite"):
        give(metric, "a", (float("nan"), 0.0))
