"""How an image fills the network's input, in training as in evaluation."""

from typing import Any, Literal, get_args

import numpy as np

from mbvision.errors import ConfigError

Fit = Literal["stretch", "letterbox", "native", "crop"]


def fit_scale(picture: tuple[float, float], size: tuple[int, int], fit: Fit) -> tuple[float, float]:
    """The scales (x, y) that bring an image (height, width) to an input of ``size`` (height, width).

    ``stretch`` fills the input, as the SSDLite papers do; ``letterbox`` keeps the ratio of the sides; ``native`` keeps
    the image's own pixels, and shrinks one that is too large as ``letterbox`` does; ``crop`` keeps the ratio and
    covers the input. Raises ConfigError for others.
    """
    if fit not in get_args(Fit):
        raise ConfigError(f"fit={fit}: choose {', '.join(get_args(Fit))}")
    y, x = size[0] / picture[0], size[1] / picture[1]
    if fit == "stretch":
        return x, y
    if fit == "crop":
        return max(x, y), max(x, y)
    ratio = min(x, y) if fit == "letterbox" else min(x, y, 1.0)
    return ratio, ratio


def fitted(
    window: np.ndarray[Any, Any], picture: tuple[int, int], size: tuple[int, int], fit: Fit
) -> np.ndarray[Any, Any]:
    """A window ``x1 y1 x2 y2`` of an image, enlarged to what the input shows when the window is fitted to it.

    The window is relative to the image (height, width). Evaluation puts an image top left and fills the input at the
    right and the bottom; there the enlarged window shows what the image has beside it.
    """
    if fit == "stretch":
        return window
    height, width = (window[3] - window[1]) * picture[0], (window[2] - window[0]) * picture[1]
    x, y = fit_scale((height, width), size, fit)
    sides = np.array([size[1] / (x * picture[1]), size[0] / (y * picture[0])])
    return np.concatenate([window[:2], window[:2] + sides])
