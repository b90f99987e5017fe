"""SSD's default boxes for a list of feature map sizes."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbvision.errors import ConfigError

Layout = Literal["tensorflow", "torchvision"]


class SSDAnchors(nn.Module):
    """Anchors ``cx cy w h`` relative to the input image, for every cell of every level; computed once per input size.

    Scales grow linearly from ``min_scale`` on the first level to ``max_scale`` on the last, and 1.0 comes after it
    (SSD, arXiv:1512.02325, section 2.2). The layout is a named variant:

    - ``tensorflow``: as in the MobileNet papers and their released configurations. Three anchors on level 0, half of
      ``min_scale`` at ratio 1, then ``min_scale`` at ratio 2 and 1/2; elsewhere ratio 1, then each ratio and its
      inverse, then the geometric mean of two scales at ratio 1.
    - ``torchvision``: the same number of anchors on every level: ratio 1, the geometric mean, then each ratio and its
      inverse; sides are cut to 1.
    """

    def __init__(
        self,
        *,
        min_scale: float = 0.2,
        max_scale: float = 0.95,
        aspect_ratios: Sequence[float] = (2.0, 3.0),
        layout: Layout = "tensorflow",
    ) -> None:
        super().__init__()
        if not 0 < min_scale <= max_scale:
            raise ConfigError(f"min_scale={min_scale} and max_scale={max_scale}: need 0 < min_scale <= max_scale")
        if layout not in ("tensorflow", "torchvision"):
            raise ConfigError(f"layout={layout!r} is no anchor layout; choose tensorflow or torchvision")
        if any(ratio <= 0 for ratio in aspect_ratios):
            raise ConfigError(f"aspect_ratios={list(aspect_ratios)}: each must be over 0")
        self.min_scale, self.max_scale = min_scale, max_scale
        self.aspect_ratios = tuple(float(ratio) for ratio in aspect_ratios)
        self.layout = layout
        self._cache: dict[tuple[tuple[int, int], ...], np.ndarray] = {}

    def shapes(self, num_levels: int) -> list[list[tuple[float, float]]]:
        """Width and height of the anchors of each level."""
        step = (self.max_scale - self.min_scale) / max(num_levels - 1, 1)
        scales = [self.min_scale + step * level for level in range(num_levels)] + [1.0]
        return [self._shapes_of(level, scales[level], scales[level + 1]) for level in range(num_levels)]

    def counts(self, num_levels: int) -> list[int]:
        """Anchors per cell on each level."""
        return [len(shapes) for shapes in self.shapes(num_levels)]

    def _shapes_of(self, level: int, scale: float, next_scale: float) -> list[tuple[float, float]]:
        mean = math.sqrt(scale * next_scale)
        if self.layout == "torchvision":
            shapes = [(scale, scale), (mean, mean)]
            for ratio in self.aspect_ratios:
                shapes += [_shape(scale, ratio), _shape(scale, 1 / ratio)]
            return [(min(w, 1.0), min(h, 1.0)) for w, h in shapes]
        if level == 0:
            return [_shape(scale / 2, 1.0), _shape(scale, 2.0), _shape(scale, 0.5)]
        shapes = [(scale, scale)]
        for ratio in self.aspect_ratios:
            shapes += [_shape(scale, ratio), _shape(scale, 1 / ratio)]
        return [*shapes, (mean, mean)]

    def forward(self, sizes: Sequence[tuple[int, int]], like: Tensor) -> Float[Tensor, "A 4"]:
        """The anchors of feature maps with these (height, width), row by row, on device and of dtype of ``like``."""
        key = tuple(sizes)
        if key not in self._cache:
            self._cache[key] = self._compute(key)
        # Kept in NumPy: a tensor made while the network is traced must not be met again outside the trace.
        return torch.from_numpy(self._cache[key]).to(like)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.min_scale}..{self.max_scale}, aspect_ratios={self.aspect_ratios}, layout={self.layout}"

    def _compute(self, sizes: tuple[tuple[int, int], ...]) -> np.ndarray:
        levels = []
        for (height, width), shapes in zip(sizes, self.shapes(len(sizes)), strict=True):
            y = (np.arange(height) + 0.5) / height
            x = (np.arange(width) + 0.5) / width
            centres = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None]
            centres = np.broadcast_to(centres, (height, width, len(shapes), 2))
            sides = np.broadcast_to(np.array(shapes), (height, width, len(shapes), 2))
            levels.append(np.concatenate([centres, sides], axis=-1).reshape(-1, 4))
        return np.concatenate(levels).astype(np.float32)


def _shape(scale: float, ratio: float) -> tuple[float, float]:
    """Width and height of area scale² and this ratio of width to height."""
    return scale * math.sqrt(ratio), scale / math.sqrt(ratio)
