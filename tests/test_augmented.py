"""Averages over scales, mirror images and windows, compared with the same done step by step."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mbvision.errors import ConfigError
from mbvision.heads.segmentation import SegmentationOutput
from mbvision.inference.augmented import MultiScale, SlidingWindow, augmented


class Coarse(nn.Module):
    """A convolution with stride 4, not symmetric, and the sizes it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 7, stride=4, padding=3)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> dict[str, Any]:
        self.sizes.append(tuple(images.shape[2:]))
        return {"segmentation": SegmentationOutput(5 * self.conv(images), None)}

    def probabilities(self, images: Tensor) -> Tensor:
        logits = self(images)["segmentation"].logits
        return functional.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False).softmax(dim=1)


@pytest.fixture
def network() -> Coarse:
    return Coarse().eval()


IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_one_scale_without_flip_is_the_network_itself(network: Coarse) -> None:
    assert augmented(network, [1.0], flip=False, window=None) is network


@torch.no_grad()
def test_a_flip_averages_with_the_mirror_image(network: Coarse) -> None:
    found = augmented(network, [1.0], flip=True, window=None)(IMAGES)["segmentation"].logits
    expected = (network.probabilities(IMAGES) + network.probabilities(IMAGES.flip(3)).flip(3)) / 2
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found.argmax(1), network.probabilities(IMAGES).argmax(1))  # it does make a difference


@torch.no_grad()
def test_scales_are_run_at_their_sizes_and_averaged_at_the_inputs(network: Coarse) -> None:
    found = MultiScale(network, [0.5, 1.0, 1.5], flip=False)(IMAGES)["segmentation"].logits
    assert network.sizes == [(32, 48), (64, 96), (96, 144)]
    assert found.shape == (2, 5, 64, 96)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 64, 96))


@torch.no_grad()
def test_windows_cover_every_pixel_and_overlaps_are_averaged(network: Coarse) -> None:
    found = SlidingWindow(network, (40, 40))(IMAGES)["segmentation"].logits
    assert set(network.sizes) == {(40, 40)}
    total, count = torch.zeros(2, 5, 64, 96), torch.zeros(64, 96)
    for top in (0, 24):  # 24 more than one window: two of them; 56 more: four
        for left in (0, 19, 37, 56):
            part = IMAGES[:, :, top : top + 40, left : left + 40]
            total[:, :, top : top + 40, left : left + 40] += network.probabilities(part)
            count[top : top + 40, left : left + 40] += 1
    assert count.min() >= 1
    torch.testing.assert_close(found, total / count)


@torch.no_grad()
def test_a_picture_smaller_than_the_window_is_padded_and_cut_again(network: Coarse) -> None:
    found = SlidingWindow(network, (80, 112))(IMAGES)["segmentation"].logits
    padded = functional.pad(IMAGES, (0, 16, 0, 16), value=0.5)
    torch.testing.assert_close(found, network.probabilities(padded)[:, :, :64, :96])


@pytest.mark.parametrize("scales", [[], [0.0], [-1.0], ["a"]])
def test_senseless_scales_are_refused(network: Coarse, scales: list[float]) -> None:
    with pytest.raises(ConfigError, match="scales="):
        augmented(network, scales, flip=False, window=None)
