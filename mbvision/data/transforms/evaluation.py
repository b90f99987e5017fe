"""The evaluation transform: one picture to the network's input, nothing random."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mbvision.data.transforms.fit import Fit, fit_scale
from mbvision.data.transforms.window import FILL, cut, resize
from mbvision.errors import ConfigError
from mbvision.structures import IGNORE, Geometry, Sample

CROP_FRACTION = 0.875
"""224 of 256 pixels, on which MobileNets are scored: research/slim's central fraction, torchvision's first weights."""


def fit_image(
    image: UInt8[np.ndarray, "H W 3"],
    size: tuple[int, int],
    fit: Fit = "stretch",
    crop_fraction: float = CROP_FRACTION,
) -> tuple[UInt8[np.ndarray, "h w 3"], Geometry]:
    """The picture as the network's input, and how it lies in it: top left, filled at the right and the bottom.

    ``crop_fraction`` (above 0, at most 1) is for ``crop`` alone, see `centre_crop`.
    """
    original = (image.shape[0], image.shape[1])
    if fit == "crop":
        return centre_crop(image, size, crop_fraction)
    if fit == "stretch":
        x, y = fit_scale(original, size, fit)
        return resize(image, size), Geometry(original=original, scale=(x, y))
    ratio = fit_scale(original, size, fit)[0]
    height = min(max(round(original[0] * ratio), 1), size[0])
    width = min(max(round(original[1] * ratio), 1), size[1])
    canvas = np.empty((*size, 3), dtype=np.uint8)
    canvas[:] = FILL
    canvas[:height, :width] = resize(image, (height, width))
    return canvas, Geometry(original=original, scale=(width / original[1], height / original[0]))


def centre_crop(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], crop_fraction: float = CROP_FRACTION
) -> tuple[UInt8[np.ndarray, "h w 3"], Geometry]:
    """The centre of the picture, once it just covers ``size / crop_fraction``; nothing is filled.

    Pixel for pixel what torchvision's classifiers are scored on: 256 for the shorter side, then 224 x 224.
    """
    height, width = image.shape[:2]
    least_height, least_width = (round(side / crop_fraction) for side in size)
    if least_height * width >= least_width * height:
        new_height, new_width = least_height, least_height * width // height
    else:
        new_height, new_width = least_width * height // width, least_width
    if (new_height, new_width) != (height, width):
        resized = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    top, left = round((new_height - size[0]) / 2), round((new_width - size[1]) / 2)
    geometry = Geometry(
        original=(height, width), scale=(new_width / width, new_height / height), offset=(-float(left), -float(top))
    )
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]]), geometry


class ResizeTransform:
    """Fits each image to the input ``size`` (height, width), and its boxes with it.

    The mask stays as it is, since masks are scored at the image's own size; with ``fit_mask`` it is fitted too, to
    train on. ``crop_fraction`` is that of ``fit="crop"``, see `centre_crop`.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        fit: Fit = "stretch",
        crop_fraction: float = CROP_FRACTION,
        fit_mask: bool = False,
    ) -> None:
        fit_scale(size, size, fit)
        if not 0 < crop_fraction <= 1:
            raise ConfigError(f"crop_fraction={crop_fraction}: give a share of the image above 0, at most 1")
        self.size, self.fit, self.crop_fraction, self.fit_mask = size, fit, crop_fraction, fit_mask

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The fitted sample; the seed plays no part."""
        image, geometry = fit_image(sample.image, self.size, self.fit, self.crop_fraction)
        boxes, mask = sample.target.boxes, sample.target.mask
        if boxes is not None:
            boxes = boxes * boxes.new_tensor(geometry.scale * 2) + boxes.new_tensor(geometry.offset * 2)
        if mask is not None and self.fit_mask:
            mask = self._fitted(mask, geometry)
        return replace(sample, image=image, target=replace(sample.target, geometry=geometry, boxes=boxes, mask=mask))

    def _fitted(self, mask: Tensor, geometry: Geometry) -> Tensor:
        start = -np.array(geometry.offset) / geometry.scale
        window = np.concatenate([start, start + np.array(self.size[::-1]) / geometry.scale])
        sides = np.tile(geometry.original[::-1], 2)
        return torch.from_numpy(np.ascontiguousarray(cut(mask.numpy(), window / sides, self.size, IGNORE)))


class NativeTransform:
    """Leaves each picture as it is: for batches of one, and networks that cut windows themselves."""

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The sample; the seed plays no part."""
        return sample
