"""Segmentation of one picture several times: at several scales, mirrored, or in windows; probabilities are averaged."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mbvision.errors import ConfigError
from mbvision.heads.segmentation import SegmentationOutput


def augmented(network: nn.Module, scales: Sequence[float], *, flip: bool, window: tuple[int, int] | None) -> nn.Module:
    """The network itself, or wrapped for several scales, mirroring, and windows of (height, width).

    Raises ConfigError for a scale that is not above 0.
    """
    if not scales or not all(isinstance(scale, int | float) and scale > 0 for scale in scales):
        raise ConfigError(f"scales={list(scales)}: give at least one number above 0, such as [0.5,1.0,1.5]")
    if flip or list(scales) != [1.0]:
        network = MultiScale(network, scales, flip=flip)
    return network if window is None else SlidingWindow(network, window)


class MultiScale(nn.Module):
    """Mean class probabilities over scales, and mirror images, at the input's size (arXiv:1706.05587, section 4.1)."""

    def __init__(self, network: nn.Module, scales: Sequence[float], *, flip: bool) -> None:
        super().__init__()
        self.network, self.scales, self.flip = network, tuple(scales), flip

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Any]:
        """Probabilities in the place of logits."""
        size = images.shape[2:]
        total = torch.zeros((), device=images.device)
        for scale in self.scales:
            scaled = images
            if scale != 1:
                to = [max(32, round(side * scale)) for side in size]
                scaled = functional.interpolate(images, to, mode="bilinear", align_corners=False)
            total = total + _probabilities(self.network, scaled, size)
            if self.flip:
                total = total + _probabilities(self.network, scaled.flip(3), size).flip(3)
        return {"segmentation": SegmentationOutput(total / (len(self.scales) * (1 + self.flip)), None)}


class SlidingWindow(nn.Module):
    """Mean class probabilities over windows that overlap by a third at least; a smaller picture is padded with grey."""

    def __init__(self, network: nn.Module, window: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.window = network, window

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Any]:
        """Probabilities at the images' size in the place of logits."""
        height, width = images.shape[2:]
        below, right = max(0, self.window[0] - height), max(0, self.window[1] - width)
        padded = functional.pad(images, (0, right, 0, below), value=0.5)
        total = count = None
        for top in _starts(padded.shape[2], self.window[0]):
            for left in _starts(padded.shape[3], self.window[1]):
                rows, columns = slice(top, top + self.window[0]), slice(left, left + self.window[1])
                found = _probabilities(self.network, padded[:, :, rows, columns], self.window)
                if total is None or count is None:
                    total = found.new_zeros(*found.shape[:2], *padded.shape[2:])
                    count = found.new_zeros(1, 1, *padded.shape[2:])
                total[:, :, rows, columns] += found
                count[:, :, rows, columns] += 1
        assert total is not None and count is not None
        return {"segmentation": SegmentationOutput((total / count)[:, :, :height, :width], None)}


def _starts(length: int, window: int) -> Iterator[int]:
    """Where windows begin, evenly spread, at most two thirds of a window apart."""
    steps = -(-(length - window) * 3 // (2 * window))
    return (round(step * (length - window) / max(steps, 1)) for step in range(steps + 1))


def _probabilities(network: nn.Module, images: Tensor, size: Sequence[int]) -> Float[Tensor, "B C H W"]:
    logits: Tensor = network(images)["segmentation"].logits
    return functional.interpolate(logits, tuple(size), mode="bilinear", align_corners=False).softmax(dim=1)
