"""Standing pictures flicker less, moving ones leave no ghost."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from mbvision.inference.smoothing import LogitSmoother, flicker

CELL = 8
GRID = (20, 30)


def noisy(image: np.ndarray, deviation: float, random: np.random.Generator) -> np.ndarray:
    return (image + random.normal(0, deviation, image.shape)).clip(0, 255).astype(np.uint8)


def labels_of(logits: Tensor) -> np.ndarray:
    return logits.argmax(dim=0).byte().numpy()


def scene(left: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright square of class 1, ``left`` cells from the left, on dull ground of class 0, and its true labels."""
    labels = np.zeros(GRID, dtype=np.uint8)
    labels[6:14, left : left + 8] = 1
    image = np.where(labels[..., None] == 1, [200, 170, 90], [70, 80, 75]).astype(np.float64)
    return image.repeat(CELL, axis=0).repeat(CELL, axis=1), labels


def clip(lefts: list[int], deviation: float = 6.0) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
    """Logits, noisy picture and truth of each frame; a model so unsure that a tenth of its labels are wrong."""
    random = np.random.default_rng(0)
    for left in lefts:
        image, labels = scene(left)
        margin = np.where(labels == 1, 1.0, -1.0) + random.normal(0, 0.8, GRID)
        yield torch.from_numpy(np.stack([-margin, margin])).float(), noisy(image, deviation, random), labels


def mean_iou(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    found, true = (np.stack(side) for side in zip(*pairs, strict=True))
    return float(np.mean([((found == c) & (true == c)).sum() / ((found == c) | (true == c)).sum() for c in (0, 1)]))


def mean_flicker(labels: list[np.ndarray]) -> float:
    return float(np.mean([flicker(a, b) for a, b in itertools.pairwise(labels)]))


@pytest.mark.parametrize("deviation", [2.0, 6.0, 12.0])
def test_static_clip_flickers_at_least_a_third_less(deviation: float) -> None:
    smoother = LogitSmoother(0.5)
    before, after = [], []
    for logits, image, _ in clip([10] * 12, deviation):
        before.append(labels_of(logits))
        after.append(labels_of(smoother(logits, image)))
    assert mean_flicker(after) < 0.67 * mean_flicker(before)


@pytest.mark.parametrize("speed", [0, 1, 2])
@pytest.mark.parametrize("momentum", [0.5, 0.8])
def test_moving_object_leaves_no_ghost(speed: int, momentum: float) -> None:
    smoother = LogitSmoother(momentum)
    before, after = [], []
    for logits, image, truth in clip([1 + speed * n for n in range(10)]):
        before.append((labels_of(logits), truth))
        after.append((labels_of(smoother(logits, image)), truth))
    assert mean_iou(after) >= mean_iou(before) - 0.005


def test_slow_drift_of_colour_is_noticed_in_sum() -> None:
    smoother = LogitSmoother(0.9)
    logits = torch.stack([torch.ones(GRID), torch.zeros(GRID)])
    smoother(logits, np.zeros((160, 240, 3), dtype=np.uint8))
    for level in range(1, 30):  # each step alone is below any noise
        smoothed = smoother(logits.flip(0), np.full((160, 240, 3), 2 * level, dtype=np.uint8))
        if (labels_of(smoothed) == 1).all():
            return
    pytest.fail("the first frame is still seen after 29")


def test_average_of_a_still_picture_is_worked_out_by_hand() -> None:
    smoother = LogitSmoother(0.75)
    image = np.full((16, 16, 3), 100, dtype=np.uint8)
    assert torch.equal(smoother(torch.full((2, 2, 2), 8.0), image), torch.full((2, 2, 2), 8.0))
    assert torch.equal(smoother(torch.full((2, 2, 2), 4.0), image), torch.full((2, 2, 2), 7.0))
    assert torch.equal(smoother(torch.full((2, 2, 2), 3.0), image), torch.full((2, 2, 2), 6.0))


def test_without_momentum_logits_stay_as_they_are() -> None:
    smoother = LogitSmoother(0.0)
    for logits, image, _ in clip([10, 10, 11]):
        assert torch.equal(smoother(logits, image), logits)


def test_cut_to_another_scene_starts_anew() -> None:
    smoother = LogitSmoother(0.9)
    dark, bright = np.full((160, 240, 3), 20, dtype=np.uint8), np.full((160, 240, 3), 20, dtype=np.uint8)
    bright[:, 60:] = 230  # a quarter of the picture happens to look as before
    smoother(torch.zeros(2, *GRID), dark)
    logits = torch.ones(2, *GRID)
    assert torch.equal(smoother(logits, bright), logits)


def test_other_number_of_cells_or_classes_starts_anew() -> None:
    smoother = LogitSmoother(0.9)
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    for shape in [(2, 8, 8), (2, 8, 9), (3, 8, 9)]:
        logits = torch.rand(shape)
        assert torch.equal(smoother(logits, image), logits)


def test_reset_forgets_what_was() -> None:
    smoother = LogitSmoother(0.9)
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    smoother(torch.zeros(2, 8, 8), image)
    smoother.reset()
    assert torch.equal(smoother(torch.ones(2, 8, 8), image), torch.ones(2, 8, 8))


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match="momentum="):
        LogitSmoother(momentum)


def test_flicker_is_the_share_of_changed_pixels() -> None:
    previous = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    assert flicker(previous, np.array([[0, 2], [2, 255]], dtype=np.uint8)) == 0.25
    assert flicker(previous, previous) == 0
    assert flicker(previous[:0], previous[:0]) == 0
