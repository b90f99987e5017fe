"""Steadier segmentation of videos: logits are averaged over frames where the picture stands still."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

_STILL, _MOVED = 4.0, 12.0
"""Change of a cell's mean colour, in levels of 255: up to the first it counts as noise, from the second as motion.

Ours, for cells of 8 x 8 pixels: noise of standard deviation 12 a pixel, which is strong, is hardly taken for motion.
"""

_CUT = 24.0
"""Mean change of the whole picture, in levels of 255, that is a cut to another scene. Ours."""


class LogitSmoother:
    """An exponential moving average of low-resolution logits, cell by cell, that lets go where something moves.

    With weight ``momentum`` (0..1, 0 turns it off) a cell keeps what was seen there before, as long as its colour stays
    within camera noise of the colour that the average was made from; with growing change the weight falls to 0, in the
    cells around too. So standing objects stop to flicker, and moving ones leave no ghost. It starts anew when the
    number of classes or cells changes, and at a cut.
    """

    def __init__(self, momentum: float) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum}: must be at least 0 and below 1")
        self.momentum = momentum
        self._logits: Tensor | None = None
        self._colours: Tensor | None = None

    def reset(self) -> None:
        """Forget the frames so far: before the first frame of another video."""
        self._logits = self._colours = None

    def __call__(self, logits: Float[Tensor, "C h w"], image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "C h w"]:
        """The smoothed logits of the next frame; ``image`` is the picture that they span, at any size."""
        height, width = logits.shape[1:]
        cells = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        colours = torch.from_numpy(cells).to(logits.device).permute(2, 0, 1).to(logits.dtype)
        if self._logits is None or self._colours is None or self._logits.shape != logits.shape:
            self._logits, self._colours = logits, colours
            return logits
        change = (colours - self._colours).abs().amax(dim=0, keepdim=True)
        if change.mean() > _CUT:
            self._logits, self._colours = logits, colours
            return logits
        around = functional.max_pool2d(change, kernel_size=3, stride=1, padding=1)
        weight = self.momentum * ((_MOVED - around) / (_MOVED - _STILL)).clamp(0, 1)
        self._logits = torch.lerp(logits, self._logits, weight)
        self._colours = torch.lerp(colours, self._colours, weight)
        return self._logits


def flicker(previous: UInt8[np.ndarray, "H W"], labels: UInt8[np.ndarray, "H W"]) -> float:
    """The share of pixels, 0..1, whose label differs between two frames."""
    return float(np.count_nonzero(previous != labels) / labels.size) if labels.size else 0.0
