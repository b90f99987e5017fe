"""A window of the image, fitted to the network's input in one step: what random crops and zooms have in common."""

from abc import abstractmethod
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from mbvision.data.transforms.fit import Fit, fitted
from mbvision.data.transforms.library import A
from mbvision.structures import IGNORE

Array = np.ndarray[Any, Any]
FILL = (124, 116, 104)
"""The colour around a picture that does not fill the input: ImageNet's mean, near 0 once it is normalised."""


class Window(A.DualTransform):
    """Cuts the window that ``draw`` gives out of image, mask and boxes, and fits it to ``size`` (height, width).

    The window is fitted as evaluation fits a whole image, see `fitted`. What lies outside the image becomes `FILL`, and
    255 (ignore) in the mask. Boxes whose centre lies outside the window are dropped, the others cut to it. Only kept
    pixels are resized.
    """

    def __init__(self, *, size: tuple[int, int], fit: Fit = "stretch") -> None:
        super().__init__(p=1.0)
        self.size, self.fit = size, fit

    @abstractmethod
    def draw(self, picture: tuple[int, int], boxes: Array) -> Array:
        """A random window ``x1 y1 x2 y2`` relative to the picture (height, width in pixels), as ``boxes`` are."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the window."""
        boxes = np.asarray(data["bboxes"], dtype=np.float64)[:, :4] if len(data.get("bboxes", ())) else np.zeros((0, 4))
        picture = data["image"].shape[:2]
        return {"window": fitted(self.draw(picture, boxes), picture, self.size, self.fit)}

    def apply(self, img: Array, window: Array, **params: Any) -> Array:
        """Cut, resize and pad the picture."""
        return cut(img, window, self.size, FILL)

    def apply_to_mask(self, mask: Array, window: Array, **params: Any) -> Array:
        """Cut, resize and pad the mask."""
        return cut(mask, window, self.size, IGNORE)

    def apply_to_bboxes(self, bboxes: Array, window: Array, **params: Any) -> Array:
        """Keep the boxes whose centre is inside, cut to the window."""
        centres = (bboxes[:, :2] + bboxes[:, 2:4]) / 2
        kept = bboxes[((centres > window[:2]) & (centres < window[2:])).all(axis=1)].copy()
        sides = np.tile(window[2:] - window[:2], 2)
        kept[:, :4] = ((kept[:, :4] - np.tile(window[:2], 2)) / sides).clip(0, 1)
        return kept


def cut(image: Array, window: Array, size: tuple[int, int], fill: int | tuple[int, int, int]) -> Array:
    """The window of a picture, or of a mask, at the wanted (height, width); what lies outside of it is filled."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = window * (width, height, width, height)
    # Even of a picture one pixel wide, or one that a far zoom makes smaller than a pixel, something is left.
    left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
    right, bottom = max(min(round(x2), width), left + 1), max(min(round(y2), height), top + 1)
    scale_x, scale_y = size[1] / (x2 - x1), size[0] / (y2 - y1)
    # A window that begins within the picture begins within a pixel: half of one is no reason for a border of filling.
    to_left = min(max(round(-x1 * scale_x), 0), size[1] - 1)
    to_top = min(max(round(-y1 * scale_y), 0), size[0] - 1)
    to_right = max(size[1] - max(round((x2 - width) * scale_x), 0), to_left + 1)
    to_bottom = max(size[0] - max(round((y2 - height) * scale_y), 0), to_top + 1)
    shrink = resize if image.ndim == 3 else resize_mask
    piece = shrink(image[top:bottom, left:right], (to_bottom - to_top, to_right - to_left))
    if piece.shape[:2] == size:
        return piece
    canvas = np.empty((*size, *image.shape[2:]), dtype=np.uint8)
    canvas[:] = fill
    canvas[to_top:to_bottom, to_left:to_right] = piece
    return canvas


def resize(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to (height, width): bilinear, but by area where a side shrinks to under half, so that nothing aliases."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    shrinks = size[0] * 2 < height or size[1] * 2 < width
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_mask(mask: UInt8[np.ndarray, "H W"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """Resize labels to (height, width): each pixel takes the label at its centre."""
    return mask if mask.shape == size else cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
