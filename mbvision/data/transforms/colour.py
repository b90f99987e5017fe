"""Brightness, contrast, saturation and hue."""

from typing import Any

import cv2
import numpy as np

from mbvision.data.transforms.library import A

Array = np.ndarray[Any, Any]
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in grey: ITU-R BT.601."""
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], dtype=np.float32)
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ).astype(np.float32)


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
