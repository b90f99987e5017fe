"""Faces' augmentation: a frame a little larger or smaller and elsewhere, flip, mild colours."""

import numpy as np

from mbvision.data.transforms.colour import ColourDistortion
from mbvision.data.transforms.fit import Fit
from mbvision.data.transforms.library import A
from mbvision.data.transforms.pipeline import TrainTransform
from mbvision.data.transforms.window import Array, Window
from mbvision.errors import ConfigError


class RandomFrame(Window):
    """A window of ``min_side`` to ``max_side`` of the picture's sides, its centre up to ``shift`` of them away."""

    def __init__(self, *, size: tuple[int, int], min_side: float, max_side: float, shift: float, fit: Fit) -> None:
        super().__init__(size=size, fit=fit)
        self.min_side, self.max_side, self.shift = min_side, max_side, shift

    def draw(self, picture: tuple[int, int], boxes: Array) -> Array:
        """The window, which keeps the picture's ratio of sides and may reach beyond it."""
        random = self.random_generator
        side = random.uniform(self.min_side, self.max_side)
        centre = 0.5 + random.uniform(-self.shift, self.shift, size=2)
        return np.concatenate([centre - side / 2, centre + side / 2])


def faces_train(
    *,
    size: tuple[int, int],
    min_side: float = 0.85,
    max_side: float = 1.1,
    shift: float = 0.06,
    flip: float = 0.5,
    colour: bool = True,
    fit: Fit = "stretch",
) -> TrainTransform:
    """The training pipeline for images that are already cut to a face: small moves, since where things are matters.

    ``fit`` is the evaluation's.
    """
    if not 0 <= flip <= 1:
        raise ConfigError(f"transform.train.flip={flip}: a probability is in 0..1")
    if not 0 < min_side <= max_side:
        raise ConfigError(f"transform.train: min_side={min_side} must be above 0 and at most max_side={max_side}")
    if not 0 <= shift < 0.5:
        raise ConfigError(f"transform.train.shift={shift}: must be at least 0 and below 0.5")
    steps: list[A.BasicTransform] = [RandomFrame(size=size, min_side=min_side, max_side=max_side, shift=shift, fit=fit)]
    if flip:
        steps.append(A.HorizontalFlip(p=flip))
    if colour:
        steps.append(ColourDistortion(contrast=0.25, saturation=0.25, hue=0.02))
    return TrainTransform(steps=steps)
