"""The evaluation transform: one picture to the network's input, nothing random."""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8

from mbvision.data.transforms.window import FILL, resize
from mbvision.errors import ConfigError
from mbvision.structures import Geometry, Sample

Fit = Literal["stretch", "letterbox", "native"]


def fit_scale(picture: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[float, float]:
    """The scales (x, y) that bring a picture (height, width) to an input of ``size`` (height, width).

    ``stretch`` fills the input, as the SSDLite papers do; ``letterbox`` keeps the ratio of the sides; ``native`` keeps
    the picture's own pixels, and shrinks one that is too large as ``letterbox`` does. Raises ConfigError for others.
    """
    if fit not in get_args(Fit):
        raise ConfigError(f"fit={fit}: choose {', '.join(get_args(Fit))}")
    y, x = size[0] / picture[0], size[1] / picture[1]
    if fit == "stretch":
        return x, y
    ratio = min(x, y) if fit == "letterbox" else min(x, y, 1.0)
    return ratio, ratio


def fit_image(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], fit: Fit = "stretch"
) -> tuple[UInt8[np.ndarray, "h w 3"], Geometry]:
    """The picture as the network's input, and how it lies in it: top left, filled at the right and the bottom."""
    original = (image.shape[0], image.shape[1])
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


class ResizeTransform:
    """Fits each picture to the input ``size`` (height, width), and its boxes with it; the mask stays as it is.

    Masks are scored at the picture's own size.
    """

    def __init__(self, *, size: tuple[int, int], fit: Fit = "stretch") -> None:
        fit_scale(size, size, fit)
        self.size, self.fit = size, fit

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The fitted sample; the seed plays no part."""
        image, geometry = fit_image(sample.image, self.size, self.fit)
        boxes = sample.target.boxes
        if boxes is not None:
            boxes = boxes * boxes.new_tensor(geometry.scale * 2)
        return replace(sample, image=image, target=replace(sample.target, geometry=geometry, boxes=boxes))


class NativeTransform:
    """Leaves each picture as it is: for batches of one, and networks that cut windows themselves."""

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """The sample; the seed plays no part."""
        return sample
