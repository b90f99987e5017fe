"""Segmentation's augmentation: random scale and crop, flip, colours."""

from collections.abc import Sequence

import numpy as np

from mbvision.data.transforms.colour import ColourDistortion
from mbvision.data.transforms.fit import Fit, fit_scale
from mbvision.data.transforms.library import A
from mbvision.data.transforms.pipeline import TrainTransform
from mbvision.data.transforms.window import Array, Window
from mbvision.errors import ConfigError


class RandomScale(Window):
    """The picture at ``min_scale`` to ``max_scale`` times the scale it is evaluated at, cut or padded to the input.

    ``eval_size`` and ``fit`` are the evaluation's, see `fit_scale`; padding is ignored in the mask.
    """

    def __init__(
        self, *, size: tuple[int, int], eval_size: tuple[int, int], min_scale: float, max_scale: float, fit: Fit
    ) -> None:
        super().__init__(size=size)
        self.min_scale, self.max_scale, self.eval_size, self.eval_fit = min_scale, max_scale, eval_size, fit

    def draw(self, picture: tuple[int, int], boxes: Array) -> Array:
        """A window as large as the input at the drawn scale, anywhere in the picture, or with the picture anywhere."""
        random = self.random_generator
        scale = np.array(fit_scale(picture, self.eval_size, self.eval_fit))
        scale = random.uniform(self.min_scale, self.max_scale) * scale
        sides = np.array(self.size[::-1]) / (scale * picture[::-1])
        start = random.uniform(0.0, 1.0, size=2) * (1 - sides)
        return np.concatenate([start, start + sides])


def segmentation_train(
    *,
    size: tuple[int, int],
    eval_size: int | Sequence[int] | None = None,
    fit: Fit = "stretch",
    min_scale: float = 0.5,
    max_scale: float = 2.0,
    flip: float = 0.5,
    colour: bool = True,
) -> TrainTransform:
    """DeepLab's training pipeline (arXiv:1706.05587, section 4.1): random scale, crop and flip; and colours.

    ``eval_size`` is one number or (height, width), None for ``size``.
    """
    if not 0 <= flip <= 1:
        raise ConfigError(f"transform.train.flip={flip}: a probability is in 0..1")
    if not 0 < min_scale <= max_scale:
        raise ConfigError(f"transform.train: min_scale={min_scale} must be above 0 and at most max_scale={max_scale}")
    seen = size if eval_size is None else (eval_size, eval_size) if isinstance(eval_size, int) else tuple(eval_size)
    crop = RandomScale(size=size, eval_size=(seen[0], seen[1]), min_scale=min_scale, max_scale=max_scale, fit=fit)
    steps: list[A.BasicTransform] = [crop]
    if flip:
        steps.append(A.HorizontalFlip(p=flip))
    if colour:
        steps.append(ColourDistortion())
    return TrainTransform(steps=steps)
