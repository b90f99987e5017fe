"""SSD's augmentation: crop by overlap, zoom-out, flip, colours. Masks follow where there are any."""

from collections.abc import Sequence

import numpy as np

from mbvision.data.transforms.colour import ColourDistortion
from mbvision.data.transforms.fit import Fit
from mbvision.data.transforms.library import A
from mbvision.data.transforms.pipeline import TrainTransform
from mbvision.data.transforms.window import Array, Window
from mbvision.errors import ConfigError


class SSDCrop(Window):
    """SSD's random crop and zoom-out (arXiv:1512.02325, sections 2.2 and 3.6), fitted to the input in one step.

    With probability ``zoom_out`` the picture is set into a canvas 1 to ``max_zoom`` times as large. Then a minimum
    overlap is drawn from ``min_ious`` (1 keeps the whole picture) and crops are drawn, with sides of ``min_side`` to 1
    of the picture's and a ratio of width to height of 1/2 to 2, until one holds the centre of a box and has that IoU
    with it (one is enough, in SSD's own code and in torchvision's). All ``trials`` crops are tested at once; if none
    will do, another overlap is drawn. Boxes whose centre lies outside are dropped, the others cut to the crop. Only
    kept pixels are resized.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        min_ious: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        min_side: float = 0.3,
        zoom_out: float = 0.5,
        max_zoom: float = 4.0,
        trials: int = 40,
        fit: Fit = "stretch",
    ) -> None:
        super().__init__(size=size, fit=fit)
        self.min_ious, self.min_side = tuple(min_ious), min_side
        self.zoom_out, self.max_zoom, self.trials = zoom_out, max_zoom, trials

    def draw(self, picture: tuple[int, int], boxes: Array) -> Array:
        """A crop, or the whole picture, which lies in a larger canvas where it was zoomed out."""
        random = self.random_generator
        canvas = np.array([0.0, 0.0, 1.0, 1.0])
        if random.random() < self.zoom_out:
            ratio = random.uniform(1.0, self.max_zoom)
            left, top = random.uniform(0, ratio - 1, size=2)
            canvas = np.array([-left, -top, ratio - left, ratio - top])
        return self._draw_crop(canvas, boxes)

    def _draw_crop(self, canvas: Array, boxes: Array) -> Array:
        random, side = self.random_generator, canvas[2] - canvas[0]
        for _ in range(len(self.min_ious)):
            min_iou = self.min_ious[random.integers(len(self.min_ious))]
            if min_iou >= 1.0 or len(boxes) == 0:
                break
            sides = random.uniform(self.min_side, 1.0, size=(self.trials, 2))
            start = random.uniform(0.0, 1.0, size=(self.trials, 2)) * (1 - sides)
            crops = canvas[[0, 1, 0, 1]] + side * np.concatenate([start, start + sides], axis=1)
            ratio = sides[:, 0] / sides[:, 1]
            good: Array = (ratio > 0.5) & (ratio < 2.0) & _good_crops(crops, boxes, min_iou)
            if good.any():
                chosen: Array = crops[good.argmax()]
                return chosen
        return canvas


def _good_crops(crops: Array, boxes: Array, min_iou: float) -> Array:
    """Which crops hold the centre of a box that they overlap by at least ``min_iou``."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    held = ((centres > crops[:, None, :2]) & (centres < crops[:, None, 2:])).all(axis=2)
    sides = np.minimum(crops[:, None, 2:], boxes[:, 2:]) - np.maximum(crops[:, None, :2], boxes[:, :2])
    overlap = sides.clip(min=0).prod(axis=2)
    union = (crops[:, 2:] - crops[:, :2]).prod(axis=1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - overlap
    return np.asarray(np.logical_or.reduce(held & (overlap / union >= min_iou), axis=1))


def ssd_train(
    *,
    size: tuple[int, int],
    min_side: float = 0.3,
    zoom_out: float = 0.5,
    max_zoom: float = 4.0,
    flip: float = 0.5,
    colour: bool = True,
    fit: Fit = "stretch",
) -> TrainTransform:
    """SSD's training pipeline: crop and zoom-out, flip, colours. ``fit`` is the evaluation's."""
    if fit == "crop":
        raise ConfigError("transform.train.fit=crop: SSD's crops keep their boxes; say stretch, letterbox or native")
    for name, value in (("zoom_out", zoom_out), ("flip", flip)):
        if not 0 <= value <= 1:
            raise ConfigError(f"transform.train.{name}={value}: a probability is in 0..1")
    if max_zoom < 1 or not 0 < min_side <= 1:
        raise ConfigError(f"transform.train: max_zoom={max_zoom} must be at least 1, min_side={min_side} in 0..1")
    crop = SSDCrop(size=size, min_side=min_side, zoom_out=zoom_out, max_zoom=max_zoom, fit=fit)
    steps: list[A.BasicTransform] = [crop]
    if flip:
        steps.append(A.HorizontalFlip(p=flip))
    if colour:
        steps.append(ColourDistortion())
    return TrainTransform(steps=steps)
