"""The loss against torch's cross-entropy, hand-worked pixels, and a brute-force search for the hard ones."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mbvision.errors import ConfigError
from mbvision.losses.segmentation import SegmentationLoss, hard_pixels


def batch(seed: int = 0, size: tuple[int, int] = (9, 11), classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits at a third of the masks' size, and masks with a tenth of their pixels ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, classes, 3, 4, generator=generator) * 3
    masks = torch.randint(classes, (3, *size), generator=generator, dtype=torch.uint8)
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = 255
    return logits, masks


def upsampled(logits: Tensor, masks: Tensor) -> Tensor:
    return functional.interpolate(logits, masks.shape[1:], mode="bilinear", align_corners=False)


def class_loss(logits: Tensor, masks: Tensor, **arguments: Any) -> Tensor:
    return SegmentationLoss(**arguments)(logits, None, masks)["class"]


def test_loss_is_torchs_cross_entropy_at_the_size_of_the_masks() -> None:
    logits, masks = batch()
    expected = functional.cross_entropy(upsampled(logits, masks), masks.long(), ignore_index=255)
    torch.testing.assert_close(class_loss(logits, masks), expected)


def test_class_weights_are_torchs() -> None:
    logits, masks = batch(1)
    weights = [1.0, 0.25, 3.0, 0.0]
    expected = functional.cross_entropy(
        upsampled(logits, masks), masks.long(), weight=torch.tensor(weights), ignore_index=255
    )
    torch.testing.assert_close(class_loss(logits, masks, class_weights=weights), expected)


def test_loss_of_two_pixels_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 0.0, 9.0]], [[math.log(3), 0.0, 0.0]]]])  # probabilities 1/4 3/4, 1/2 1/2
    masks = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    assert class_loss(logits, masks).item() == pytest.approx((math.log(4) + math.log(2)) / 2)


@pytest.mark.parametrize("arguments", [{}, {"ohem_threshold": 0.7}, {"class_weights": [1.0, 2.0, 0.5, 1.0]}])
def test_a_batch_with_all_pixels_ignored_gives_zero_and_no_gradient(arguments: dict[str, Any]) -> None:
    logits, masks = batch()
    logits.requires_grad_()
    loss = SegmentationLoss(**arguments)(logits, logits, torch.full_like(masks, 255))
    assert loss["class"] == 0 and loss["auxiliary"] == 0
    ((loss["class"] + loss["auxiliary"]) * 2**16).backward()  # as under a gradient scaler
    assert logits.grad is not None and not logits.grad.any()


def test_pixels_of_weight_zero_alone_give_zero() -> None:
    logits, masks = batch()
    assert class_loss(logits, torch.zeros_like(masks), class_weights=[0.0, 1.0, 1.0, 1.0]) == 0


def test_ignored_pixels_get_no_gradient_and_others_do() -> None:
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masks = torch.full((1, 4, 4), 255, dtype=torch.uint8)
    masks[0, 2, 1] = 1
    class_loss(logits, masks).backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum(dim=1)[0] > 0
    assert touched.nonzero().tolist() == [[2, 1]]


def test_auxiliary_loss_is_scaled_and_has_its_own_size() -> None:
    logits, masks = batch()
    auxiliary = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(4))
    losses = SegmentationLoss(auxiliary_weight=0.5)(logits, auxiliary, masks)
    torch.testing.assert_close(losses["auxiliary"], 0.5 * class_loss(auxiliary, masks))
    torch.testing.assert_close(losses["class"], class_loss(logits, masks))


def brute_force_ohem(logits: Tensor, masks: Tensor, threshold: float, min_kept: int) -> Tensor:
    """Pixel by pixel: sort by probability of the right class, take the unlikely ones, fill up to the minimum."""
    found = []
    probabilities = upsampled(logits, masks).double().softmax(dim=1)
    for b, y, x in (masks != 255).nonzero().tolist():
        probability = float(probabilities[b, int(masks[b, y, x]), y, x])
        found.append((probability, -math.log(probability)))
    found.sort()
    unlikely = [loss for probability, loss in found if probability <= threshold]
    kept = unlikely if len(unlikely) >= min_kept else [loss for _, loss in found[:min_kept]]
    return torch.tensor(sum(kept) / len(kept))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("min_kept", [1, 20, 150, 100_000])
def test_hard_pixels_are_those_of_a_brute_force_search(threshold: float, min_kept: int) -> None:
    logits, masks = batch(2)
    found = class_loss(logits, masks, ohem_threshold=threshold, ohem_min_kept=min_kept)
    torch.testing.assert_close(found, brute_force_ohem(logits, masks, threshold, min_kept))


def test_the_minimum_is_of_the_batch_and_may_lie_in_one_image() -> None:
    losses = torch.tensor([[[4.0, 3.0, 2.0]], [[0.1, 0.2, 0.3]]])
    counted = torch.tensor([[[True, False, True]], [[True, True, True]]])
    kept = hard_pixels(losses, counted, 0.0, 2) & counted
    assert kept.tolist() == [[[True, False, True]], [[False, False, False]]]


def test_hard_pixels_keep_their_class_weights() -> None:
    logits, masks = batch(5)
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0])
    each = functional.cross_entropy(upsampled(logits, masks), masks.long(), ignore_index=255, reduction="none")
    kept = (masks != 255) & ((-each).exp() <= 0.4)
    share = weights[masks.clamp(max=3).long()] * kept
    found = class_loss(logits, masks, class_weights=weights.tolist(), ohem_threshold=0.4, ohem_min_kept=1)
    torch.testing.assert_close(found, (each * share).sum() / share.sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ohem_threshold": 1.5}, "ohem_threshold=1.5"),
        ({"ohem_min_kept": 0}, "ohem_min_kept=0"),
        ({"auxiliary_weight": -1.0}, "auxiliary_weight=-1.0"),
        ({"class_weights": [1.0, -2.0]}, "class_weights="),
        ({"class_weights": [1.0, math.nan]}, "class_weights="),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SegmentationLoss(**arguments)


def test_class_weights_for_another_number_of_classes_are_refused() -> None:
    logits, masks = batch()
    with pytest.raises(ConfigError, match="2 numbers for 4 classes"):
        class_loss(logits, masks, class_weights=[1.0, 1.0])
