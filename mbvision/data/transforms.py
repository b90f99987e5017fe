"""From a sample on disk to a network's input: albumentations pipelines, and SSD's crop and colours in its terms.

The only module that imports albumentations. Nothing here is random by itself: the caller passes each sample's seed.
"""

import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from mbvision.errors import ConfigError
from mbvision.structures import Geometry, Sample, Target

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the package index for news at import

import albumentations as A

Array = np.ndarray[Any, Any]
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in grey: ITU-R BT.601."""
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], dtype=np.float32)
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ).astype(np.float32)


class SSDCrop(A.DualTransform):
    """SSD's random crop and zoom-out (arXiv:1512.02325, sections 2.2 and 3.6), resized to the input in one step.

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
        fill: tuple[int, int, int] = (124, 116, 104),
        trials: int = 40,
    ) -> None:
        super().__init__(p=1.0)
        self.size, self.min_ious, self.min_side = size, tuple(min_ious), min_side
        self.zoom_out, self.max_zoom, self.fill, self.trials = zoom_out, max_zoom, fill, trials

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the window: ``x1 y1 x2 y2`` relative to the picture, outside 0..1 where it was zoomed out."""
        random = self.random_generator
        canvas = np.array([0.0, 0.0, 1.0, 1.0])
        if random.random() < self.zoom_out:
            ratio = random.uniform(1.0, self.max_zoom)
            left, top = random.uniform(0, ratio - 1, size=2)
            canvas = np.array([-left, -top, ratio - left, ratio - top])
        boxes = np.asarray(data["bboxes"], dtype=np.float64)[:, :4].reshape(-1, 4)
        return {"window": self._draw_crop(canvas, boxes)}

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

    def apply(self, img: Array, window: Array, **params: Any) -> Array:
        """Cut, resize and pad the picture."""
        return _cut(img, window, self.size, self.fill)

    def apply_to_bboxes(self, bboxes: Array, window: Array, **params: Any) -> Array:
        """Keep the boxes whose centre is inside, cut to the window."""
        centres = (bboxes[:, :2] + bboxes[:, 2:4]) / 2
        kept = bboxes[((centres > window[:2]) & (centres < window[2:])).all(axis=1)].copy()
        sides = np.tile(window[2:] - window[:2], 2)
        kept[:, :4] = ((kept[:, :4] - np.tile(window[:2], 2)) / sides).clip(0, 1)
        return kept


def _good_crops(crops: Array, boxes: Array, min_iou: float) -> Array:
    """Which crops hold the centre of a box that they overlap by at least ``min_iou``."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    held = ((centres > crops[:, None, :2]) & (centres < crops[:, None, 2:])).all(axis=2)
    sides = np.minimum(crops[:, None, 2:], boxes[:, 2:]) - np.maximum(crops[:, None, :2], boxes[:, :2])
    overlap = sides.clip(min=0).prod(axis=2)
    union = (crops[:, 2:] - crops[:, :2]).prod(axis=1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - overlap
    return np.asarray(np.logical_or.reduce(held & (overlap / union >= min_iou), axis=1))


def _cut(image: Array, window: Array, size: tuple[int, int], fill: tuple[int, int, int]) -> Array:
    """The window of the picture at the wanted (height, width); what lies outside the picture is filled."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = window * (width, height, width, height)
    # Even of a picture one pixel wide, or one that a far zoom makes smaller than a pixel, something is left.
    left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
    right, bottom = max(min(round(x2), width), left + 1), max(min(round(y2), height), top + 1)
    scale_x, scale_y = size[1] / (x2 - x1), size[0] / (y2 - y1)
    to_left = min(max(round((left - x1) * scale_x), 0), size[1] - 1)
    to_top = min(max(round((top - y1) * scale_y), 0), size[0] - 1)
    to_right = min(max(round((right - x1) * scale_x), to_left + 1), size[1])
    to_bottom = min(max(round((bottom - y1) * scale_y), to_top + 1), size[0])
    piece = resize(image[top:bottom, left:right], (to_bottom - to_top, to_right - to_left))
    if piece.shape[:2] == size:
        return piece
    canvas = np.empty((*size, 3), dtype=np.uint8)
    canvas[:] = fill
    canvas[to_top:to_bottom, to_left:to_right] = piece
    return canvas


class ColourDistortion(A.ImageOnlyTransform):
    """Brightness, contrast, saturation and hue as one affine map of the colours, each drawn with probability one half.

    SSD's photometric distortion; the hue turns in YIQ rather than HSV, so that all four are one 3x4 matrix.
    ``hue`` is in turns; the other three scale by 1 - x to 1 + x.
    """

    def __init__(
        self, *, brightness: float = 0.125, contrast: float = 0.5, saturation: float = 0.5, hue: float = 0.05
    ) -> None:
        super().__init__(p=1.0)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def get_params(self) -> dict[str, Any]:
        """Draw the matrix."""
        random = self.random_generator
        draws = random.uniform(-1.0, 1.0, size=4) * (random.random(4) < 0.5)
        contrast = 1 + self.contrast * draws[1]
        saturation = 1 + self.saturation * draws[2]
        angle = 2 * np.pi * self.hue * draws[3]
        turn = np.eye(3, dtype=np.float32)
        turn[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix = YIQ_TO_RGB @ turn @ RGB_TO_YIQ
        matrix = (saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1))) @ matrix
        offset = 255 * (self.brightness * draws[0]) + 127.5 * (1 - contrast)
        return {"matrix": np.concatenate([contrast * matrix, np.full((3, 1), offset)], axis=1).astype(np.float32)}

    def apply(self, img: Array, matrix: Array, **params: Any) -> Array:
        """Map every pixel; values are rounded and cut to 0..255."""
        return cv2.transform(img, matrix)


def resize(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to (height, width): bilinear, but by area where a side shrinks to under half, so that nothing aliases."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    shrinks = size[0] * 2 < height or size[1] * 2 < width
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


class TrainTransform:
    """An albumentations pipeline over image and boxes, seeded for each sample."""

    def __init__(self, *, steps: Sequence[A.BasicTransform]) -> None:
        boxes = A.BboxParams(format="pascal_voc", label_fields=["labels"], check_each_transform=False)
        self.pipeline = A.Compose(list(steps), bbox_params=boxes)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The augmented sample; the same sample and seed give the same result."""
        target = sample.target
        self.pipeline.set_random_seed(seed)
        boxes, labels = _arrays(target)
        out = self.pipeline(image=sample.image, bboxes=boxes, labels=labels)
        new = np.asarray(out["bboxes"], dtype=np.float32).reshape(-1, 4)
        kept = ((new[:, 2:] - new[:, :2]) >= 1.0).all(axis=1)
        annotated = target.boxes is not None
        return Sample(
            image=np.ascontiguousarray(out["image"]),
            path=sample.path,
            target=Target(
                image_id=target.image_id,
                geometry=target.geometry,
                boxes=torch.from_numpy(new[kept]) if annotated else None,
                box_labels=torch.from_numpy(np.asarray(out["labels"], dtype=np.int64)[kept]) if annotated else None,
            ),
        )


def _arrays(target: Target) -> tuple[Float[np.ndarray, "N 4"], Array]:
    if target.boxes is None or target.box_labels is None:
        return np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
    return target.boxes.numpy(), target.box_labels.numpy()


class ResizeTransform:
    """The evaluation transform: stretch to the network's input (height, width), as the SSDLite papers do."""

    def __init__(self, *, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The resized sample; the seed plays no part."""
        height, width = sample.image.shape[:2]
        scale = (self.size[1] / width, self.size[0] / height)
        target = sample.target
        return Sample(
            image=resize(sample.image, self.size),
            path=sample.path,
            target=Target(
                image_id=target.image_id,
                geometry=Geometry(original=(height, width), scale=scale),
                boxes=None if target.boxes is None else target.boxes * target.boxes.new_tensor(scale * 2),
                box_labels=target.box_labels,
            ),
        )


def ssd_train(
    *,
    size: tuple[int, int],
    min_side: float = 0.3,
    zoom_out: float = 0.5,
    max_zoom: float = 4.0,
    flip: float = 0.5,
    colour: bool = True,
) -> TrainTransform:
    """SSD's training pipeline: crop and zoom-out, flip, colours."""
    for name, value in (("zoom_out", zoom_out), ("flip", flip)):
        if not 0 <= value <= 1:
            raise ConfigError(f"transform.train.{name}={value}: a probability is in 0..1")
    if max_zoom < 1 or not 0 < min_side <= 1:
        raise ConfigError(f"transform.train: max_zoom={max_zoom} must be at least 1, min_side={min_side} in 0..1")
    steps: list[A.BasicTransform] = [SSDCrop(size=size, min_side=min_side, zoom_out=zoom_out, max_zoom=max_zoom)]
    if flip:
        steps.append(A.HorizontalFlip(p=flip))
    if colour:
        steps.append(ColourDistortion())
    return TrainTransform(steps=steps)
